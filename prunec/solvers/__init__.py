"""Solve least squares and low rank in float64, by pure functions."""
