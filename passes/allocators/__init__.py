"""Allocators: how many channels of each space stay, for a target. One a file."""
