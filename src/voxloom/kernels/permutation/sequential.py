"""Counts that stop: rearrangements of a voxel are done until enough of them reach its statistic."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


class Counts(NamedTuple):
    """Of every voxel, each (V,) of int64.

    Attributes
    ----------
    reached : array
        Rearrangements that reached its statistic.
    used : array
        Rearrangements until it stopped, the one that stopped it included.
    """

    reached: NDArray[np.int64]
    used: NDArray[np.int64]


def advance(counts: Counts, stat: FloatArray, bar: FloatArray, stop_at: int) -> None:
    """Go on counting, in place, with rearranged statistics (P, V) in their order.

    A voxel stops for good where `stop_at` of them have been at least its bar (V,): what comes in one call or in many
    gives the same counts.
    """
    _advance(counts.reached, counts.used, stat, bar, stop_at)


@nb.njit(nogil=True, cache=True)
def _advance(
    reached: NDArray[np.int64], used: NDArray[np.int64], stat: FloatArray, bar: FloatArray, stop_at: int
) -> None:
    for p in range(len(stat)):
        for v in range(bar.size):
            if reached[v] < stop_at:
                used[v] += 1
                reached[v] += stat[p, v] >= bar[v]


def sequential_p(counts: Counts, stop_at: int) -> FloatArray:
    """Besag and Clifford's (1991) p: h / l where the h-th that reached was number l, else (b + 1) / (m + 1).

    It keeps its level exactly and is never 0; h / l is (b + 1) / (m + 1) of the l - 1 before the last. Without bias
    for the share of rearrangements that reach the statistic is (h - 1) / (l - 1).
    """
    stopped = counts.reached >= stop_at
    return (counts.reached + ~stopped) / (counts.used + ~stopped)
