"""Generalised least squares at any rho of a fixed grid, from lag sums.

In the basis of `LagDesign`, ``W(rho) = Q'D(rho)Q = diag(1 + rho^2 - rho a) - rho^2 Z'Z`` with Z of as many
rows as ``Q'EQ`` has rank: 2 for a run without gaps, never more than r. So ``W^-1 = diag(d) + H'H``, and a fit
costs O(r m) per voxel and rho in place of O(r^2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np
from scipy.linalg import solve_triangular

from voxloom.kernels.lags import REASSOCIATE, LagDesign, LagSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Values rho can take. A step of 0.01 is a tenth of the standard error of rho at 150 volumes.
RHO_GRID: FloatArray = np.arange(-99, 100) / 100


def grid_index(rho: FloatArray) -> IntArray:
    """Index of the value of `RHO_GRID` nearest to each rho (0 for NaN)."""
    index = np.rint(np.nan_to_num(rho, nan=-1.0) * 100).astype(np.int64) + 99
    return np.clip(index, 0, RHO_GRID.size - 1)


class GridInverse(NamedTuple):
    """``W(rho)^-1 = diag(diagonal) + factor' factor`` for every rho of the grid.

    Attributes
    ----------
    diagonal : (G, r) array
    factor : (G, m, r) array
    log_det : (G,) array
        ``log|W(rho)|``.
    """

    diagonal: FloatArray
    factor: FloatArray
    log_det: FloatArray


def grid_inverse(design: LagDesign) -> GridInverse:
    """Invert ``W(rho)`` at every value of `RHO_GRID` (Woodbury)."""
    Z = _compress(design.edge)
    rho = RHO_GRID[:, None]
    diagonal = 1.0 / (1.0 + rho**2 - rho * design.eigenvalues)
    scaled = (rho * diagonal)[:, None, :] * Z
    inner = np.eye(Z.shape[0]) - rho[:, :, None] * (scaled @ Z.T)
    L = np.linalg.cholesky((inner + inner.swapaxes(1, 2)) / 2)
    factor = np.stack([solve_triangular(lower, rows, lower=True) for lower, rows in zip(L, scaled)])
    log_det = 2 * np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1) - np.log(diagonal).sum(axis=1)
    return GridInverse(diagonal, factor, log_det)


def _compress(Z: FloatArray) -> FloatArray:
    """Fewest rows with the same ``Z'Z``."""
    _, s, Vt = np.linalg.svd(Z, full_matrices=False)
    keep = s > 1e-12
    return np.ascontiguousarray(s[keep, None] * Vt[keep])


def solve_on_grid(sums: LagSums, inverse: GridInverse, index: IntArray) -> FloatArray:
    """Move ``sums.gamma`` in place from OLS to GLS at ``RHO_GRID[index]``; returns the whitened rss (n,)."""
    return np.asarray(
        _solve(sums.gamma, sums.lag, sums.end, sums.ss, inverse.diagonal, inverse.factor, index)
    )


@nb.njit(cache=True, fastmath=REASSOCIATE)
def whitened_rss(
    lag: FloatArray,
    end: FloatArray,
    ss: FloatArray,
    rho: float,
    diagonal: FloatArray,
    factor: FloatArray,
    moved: FloatArray,
) -> float:
    """Whitened rss of one voxel at rho: ``R'DR - b'W^-1 b`` with ``b = Q'DR = -rho (lag + rho end)``.

    The change of gamma from OLS is ``-rho (d * c + H'(H c))`` with ``c = lag + rho end``, left in `moved` as
    c.
    """
    explained = 0.0
    for k in range(lag.size):
        c = lag[k] + rho * end[k]
        moved[k] = c
        explained += diagonal[k] * c * c
    for j in range(factor.shape[0]):
        dot = 0.0
        for k in range(lag.size):
            dot += factor[j, k] * moved[k]
        explained += dot * dot
    return float((1.0 + rho * rho) * ss[0] - rho * ss[1] - rho * rho * (ss[2] + explained))


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _solve(
    gamma: FloatArray,
    lag: FloatArray,
    end: FloatArray,
    ss: FloatArray,
    diagonal: FloatArray,
    factor: FloatArray,
    index: IntArray,
) -> FloatArray:
    n, r = gamma.shape
    rss, c = np.empty(n), np.empty(r)
    for v in range(n):
        g = index[v]
        rho = RHO_GRID[g]
        rss[v] = whitened_rss(lag[v], end[v], ss[v], rho, diagonal[g], factor[g], c)
        for k in range(r):
            gamma[v, k] -= rho * diagonal[g, k] * c[k]
        for j in range(factor.shape[1]):
            dot = 0.0
            for k in range(r):
                dot += factor[g, j, k] * c[k]
            for k in range(r):
                gamma[v, k] -= rho * dot * factor[g, j, k]
    return rss
