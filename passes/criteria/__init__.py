"""Criteria: importance scores of channels by themselves. One a file."""
