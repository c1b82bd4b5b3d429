"""Photographs with label maps in, segments out."""
