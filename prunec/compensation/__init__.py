"""Refit the weights of a pruned network to the outputs of the dense one."""
