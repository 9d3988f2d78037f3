"""Choose how many coordinates of each space to keep within a budget."""
