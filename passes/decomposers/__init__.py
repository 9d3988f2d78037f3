"""Decomposers: how a layer becomes two of lower rank. One a file."""
