"""Collect evidence on channels, and define the interfaces that rank them."""
