"""Load networks in every form and capture them as graphs."""
