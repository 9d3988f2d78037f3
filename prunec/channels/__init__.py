"""Channel analysis: coupled channels of all parameters, and why some are frozen."""
