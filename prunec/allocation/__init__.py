"""Choose how many coordinates of each space stay within a budget."""
