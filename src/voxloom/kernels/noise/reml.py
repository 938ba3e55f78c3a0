"""Restricted maximum likelihood of rho on a fixed grid, voxel by voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from voxloom.kernels.noise.lag_sums import REASSOCIATE, LagSums
from voxloom.kernels.noise.rho_grid import RHO_GRID, GridInverse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.noise.lags import LagDesign

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: The search looks at every 8th point, -0.93, -0.85, ..., 0.75, and at every 4th to 0.91, where valleys are
#: narrower; then at all points within 7 of every one that is no worse than those beside it.
COARSE = np.concatenate([np.arange(6, 174, 8), np.arange(174, 191, 4)])
REACH = 7
#: Always looked at, 0.91 to 0.99: drifts in the design resemble a unit root, and there the profile can have a
#: second peak.
EDGE = np.arange(RHO_GRID.size - 9, RHO_GRID.size)


def reml_weights(design: LagDesign, inverse: GridInverse) -> FloatArray:
    """Factor (G,) such that rho maximises the REML likelihood where ``rss(rho) * factor`` is least.

    ``log REML = -(T - r)/2 log rss + 1/2 log|D| - 1/2 log|W|``, ``log|D|`` as in `kernels.noise.segments`; a monotone
    function of it needs no logarithm per voxel.
    """
    segments = design.segments
    gaps = np.log1p(-(RHO_GRID[:, None] ** (2 * segments.distances))).sum(axis=1)
    determinants = segments.starts.size * np.log1p(-(RHO_GRID**2)) - gaps - inverse.log_det
    return np.asarray(np.exp(-determinants / design.dof))


def reml_index(sums: LagSums, inverse: GridInverse, weights: FloatArray) -> IntArray:
    """Index into `RHO_GRID` (n,) of the REML estimate of each voxel.

    About 50 of the 199 points are evaluated. In simulations (K 5 to 60, one segment and three, true rho -0.5 to
    0.95) that found the best of all points at every one of 144,000 voxels. Most profiles have one valley;
    looking into the lowest alone missed 3 voxels with two of nearly the same depth, by many steps.
    """
    squares = np.ascontiguousarray(sums.ss.T)
    profile = _profile(sums.cross, squares, inverse, np.concatenate([COARSE, EDGE]), weights)
    coarse, edge = profile[: COARSE.size], profile[COARSE.size :]
    best, least = _lowest(edge, EDGE)
    # voxels that have a valley at the same coarse point look at the same fine points, side by side
    for centre, valley in zip(COARSE, _valleys(coarse)):
        voxels = np.flatnonzero(valley)
        if voxels.size:
            points = np.arange(max(centre - REACH, 0), min(centre + REACH + 1, RHO_GRID.size))
            found, low = _lowest(_profile(sums.cross[voxels], squares[:, voxels], inverse, points, weights), points)
            lower = low < least[voxels]
            best[voxels[lower]], least[voxels[lower]] = found[lower], low[lower]
    return best


@nb.njit(cache=True)
def _lowest(profile: FloatArray, points: IntArray) -> tuple[IntArray, FloatArray]:
    """Point of the least value of each column of the profile (points, n), and that value."""
    n = profile.shape[1]
    best, least = np.full(n, points[0]), np.full(n, np.inf)
    for p in range(len(points)):
        for v in range(n):
            lower = profile[p, v] < least[v]
            best[v] = points[p] if lower else best[v]
            least[v] = profile[p, v] if lower else least[v]
    return best, least


def _valleys(profile: FloatArray) -> NDArray[np.bool_]:
    """Where a value of the profile (points, n) is no higher than both beside it; of equal ones the last."""
    valley = np.ones(profile.shape, dtype=bool)
    valley[1:] = profile[1:] <= profile[:-1]
    valley[:-1] &= profile[:-1] < profile[1:]
    return valley


def _profile(
    cross: FloatArray, squares: FloatArray, inverse: GridInverse, points: IntArray, weights: FloatArray
) -> FloatArray:
    """``rss * weights`` of n voxels at some points of the grid, (points, n).

    ``l'd l`` and y of `kernels.noise.rho_grid` are two matrix products for all of the points.
    """
    diagonal = inverse.diagonal[points]
    factor = inverse.factor[points].reshape(-1, cross.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # voxels that are not finite, or beyond 1e154
        explained, y = diagonal @ (cross[:, : diagonal.shape[1]] ** 2).T, factor @ cross.T
    return np.asarray(_weighted_rss(explained, y, squares, RHO_GRID[points], inverse.kinds[points], weights[points]))


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _weighted_rss(
    explained: FloatArray,
    y: FloatArray,
    squares: FloatArray,
    rhos: FloatArray,
    kinds: FloatArray,
    weights: FloatArray,
) -> FloatArray:
    """Turn ``l'd l`` (points, n), in place, into ``rss * weights``."""
    P, n = explained.shape
    m = len(y) // P
    for p in range(P):
        rho, total = rhos[p], explained[p]
        for j in range(p * m, (p + 1) * m):
            for v in range(n):
                total[v] += y[j, v] * y[j, v]
        for j in range(kinds.shape[1]):
            for v in range(n):
                total[v] += kinds[p, j] * squares[2 + j, v]
        for v in range(n):
            rss = (1 + rho * rho) * squares[0, v] - rho * squares[1, v] - rho * rho * total[v]
            total[v] = rss * weights[p]
    return explained
