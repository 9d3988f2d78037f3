"""Decomposers: ways to factor a layer into two of lower rank. One a file."""
