"""Measurements behind the figures voxloom claims: ``python -m benchmarks [names]``."""
