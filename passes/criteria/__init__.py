"""Criteria: how much each channel matters by itself. One a file."""
