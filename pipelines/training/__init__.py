"""Training: data sets made of a bank, one task a network, one loop for all."""
