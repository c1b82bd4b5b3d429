"""Filling a region of a picture from the picture around it, without a trained network."""
