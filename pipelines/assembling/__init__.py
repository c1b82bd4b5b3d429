"""Whole pictures from a few patches: the network, where patches come from, and what is written."""
