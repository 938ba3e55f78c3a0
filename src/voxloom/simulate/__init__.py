"""Simulated data with known truth, for tests, the demo, benchmarks and notebooks."""

from voxloom.simulate.bold import simulate_bold, smooth_normal
from voxloom.simulate.phantom import BLOBS, CONDITIONS, Blob, Phantom, active, effect_maps, head
from voxloom.simulate.recovery import Recovery, recovery
from voxloom.simulate.study import write_bids_study
from voxloom.simulate.truth import Truth, read_truth

__all__ = [
    "BLOBS",
    "CONDITIONS",
    "Blob",
    "Phantom",
    "Recovery",
    "Truth",
    "active",
    "effect_maps",
    "head",
    "read_truth",
    "recovery",
    "simulate_bold",
    "smooth_normal",
    "write_bids_study",
]
