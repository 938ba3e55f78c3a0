"""Extremes of a row of float32 in many lanes at once, at the speed of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ScreenArray = NDArray[np.float32]

#: A row of the product is folded to this many running extremes, four values a step: element v is in lane v %
#: LANES. One running value would be a chain of scalar comparisons (0.54 ns a voxel; 0.12 ns so).
LANES = 64
FOLD = 4 * LANES
HUGE = np.float32(3e38)  # finite, as MINMAX promises
# what lets max and min become vector instructions; sums keep their order
MINMAX = {"nnan", "ninf", "nsz"}


@nb.njit(nogil=True, cache=True, fastmath=MINMAX)
def fold(h: ScreenArray, top: ScreenArray, bottom: ScreenArray) -> None:
    """Greatest and least value of h in every lane; h is a whole number of folds long."""
    top[:] = -HUGE
    bottom[:] = HUGE
    for v in range(0, h.size, FOLD):
        a, b, c, d = (
            h[v : v + LANES],
            h[v + LANES : v + 2 * LANES],
            h[v + 2 * LANES : v + 3 * LANES],
            h[v + 3 * LANES : v + FOLD],
        )
        for k in range(LANES):
            top[k] = max(top[k], max(max(a[k], b[k]), max(c[k], d[k])))
            bottom[k] = min(bottom[k], min(min(a[k], b[k]), min(c[k], d[k])))


@nb.njit(nogil=True, cache=True, fastmath=MINMAX)
def lowest(lanes: ScreenArray) -> float:
    """Least of the lanes, which are overwritten."""
    quarter = LANES // 4
    for k in range(quarter):
        rest = min(lanes[k + quarter], min(lanes[k + 2 * quarter], lanes[k + 3 * quarter]))
        lanes[k] = min(lanes[k], rest)
    least = lanes[0]
    for k in range(1, quarter):
        least = min(least, lanes[k])
    return float(least)


@nb.njit(nogil=True, cache=True)
def reaches(lanes: ScreenArray, bar: float) -> bool:
    """Whether any lane is at least `bar`; a count, because counts become vector instructions."""
    height, count = np.float32(bar), 0
    for k in range(LANES):
        count += lanes[k] >= height
    return count > 0
