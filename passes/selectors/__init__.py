"""Selectors: nested removal orders of the channels of a space. One a file."""
