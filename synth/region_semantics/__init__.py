"""Fast-RSPer: pictures that keep the meaning of a reference region (Liu, Fu and Wu 2018), and what it is compared with."""
