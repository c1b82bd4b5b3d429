"""Fast-RSPer (Liu et al. 2018): pictures that keep what a region of a reference means, and what it is compared with."""
