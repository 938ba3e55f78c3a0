"""Restricted maximum likelihood of ARMA(1, 1) on a grid, from coarse to fine, voxel by voxel.

At a point of the grid V^-1 Q, ``W = Q'V^-1 Q`` and its Cholesky factor L are shared by all voxels, so that ``rss =
R'V^-1 R - |L^-1 (V^-1 Q)'R|^2`` costs a matrix product and a recursion; R are OLS residuals. The estimate minimises
``(T - r) log rss + log|V| + log|W| - 2 log J``.

J is Jeffreys' prior, as Firth (1993, Biometrika 80:27) takes the bias out of maximum likelihood. REML alone finds
near white noise too often, where a and b cannot be told apart; there slow noise passes for white, and variances of
contrasts are half of what they should be. The asymptotic information of ``sin^-1 a`` and ``sin^-1 b`` is T for each
alone (Box and Jenkins, Time Series Analysis, 7.2), and its determinant, in units of T^2, is 1 less the squared
correlation of their scores, ``1 - (1 - a^2)(1 - b^2) / (1 + a b)^2``. Its root is ``J = tanh(tanh^-1 a + tanh^-1 b)``:
0 at white noise, and soon 1 beyond. That J knows nothing of the design, which takes away what is as slow as drift, so
that such noise looks white again; noise is remembered for a fifth of the run at most. What both do to false positives
is told in docs/design/012-noise-models.md.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from voxloom.kernels.linalg import SUB_BLOCK
from voxloom.kernels.noise.arma import (
    ARMA_GRID,
    FROM_WHITE,
    GRID_STEPS,
    Innovations,
    apply_precision,
    innovations,
    step_index,
    sum_of_squares,
)
from voxloom.kernels.noise.lag_sums import block_voxels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.kernels.noise.lags import LagDesign

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Every third point is looked at in both directions, then those beside the best so far until it stays the best.
COARSE = 3
#: Noise falls to 1/e within this share of the run; slower noise is drift.
MEMORY = 0.2
#: Bytes of ``V^-1 Q`` that are kept between blocks of voxels; beyond, they are made anew for each.
KEPT_BYTES = 16 * 2**20


class ArmaPoint(NamedTuple):
    """What all voxels share at one point of the grid.

    Attributes
    ----------
    half : (r, r) array
        ``L^-1``.
    weight : float
        The penalised likelihood is highest where ``rss * weight`` is least; infinite at white noise.
    """

    half: FloatArray
    weight: float


class ArmaProduct(NamedTuple):
    """The recursion at one point of the grid, and ``V^-1 Q`` (T, r) by it."""

    filter: Innovations
    V_Q: FloatArray


class ArmaGrid:
    """Points of the grid for one design, made when first looked at.

    Parameters
    ----------
    design : LagDesign

    Attributes
    ----------
    open : (G,) array of bool
        Points that can be an estimate: not white noise itself, nor those beyond `MEMORY`.
    """

    def __init__(self, design: LagDesign) -> None:
        self.design = design
        slowest = np.exp(-1.0 / (MEMORY * design.segments.longest))
        self.open = (FROM_WHITE > 0) & (ARMA_GRID[:, 0] <= slowest)
        self._points: dict[int, ArmaPoint] = {}
        self._products: dict[int, ArmaProduct] = {}

    def at(self, index: int) -> tuple[ArmaPoint, ArmaProduct]:
        """The point and its product."""
        product = self._products.get(index) or self._multiply(index)
        if index not in self._points:
            self._points[index] = self._make(index, product)
        return self._points[index], product

    def _make(self, index: int, product: ArmaProduct) -> ArmaPoint:
        design = self.design
        W = design.Q.T @ product.V_Q
        L = cholesky((W + W.T) / 2, lower=True)
        with np.errstate(divide="ignore"):
            penalty = 2 * np.log(np.tanh(FROM_WHITE[index]))
        log_det = product.filter.log_det + 2 * np.log(np.diagonal(L)).sum() - penalty
        half = solve_triangular(L, np.eye(design.rank), lower=True)
        return ArmaPoint(half, float(np.exp(log_det / design.dof)))

    def _multiply(self, index: int) -> ArmaProduct:
        """Make V^-1 Q, and keep it as long as there is room."""
        a, b = ARMA_GRID[index]
        found = innovations(float(a), float(b), self.design.segments)
        product = ArmaProduct(found, np.asarray(apply_precision(self.design.Q, *found)))
        if (len(self._products) + 1) * (product.V_Q.nbytes + 3 * found.variance.nbytes) <= KEPT_BYTES:
            self._products[index] = product
        return product


def search_voxels(n_rows: int) -> int:
    """Voxels of a sub-block: many, as each makes V^-1 Q anew at the points that were not kept."""
    return min(SUB_BLOCK, 4 * block_voxels(n_rows))


def arma_reml(grid: ArmaGrid, R: FloatArray) -> IntArray:
    """Index into `ARMA_GRID` (n,) of the penalised REML estimate, from OLS residuals R (T, n).

    60 (T 150) to 90 of the 622 points are looked at. The likelihood is flat where a and b nearly cancel: of 3,000
    null voxels (T 150, 33 regressors) 94 % found the best of all points, 99 % one whose log likelihood is within 0.2.
    """
    n = R.shape[1]
    best, least = np.zeros(n, dtype=np.int64), np.full(n, np.inf)
    for index in np.flatnonzero((GRID_STEPS % COARSE == 0).all(axis=1) & grid.open):
        _take_lower(grid, int(index), R, np.arange(n), best, least)
    moving = np.arange(n)
    while moving.size:
        before = best[moving]
        for candidate, voxels in _wanted(np.array(_around(before))):
            if grid.open[candidate]:
                _take_lower(grid, candidate, R, moving[voxels], best, least)
        moving = moving[best[moving] != before]
    return best


def _around(index: IntArray) -> list[IntArray]:
    """The eight points beside each."""
    a, b = GRID_STEPS[index].T
    return [step_index(a + i, b + j) for i, j in itertools.product((-1, 0, 1), repeat=2) if (i, j) != (0, 0)]


def _wanted(around: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Points wanted by any voxel, and the voxels that want each; around is (candidates, n)."""
    order = np.argsort(around, axis=None, kind="stable")
    points, first = np.unique(around.ravel()[order], return_index=True)
    for index, voxels in zip(points, np.split(order % around.shape[1], first[1:])):
        yield int(index), np.unique(voxels)


def _take_lower(grid: ArmaGrid, index: int, R: FloatArray, voxels: IntArray, best: IntArray, least: FloatArray) -> None:
    """Note the point, in place, for those of the voxels where it is better than what they have."""
    point, product = grid.at(index)
    part = R if voxels.size == R.shape[1] else R[:, voxels]
    found = point.weight * _rss(point, product, part)[1]
    lower = found < least[voxels]
    best[voxels[lower]], least[voxels[lower]] = index, found[lower]


def _rss(point: ArmaPoint, product: ArmaProduct, R: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``L^-1 (V^-1 Q)'R`` (r, n) and the whitened residual sum of squares (n,)."""
    u = point.half @ (product.V_Q.T @ R)
    return u, sum_of_squares(R, *product.filter) - (u**2).sum(axis=0)


def solve_arma(grid: ArmaGrid, R: FloatArray, index: IntArray) -> tuple[FloatArray, FloatArray]:
    """What generalised least squares adds to OLS coefficients, (n, r), and the whitened rss (n,)."""
    delta, rss = np.empty((R.shape[1], grid.design.rank)), np.empty(R.shape[1])
    for found, voxels in _wanted(index[None]):
        point, product = grid.at(found)
        u, rss[voxels] = _rss(point, product, R[:, voxels])
        delta[voxels] = u.T @ point.half
    return delta, rss
