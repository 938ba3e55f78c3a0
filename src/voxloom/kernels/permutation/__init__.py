"""Rearrangements of maps and what each makes of a voxel."""
