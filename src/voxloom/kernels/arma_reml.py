"""Restricted maximum likelihood of ARMA(1, 1) on a grid, from coarse to fine, voxel by voxel.

At a point of the grid V^-1 Q, ``W = Q'V^-1 Q`` and its Cholesky factor L are shared by all voxels, so that ``rss =
R'V^-1 R - |L^-1 (V^-1 Q)'R|^2`` costs a matrix product and a recursion; R are OLS residuals. The estimate minimises
``(T - r) log rss + log|V| + log|W|``.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from voxloom.kernels.arma import (
    ARMA_GRID,
    GRID_STEPS,
    Innovations,
    apply_precision,
    innovations,
    step_index,
    sum_of_squares,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.kernels.lags import LagDesign

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Every third point is looked at in both directions, then those beside the best so far until it stays the best.
COARSE = 3
#: Bytes of ``V^-1 Q`` that are kept between blocks of voxels; beyond, they are made anew for each.
KEPT_BYTES = 64 * 2**20


class ArmaPoint(NamedTuple):
    """What all voxels share at one point of the grid.

    Attributes
    ----------
    filter : Innovations
    half : (r, r) array
        ``L^-1``.
    weight : float
        REML is highest where ``rss * weight`` is least.
    """

    filter: Innovations
    half: FloatArray
    weight: float


class ArmaGrid:
    """Points of the grid for one design, made when first looked at.

    Parameters
    ----------
    design : LagDesign
    """

    def __init__(self, design: LagDesign) -> None:
        self.design = design
        self._points: dict[int, ArmaPoint] = {}
        self._products: dict[int, FloatArray] = {}

    def at(self, index: int) -> tuple[ArmaPoint, FloatArray]:
        """The point, and ``V^-1 Q`` (T, r)."""
        if index not in self._points:
            self._points[index] = self._make(index)
        return self._points[index], self._product(index, self._points[index].filter)

    def _make(self, index: int) -> ArmaPoint:
        design = self.design
        a, b = ARMA_GRID[index]
        found = innovations(float(a), float(b), design.segments)
        W = design.Q.T @ self._product(index, found)
        L = cholesky((W + W.T) / 2, lower=True)
        log_det = found.log_det + 2 * np.log(np.diagonal(L)).sum()
        half = solve_triangular(L, np.eye(design.rank), lower=True)
        return ArmaPoint(found, half, float(np.exp(log_det / design.dof)))

    def _product(self, index: int, found: Innovations) -> FloatArray:
        if index in self._products:
            return self._products[index]
        V_Q = np.asarray(apply_precision(self.design.Q, *found))
        if (len(self._products) + 1) * V_Q.nbytes <= KEPT_BYTES:
            self._products[index] = V_Q
        return V_Q


def arma_reml(grid: ArmaGrid, R: FloatArray) -> IntArray:
    """Index into `ARMA_GRID` (n,) of the REML estimate, from OLS residuals R (T, n).

    About 90 of the 622 points are looked at. The likelihood is flat along lines where a and b nearly cancel: of 3,000
    null voxels (T 150, 33 regressors) 85 % found the best of all points, 99 % one whose log likelihood is within 0.4.
    """
    n = R.shape[1]
    best, least = np.zeros(n, dtype=np.int64), np.full(n, np.inf)
    for index in np.flatnonzero((GRID_STEPS % COARSE == 0).all(axis=1)):
        _take_lower(grid, int(index), R, np.arange(n), best, least)
    moving = np.arange(n)
    while moving.size:
        before = best[moving]
        for candidate, voxels in _wanted(np.array(_around(before))):
            _take_lower(grid, candidate, R, moving[voxels], best, least)
        moving = moving[best[moving] != before]
    return best


def _around(index: IntArray) -> list[IntArray]:
    """The eight points beside each."""
    a, b = GRID_STEPS[index].T
    return [step_index(a + i, b + j) for i, j in product((-1, 0, 1), repeat=2) if (i, j) != (0, 0)]


def _wanted(around: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Points wanted by any voxel, and the voxels that want each; around is (candidates, n)."""
    order = np.argsort(around, axis=None, kind="stable")
    points, first = np.unique(around.ravel()[order], return_index=True)
    for index, voxels in zip(points, np.split(order % around.shape[1], first[1:])):
        yield int(index), np.unique(voxels)


def _take_lower(grid: ArmaGrid, index: int, R: FloatArray, voxels: IntArray, best: IntArray, least: FloatArray) -> None:
    """Note the point, in place, for those of the voxels where it is better than what they have."""
    point, V_Q = grid.at(index)
    part = R if voxels.size == R.shape[1] else R[:, voxels]
    found = point.weight * _rss(point, V_Q, part)[1]
    lower = found < least[voxels]
    best[voxels[lower]], least[voxels[lower]] = index, found[lower]


def _rss(point: ArmaPoint, V_Q: FloatArray, R: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``L^-1 (V^-1 Q)'R`` (r, n) and the whitened residual sum of squares (n,)."""
    u = point.half @ (V_Q.T @ R)
    return u, sum_of_squares(R, *point.filter) - (u**2).sum(axis=0)


def solve_arma(grid: ArmaGrid, R: FloatArray, index: IntArray) -> tuple[FloatArray, FloatArray]:
    """What generalised least squares adds to OLS coefficients, (n, r), and the whitened rss (n,)."""
    delta, rss = np.empty((R.shape[1], grid.design.rank)), np.empty(R.shape[1])
    for found, voxels in _wanted(index[None]):
        point, V_Q = grid.at(found)
        u, rss[voxels] = _rss(point, V_Q, R[:, voxels])
        delta[voxels] = u.T @ point.half
    return delta, rss
