"""Channel analysis: which coordinates of which parameters stand or fall together, and why some may not fall."""
