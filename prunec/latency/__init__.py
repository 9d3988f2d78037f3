"""Use milliseconds as a cost: measured tables of layer times, and targets in ms."""
