"""Solve least squares and low rank on tensors; pure functions in float64."""
