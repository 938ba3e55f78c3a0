"""Restricted maximum likelihood of rho on a fixed grid, voxel by voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from voxloom.kernels.grid import RHO_GRID, GridInverse
from voxloom.kernels.lags import REASSOCIATE, LagDesign, LagSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: The search looks at every 8th point, -0.93, -0.85, ..., 0.91, then at all points within 7 of the best.
COARSE = np.arange(6, RHO_GRID.size - 8, 8)
REACH = 7
#: Always looked at, 0.91 to 0.99: drifts in the design resemble a unit root, and there the profile can have a
#: second peak.
EDGE = np.arange(RHO_GRID.size - 9, RHO_GRID.size)


def reml_weights(design: LagDesign, inverse: GridInverse) -> FloatArray:
    """Factor (G,) such that rho maximises the REML likelihood where ``rss(rho) * factor`` is least.

    ``log REML = -(T - r)/2 log rss + S/2 log(1 - rho^2) - 1/2 log|W|`` for S segments; a monotone function of
    it needs no logarithm per voxel.
    """
    determinants = design.segments.starts.size * np.log1p(-(RHO_GRID**2)) - inverse.log_det
    return np.asarray(np.exp(-determinants / design.dof))


def reml_index(sums: LagSums, inverse: GridInverse, weights: FloatArray) -> IntArray:
    """Index into `RHO_GRID` (n,) of the REML estimate of each voxel.

    47 of the 199 points are evaluated. In simulations (K 5 to 60, true rho -0.5 to 0.95) that found the best
    of all points at all but 3 of 144,000 voxels; there two peaks were equally high.
    """
    squares = np.ascontiguousarray(sums.ss.T)
    points = np.concatenate([COARSE, EDGE])
    explained, y = _explained(sums.cross, inverse, points)
    inner, m = COARSE.size, inverse.factor.shape[1]
    centre, _ = _lowest(explained[:inner], y[: inner * m], squares, COARSE, weights)
    best, least = _lowest(explained[inner:], y[inner * m :], squares, EDGE, weights)
    # voxels with the same coarse answer look at the same fine points, side by side
    order = np.argsort(centre, kind="stable")
    centre, cross, squares = centre[order], sums.cross[order], squares[:, order]
    edges = np.flatnonzero(np.diff(centre)) + 1
    for start, stop in zip([0, *edges], [*edges, len(order)]):
        points = np.arange(max(centre[start] - REACH, 0), min(centre[start] + REACH + 1, RHO_GRID.size))
        explained, y = _explained(cross[start:stop], inverse, points)
        found, lowest = _lowest(explained, y, squares[:, start:stop], points, weights)
        voxels = order[start:stop]
        best[voxels] = np.where(lowest < least[voxels], found, best[voxels])
    return best


def _explained(cross: FloatArray, inverse: GridInverse, points: IntArray) -> tuple[FloatArray, FloatArray]:
    """``l'd l`` (points, n) and y (points m, n) of `kernels.grid`: two matrix products for all of the points."""
    diagonal = inverse.diagonal[points]
    factor = inverse.factor[points].reshape(-1, cross.shape[1])
    with np.errstate(invalid="ignore"):  # voxels that are not finite
        return diagonal @ (cross[:, : diagonal.shape[1]] ** 2).T, factor @ cross.T


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _lowest(
    explained: FloatArray, y: FloatArray, squares: FloatArray, points: IntArray, weights: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Grid point of the least ``rss * weights`` of each voxel, and that value."""
    P, n = explained.shape
    best, least, total = np.full(n, points[0]), np.full(n, np.inf), np.empty(n)
    for p in range(P):
        g, m = points[p], len(y) // P
        rho = RHO_GRID[g]
        total[:] = squares[2]
        for v in range(n):
            total[v] += explained[p, v]
        for j in range(p * m, (p + 1) * m):
            for v in range(n):
                total[v] += y[j, v] * y[j, v]
        for v in range(n):
            rss = (1 + rho * rho) * squares[0, v] - rho * squares[1, v] - rho * rho * total[v]
            lower = rss * weights[g] < least[v]
            best[v] = g if lower else best[v]
            least[v] = rss * weights[g] if lower else least[v]
    return best, least
