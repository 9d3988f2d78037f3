"""Read passes and strategies from text, and find their classes by file."""
