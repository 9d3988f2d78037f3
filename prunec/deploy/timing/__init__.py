"""What a benchmark is made of: opened models, runs in turn, statistics, metrics, the machine."""
