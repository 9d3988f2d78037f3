"""Compensators: refits of the kept layers for the removed channels. One a file."""
