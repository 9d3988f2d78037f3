"""Estimate, without labels, the error of a compressed network on unseen images."""
