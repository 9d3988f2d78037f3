"""Read images and other inputs, and turn them into tensors that a network takes."""
