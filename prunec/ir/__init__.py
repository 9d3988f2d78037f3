"""Represent a captured network: its graph, its signature, and the facts known about it."""
