"""Benchmark models: open them, run them in turn, and report statistics, metrics and the machine."""
