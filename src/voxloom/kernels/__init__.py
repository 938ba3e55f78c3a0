"""Statistics on arrays, voxel axis last: NumPy, SciPy and numba only."""

from voxloom.kernels.compiled import claim_folder

claim_folder()
