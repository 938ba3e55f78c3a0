"""Permutation tests, corrections for many voxels, clusters and tables of them."""
