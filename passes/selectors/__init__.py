"""Selectors: which channels of a space go, in a nested order. One a file."""
