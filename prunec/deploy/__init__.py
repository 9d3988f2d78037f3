"""Deploy a Program: files for engines, proof of equality, and timing."""
