"""Studies in a store: their voxels, runs and fits."""
