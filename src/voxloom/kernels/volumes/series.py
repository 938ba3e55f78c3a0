"""Series of voxels out of volumes: the two passes over every value of a run that NumPy makes several of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba as nb
import numpy as np

from voxloom.kernels.noise.lag_sums import REASSOCIATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


@nb.njit(nogil=True, cache=True)
def pick(volume: NDArray[Any], source: NDArray[np.uintp], place: NDArray[np.uintp], row: NDArray[Any]) -> None:
    """Set ``row[place[k]] = volume[source[k]]`` for every k; nothing is checked.

    In half the time of `numpy.take` where `source` ascends: the volume is read from its beginning to its end, and what
    is written here and there is the row alone, which stays in cache.

    Parameters
    ----------
    volume : (N,) array
    source, place : (V,) array of unsigned int
        Below N and below V.
    row : (V,) array
        Of the volume's dtype; filled.
    """
    for k in range(source.size):
        row[place[k]] = volume[source[k]]


@nb.njit(nogil=True, cache=True, fastmath=REASSOCIATE)
def moments(series: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Mean and variance (divisor T) of every row of (V, T) numbers, in float64: (V,), (V,).

    A row is still in the first cache when it is summed again: an eighth of the time of NumPy's passes over a block.
    """
    n, n_times = series.shape
    mean, variance = np.empty(n), np.empty(n)
    for v in range(n):
        total = 0.0
        for t in range(n_times):
            total += series[v, t]
        m = total / n_times
        squares = 0.0
        for t in range(n_times):
            squares += (series[v, t] - m) ** 2
        mean[v], variance[v] = m, squares / n_times
    return mean, variance
