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
#: Voxels evaluated together, one per SIMD lane: their statistics (r of 33: 34 KB) fit the L1 cache.
LANES = 64


def reml_weights(design: LagDesign, inverse: GridInverse) -> FloatArray:
    """Factor (G,) such that rho maximises the REML likelihood where ``rss(rho) * factor`` is least.

    ``log REML = -(T - r)/2 log rss + S/2 log(1 - rho^2) - 1/2 log|W|`` for S segments; a monotone function of
    it needs no logarithm per voxel.
    """
    determinants = design.segments.starts.size * np.log1p(-(RHO_GRID**2)) - inverse.log_det
    return np.asarray(np.exp(-determinants / design.dof))


def reml_index(sums: LagSums, inverse: GridInverse, weights: FloatArray) -> IntArray:
    """Index into `RHO_GRID` (n,) of the REML estimate of each voxel.

    47 of the 199 points are evaluated. In simulations (K 5 to 60, true rho -0.5 to 0.95) that found the best of
    all points at all but 3 of 144,000 voxels; there two peaks were equally high.
    """
    return np.asarray(_search(sums.lag, sums.end, sums.ss, inverse.diagonal, inverse.factor, weights))


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _search(
    lag: FloatArray,
    end: FloatArray,
    ss: FloatArray,
    diagonal: FloatArray,
    factor: FloatArray,
    weights: FloatArray,
) -> IntArray:
    n = len(lag)
    best, least = np.full(n, COARSE[0]), np.full(n, np.inf)
    everyone = np.arange(n)
    for start in range(0, n, LANES):
        lanes = everyone[start : start + LANES]
        _scan(lanes, COARSE, lag, end, ss, diagonal, factor, weights, best, least)
    # voxels with the same coarse answer look at the same fine points
    order = np.argsort(best, kind="mergesort")
    start = 0
    while start < n:
        centre = best[order[start]]
        stop = start
        while stop < n and stop < start + LANES and best[order[stop]] == centre:
            stop += 1
        fine = np.arange(max(centre - REACH, 0), min(centre + REACH + 1, RHO_GRID.size))
        _scan(order[start:stop], fine, lag, end, ss, diagonal, factor, weights, best, least)
        start = stop
    for start in range(0, n, LANES):
        lanes = everyone[start : start + LANES]
        _scan(lanes, EDGE, lag, end, ss, diagonal, factor, weights, best, least)
    return best


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _scan(
    voxels: IntArray,
    points: IntArray,
    lag: FloatArray,
    end: FloatArray,
    ss: FloatArray,
    diagonal: FloatArray,
    factor: FloatArray,
    weights: FloatArray,
    best: IntArray,
    least: FloatArray,
) -> None:
    """Lower `least` and move `best` of these (up to `LANES`) voxels to the best of these grid points.

    The objective is `grid.whitened_rss` times the weight, with the loop over voxels innermost.
    """
    r, m = lag.shape[1], factor.shape[1]
    lags, ends, c = np.zeros((r, LANES)), np.zeros((r, LANES)), np.empty(LANES)
    explained, dots = np.empty(LANES), np.empty((m, LANES))
    for i in range(voxels.size):
        for k in range(r):
            lags[k, i], ends[k, i] = lag[voxels[i], k], end[voxels[i], k]
    for g in points:
        rho = RHO_GRID[g]
        explained[:] = 0.0
        dots[:] = 0.0
        for k in range(r):
            for i in range(LANES):
                c[i] = lags[k, i] + rho * ends[k, i]
                explained[i] += diagonal[g, k] * c[i] * c[i]
            for j in range(m):
                for i in range(LANES):
                    dots[j, i] += factor[g, j, k] * c[i]
        for j in range(m):
            for i in range(LANES):
                explained[i] += dots[j, i] * dots[j, i]
        for i in range(voxels.size):
            v = voxels[i]
            rss = (1 + rho * rho) * ss[v, 0] - rho * ss[v, 1] - rho * rho * (ss[v, 2] + explained[i])
            if rss * weights[g] < least[v]:
                best[v], least[v] = g, rss * weights[g]
