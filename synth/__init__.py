"""Segments in, photographs out."""
