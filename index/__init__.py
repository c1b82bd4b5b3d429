"""Layouts in, the segments of the bank that fit them best out."""
