"""Group models: kernels that fit a design over maps at every voxel, with any set of maps missing there."""
