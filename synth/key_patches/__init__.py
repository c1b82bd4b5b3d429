"""A whole picture from a few key local patches (Lee et al. 2018)."""
