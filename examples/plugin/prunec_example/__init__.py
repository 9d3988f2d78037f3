"""A criterion and a pass that prunec finds by the entry points of this package."""
