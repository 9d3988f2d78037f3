"""Propagate channel labels through operators, one family per file."""
