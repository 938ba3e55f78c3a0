"""Generalised least squares at any rho of a fixed grid, from lag sums.

In the basis of `LagDesign`, ``W(rho) = Q'D(rho)Q = diag(1 + rho^2 - rho a) - rho^2 Z'Z``, so with d the
inverse of the diagonal and ``LL' = I - rho^2 Z d Z'`` its inverse is ``d + H'H``, ``H = rho L^-1 Z d``
(Woodbury). OLS residuals R have ``Q'DR = -rho (l + rho Z'e)``, l and e as in `LagSums`. With ``y = H l + L^-1
e`` the ends drop out::

    gamma = gamma_ols - rho (d l + H'y)
    rss = (1 + rho^2) R'R - rho R'NR - rho^2 (R'ER - e'e + l'd l + y'y)

which costs O(r m) per voxel and rho, m of 2 for a run without gaps, in place of O(r^2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.lag_sums import REASSOCIATE, LagSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.lags import LagDesign

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Values rho can take. A step of 0.01 is a tenth of the standard error of rho at 150 volumes.
RHO_GRID: FloatArray = np.arange(-99, 100) / 100


def grid_index(rho: FloatArray) -> IntArray:
    """Index of the value of `RHO_GRID` nearest to each rho (0 for NaN)."""
    index = np.rint(np.nan_to_num(rho, nan=-1.0) * 100).astype(np.int64) + 99
    return np.clip(index, 0, RHO_GRID.size - 1)


class GridInverse(NamedTuple):
    """``W(rho)^-1`` for every rho of the grid.

    Attributes
    ----------
    diagonal : (G, r) array
        d.
    factor : (G, m, r + m) array
        ``[H, L^-1]``, which takes ``cross`` of `LagSums` to y.
    log_det : (G,) array
        ``log|W(rho)|``.
    """

    diagonal: FloatArray
    factor: FloatArray
    log_det: FloatArray


def grid_inverse(design: LagDesign) -> GridInverse:
    """Invert ``W(rho)`` at every value of `RHO_GRID`."""
    Z, rho = design.ends, RHO_GRID[:, None]
    diagonal = 1.0 / (1.0 + rho**2 - rho * design.eigenvalues)
    scaled = (rho * diagonal)[:, None, :] * Z
    inner = np.eye(len(Z)) - rho[:, :, None] * (scaled @ Z.T)
    L = np.linalg.cholesky((inner + inner.swapaxes(1, 2)) / 2)
    L_inverse = np.linalg.inv(L)
    log_det = 2 * np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1) - np.log(diagonal).sum(axis=1)
    return GridInverse(diagonal, np.concatenate([L_inverse @ scaled, L_inverse], axis=2), log_det)


def solve_on_grid(sums: LagSums, inverse: GridInverse, index: IntArray) -> FloatArray:
    """Move ``sums.gamma`` in place from OLS to GLS at ``RHO_GRID[index]``; returns the whitened rss (n,)."""
    return np.asarray(_solve(sums.gamma, sums.cross, sums.ss, inverse.diagonal, inverse.factor, index))


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _solve(
    gamma: FloatArray,
    cross: FloatArray,
    ss: FloatArray,
    diagonal: FloatArray,
    factor: FloatArray,
    index: IntArray,
) -> FloatArray:
    n, r = gamma.shape
    rss = np.empty(n)
    for v in range(n):
        g = index[v]
        rho, explained = RHO_GRID[g], ss[v, 2]
        for k in range(r):  # a sum and a store apart: see `kernels.lag_sums`
            explained += diagonal[g, k] * cross[v, k] * cross[v, k]
        for k in range(r):
            gamma[v, k] -= rho * diagonal[g, k] * cross[v, k]
        for j in range(factor.shape[1]):
            y = 0.0
            for k in range(factor.shape[2]):
                y += factor[g, j, k] * cross[v, k]
            explained += y * y
            for k in range(r):
                gamma[v, k] -= rho * y * factor[g, j, k]
        rss[v] = (1.0 + rho * rho) * ss[v, 0] - rho * ss[v, 1] - rho * rho * explained
    return rss
