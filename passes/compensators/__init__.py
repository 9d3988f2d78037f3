"""Compensators: how the layers that are left make up for what is gone. One a file."""
