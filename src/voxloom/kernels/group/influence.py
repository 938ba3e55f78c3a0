"""What each map does to a least squares fit, without refits: leverage, Cook's distance, change of a contrast.

With h = diag(Q Q'), residuals e and ``s2 = e'e / (n - r)`` (Cook 1977; Belsley, Kuh and Welsch 1980):

- Cook's distance ``e^2 h / (r s2 (1 - h)^2)``: how far all fitted values move without the map;
- DFBETA of a contrast c: ``c (X'X)^- x e / (1 - h)``, its effect minus its effect without the map;
- DFBETAS: that in standard errors, the error variance taken without the map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.group.patterns import solve_by_pattern
from voxloom.kernels.linalg import NO_VARIANCE, is_estimable, reduce_design

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.group.patterns import BoolArray, Solve

    FloatArray = NDArray[np.float64]

#: A leverage this near to 1: the map alone determines a regressor, and there is no fit without it.
ALONE = 1e-9


class Influence(NamedTuple):
    """Influence of every map at every voxel, (n, V); NaN where a map is missing, or there is no fit without it.

    Attributes
    ----------
    cooks_distance : (n, V) array
    dfbeta : (n, V) array
        Signal units.
    dfbetas : (n, V) array
        Standard errors.
    """

    cooks_distance: FloatArray
    dfbeta: FloatArray
    dfbetas: FloatArray


def leverage(X: FloatArray, present: BoolArray) -> FloatArray:
    """Diagonal of the hat matrix of each pattern, (patterns, n); NaN for maps that are missing."""
    found = np.full(present.shape, np.nan)
    for h, rows in zip(found, present):
        h[rows] = np.square(reduce_design(X[rows]).Q).sum(axis=1)
    return found


def influence(
    X: FloatArray, Y: NDArray[np.floating], c: FloatArray, pattern: NDArray[np.int32], present: BoolArray
) -> Influence:
    """Influence of each map on a least squares fit and on the contrast c of it.

    Parameters
    ----------
    X : (n, K) array
        May be rank deficient.
    Y : (n, V) array
        Not finite where missing.
    c : (K,) array
        Contrast; where a pattern cannot estimate it, NaN.
    pattern : (V,) array of int
    present : (patterns, n) array of bool
        From `group_patterns`.
    """
    n = len(X)

    def prepare(rows: BoolArray) -> Solve | None:
        basis = reduce_design(X[rows])
        dof = int(rows.sum()) - basis.rank
        if dof < 2 or not is_estimable(c[None], basis).all():
            return None
        h = np.square(basis.Q).sum(axis=1)
        free = np.where(1 - h > ALONE, 1 - h, np.nan)[:, None]
        weights = c @ basis.back
        pull = (basis.Q @ weights)[:, None]

        def solve(y: FloatArray) -> tuple[FloatArray, ...]:
            e = y - basis.Q @ (basis.Q.T @ y)
            rss = np.square(e).sum(axis=0)
            rss = np.where(rss > NO_VARIANCE**2 * np.square(y).sum(axis=0), rss, np.nan)
            without = (rss - e**2 / free) / (dof - 1)
            cook = e**2 * h[:, None] / (basis.rank * rss / dof * free**2)
            dfbeta = pull * e / free
            with np.errstate(divide="ignore", invalid="ignore"):
                dfbetas = dfbeta / np.sqrt(np.maximum(without, 0.0) * (weights @ weights))
            return tuple(_spread(values, rows) for values in (cook, dfbeta, dfbetas))

        return solve

    return Influence(*solve_by_pattern(prepare, [Y], pattern, present, [(n,)] * 3))


def _spread(values: FloatArray, rows: BoolArray) -> FloatArray:
    """Values of the rows that are there at their places among all of them, NaN elsewhere."""
    out = np.full((rows.size, values.shape[1]), np.nan)
    out[rows] = values
    return out
