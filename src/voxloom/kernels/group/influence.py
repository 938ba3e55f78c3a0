"""What each map does to a least squares fit, without refits: leverage, Cook's distance, change of a contrast.

With h = diag(Q Q'), residuals e and ``s2 = e'e / (n - r)`` (Cook 1977; Belsley, Kuh and Welsch 1980):

- Cook's distance ``e^2 h / (r s2 (1 - h)^2)``: how far all fitted values move without the map;
- DFBETA of a contrast c: ``c (X'X)^- x e / (1 - h)``, its effect minus its effect without the map;
- DFBETAS: that in standard errors, the error variance taken without the map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.group.patterns import group_patterns, pattern_bits, solve_by_pattern
from voxloom.kernels.linalg import NO_VARIANCE, is_estimable, reduce_design

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.group.patterns import BoolArray, Solve

    FloatArray = NDArray[np.float64]

#: A leverage this near to 1: the map alone determines a regressor, and there is no fit without it.
ALONE = 1e-9


#: A map whose Cook's distance is beyond this over the number of maps is looked at (Bollen and Jackman 1985).
COOK = 4.0


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


class Totals(NamedTuple):
    """What voxels add up to for every map, (n,): numbers of voxels and sums over them, and extremes."""

    n_cook: FloatArray
    cook: FloatArray
    above: FloatArray
    n_dfbetas: FloatArray
    dfbetas: FloatArray
    top: FloatArray
    bottom: FloatArray
    n_leverage: FloatArray
    leverage: FloatArray


#: How the totals of voxels are joined.
_JOINED = dict.fromkeys(Totals._fields, np.add) | {"top": np.fmax, "bottom": np.fmin}


def influence_totals(X: FloatArray, Y: NDArray[np.floating], c: FloatArray) -> tuple[Influence, Totals]:
    """Influence of each map at some voxels, and what it comes to over them.

    Parameters are those of `influence`.
    """
    pattern, present = group_patterns(pattern_bits(Y), len(Y))
    found = influence(X, Y, c, pattern, present)
    h, cook, dfbetas = leverage(X, present)[pattern].T, found.cooks_distance, found.dfbetas
    with np.errstate(invalid="ignore"):
        above = (cook > COOK / len(X)).sum(axis=1)
    counted = (((~np.isnan(x)).sum(axis=1), np.nansum(x, axis=1)) for x in (cook, np.abs(dfbetas), h))
    (n_cook, of_cook), (n_dfbetas, of_dfbetas), (n_leverage, of_leverage) = counted
    top, bottom = np.fmax.reduce(dfbetas, axis=1, initial=-np.inf), np.fmin.reduce(dfbetas, axis=1, initial=np.inf)
    totals = (n_cook, of_cook, above, n_dfbetas, of_dfbetas, top, bottom, n_leverage, of_leverage)
    return found, Totals(*(np.asarray(values, dtype=np.float64) for values in totals))


def joined(one: Totals, other: Totals) -> Totals:
    """Totals of the voxels of both; sums depend on the order to the last bit."""
    return Totals(*(_JOINED[name](a, b) for name, a, b in zip(Totals._fields, one, other)))
