"""Generalised least squares at any rho of a fixed grid, from lag sums.

In the basis of `LagDesign`, ``W(rho) = Q'D(rho)Q = diag(1 + rho^2 - rho a) - rho^2 Z'Z``, each row of Z times the root
of its f (`kernels.noise.segments`), so with d the inverse of the diagonal and ``LL' = I - rho^2 Z d Z'`` its inverse
is ``d + H'H``, ``H = rho L^-1 Z d`` (Woodbury). OLS residuals R have ``Q'DR = -rho (l + rho Z'e)``, l and e as in
`LagSums`, e times the same roots. With ``y = H l + L^-1 e`` the ends drop out::

    gamma = gamma_ols - rho (d l + H'y)
    rss = (1 + rho^2) R'R - rho R'NR - rho^2 (sum_g f_g (R'E_g R - e_g'e_g) + l'd l + y'y)

which costs O(r m) per voxel and rho, m of 2 for a run without gaps, in place of O(r^2). In a crowded design m is more
than r. There ``W = LL'``, ``H = L^-1``, ``y = L^-1 (l + rho Z'e)`` and d = 0 serve in the same places, with ``R'E_g R``
whole, for O(r (r + m)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.noise.lag_sums import REASSOCIATE, LagSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.noise.lags import LagDesign

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
    factor : (G, min(m, r), r + m) array
        H and what follows it: takes ``cross`` of `LagSums` to y.
    kinds : (G, g) array
        f of each kind of edge.
    log_det : (G,) array
        ``log|W(rho)|``.
    """

    diagonal: FloatArray
    factor: FloatArray
    kinds: FloatArray
    log_det: FloatArray


def grid_inverse(design: LagDesign) -> GridInverse:
    """Invert ``W(rho)`` at every value of `RHO_GRID`."""
    f = design.segments.edges.factors(RHO_GRID)
    diagonal, factor, log_det = (_whole if design.is_crowded else _woodbury)(design, f)
    return GridInverse(diagonal, factor, f, log_det)


def _woodbury(design: LagDesign, f: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """d, factor and ``log|W|`` by what the edges change."""
    rho, root = RHO_GRID[:, None], np.sqrt(f[:, design.kind])
    Z = root[:, :, None] * design.ends
    diagonal = 1.0 / (1.0 + rho**2 - rho * design.eigenvalues)
    scaled = (rho * diagonal)[:, None, :] * Z
    L_inverse, log_det = _cholesky(np.eye(Z.shape[1]) - rho[:, :, None] * (scaled @ Z.swapaxes(1, 2)))
    factor = np.concatenate([L_inverse @ scaled, L_inverse * root[:, None, :]], axis=2)
    return diagonal, factor, log_det - np.log(diagonal).sum(axis=1)


def _whole(design: LagDesign, f: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """0, factor and ``log|W|`` by W. The factor alone is large: 100 MB for 7,000 rows with 1,500 gaps, r = 100."""
    rho, r, Z = RHO_GRID[:, None, None], design.rank, design.ends
    gram = np.array([Z[design.kind == g].T @ Z[design.kind == g] for g in range(f.shape[1])])
    W = (1 + rho**2) * np.eye(r) - rho * np.diag(design.eigenvalues) - rho**2 * np.tensordot(f, gram, 1)
    factor = np.empty((len(f), r, r + len(Z)))
    factor[:, :, :r], log_det = _cholesky(W)
    for at, rho_f in zip(factor, RHO_GRID[:, None] * f[:, design.kind]):
        at[:, r:] = at[:, :r] @ (Z.T * rho_f)
    return np.zeros((len(f), r)), factor, log_det


def _cholesky(A: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``L^-1`` and ``log|A|`` of ``A = LL'`` (G, n, n)."""
    L = np.linalg.cholesky((A + A.swapaxes(1, 2)) / 2)
    return np.linalg.inv(L), 2 * np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)


def solve_on_grid(sums: LagSums, inverse: GridInverse, index: IntArray) -> tuple[FloatArray, FloatArray]:
    """Move ``sums.gamma`` in place from OLS to GLS at ``RHO_GRID[index]``.

    Returns the whitened rss (n,), and the squared length (n,) of the move.
    """
    rss, moved = _solve(sums.gamma, sums.cross, sums.ss, inverse.diagonal, inverse.factor, inverse.kinds, index)
    return rss, moved


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _solve(
    gamma: FloatArray,
    cross: FloatArray,
    ss: FloatArray,
    diagonal: FloatArray,
    factor: FloatArray,
    kinds: FloatArray,
    index: IntArray,
) -> tuple[FloatArray, FloatArray]:
    n, r = gamma.shape
    rss, moved, move = np.empty(n), np.empty(n), np.empty(r)
    for v in range(n):
        g = index[v]
        rho, explained = RHO_GRID[g], 0.0
        for j in range(kinds.shape[1]):
            explained += kinds[g, j] * ss[v, 2 + j]
        for k in range(r):  # a sum and a store apart: see `kernels.noise.lag_sums`
            explained += diagonal[g, k] * cross[v, k] * cross[v, k]
        for k in range(r):
            move[k] = rho * diagonal[g, k] * cross[v, k]
        for j in range(factor.shape[1]):
            y = 0.0
            for k in range(factor.shape[2]):
                y += factor[g, j, k] * cross[v, k]
            explained += y * y
            for k in range(r):
                move[k] += rho * y * factor[g, j, k]
        square = 0.0
        for k in range(r):
            square += move[k] * move[k]
        for k in range(r):
            gamma[v, k] -= move[k]
        moved[v] = square
        rss[v] = (1.0 + rho * rho) * ss[v, 0] - rho * ss[v, 1] - rho * rho * explained
    return rss, moved
