"""Estimate, without labels, how a compressed network answers on other images."""
