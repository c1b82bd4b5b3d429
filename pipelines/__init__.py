"""Recipes: one file a command; paths first, then calls."""
