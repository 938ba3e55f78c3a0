"""Statistics on arrays, voxel axis last: NumPy, SciPy and numba only."""
