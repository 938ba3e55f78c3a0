"""Noise with a memory: AR(1), AR(p) and ARMA(1, 1), their likelihoods and the sums that these need."""
