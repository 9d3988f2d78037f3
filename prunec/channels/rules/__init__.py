"""Propagate channel labels through operators, one family of them a file."""
