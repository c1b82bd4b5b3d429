"""A whole image from a few local patches of it (Lee et al. 2018)."""
