"""Allocators: channels kept of each space for a target. One a file."""
