"""From a Program to a file that an engine runs, and the proof that it is the same network, and how fast."""
