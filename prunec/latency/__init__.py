"""Milliseconds as a cost: tables of layer times, measured with the user's own engine, and targets in them."""
