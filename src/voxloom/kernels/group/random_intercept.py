"""Mixed model with a random intercept for every group of maps (site, family, person), by REML on a grid.

``y = X b + u_g + e`` has covariance ``sigma2 V``, ``V = (1 - icc) I + icc Z Z'``, sigma2 the whole variance of a map
and icc the share of it that a group has in common. Within a group of n maps V is diagonal over their mean (eigenvalue
1 - icc + n icc) and what is left (1 - icc), so any function f of V acts on the orthonormal design Q as ::

    Q'f(V)Q = f_rest I + sum over sizes n of (f_n - f_rest) / n  sum over groups g of that size of s_g s_g',  s_g =
    Q'1_g

and on data as the same sums of ``s_g S_g`` and ``S_g^2`` with S_g the sum of the group's OLS residuals. So one pass
over the maps leaves r + 1 numbers for each size of group, from which the likelihood follows at every point of the
grid; the maps are not touched again, as in FEMA (Fan et al. 2022) and BLMM (Maullin-Sapey and Nichols 2022).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.first_level.contrast_tables import empty_table
from voxloom.kernels.first_level.dof import Derivatives, kenward_roger, small_sample
from voxloom.kernels.group.patterns import solve_by_pattern
from voxloom.kernels.linalg import NO_VARIANCE, Basis, is_estimable, reduce_design

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from voxloom.kernels.contrast import ContrastTable
    from voxloom.kernels.group.patterns import BoolArray, Solve

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Values of icc: squares, closest near 0, where sites lie (0.0001 apart) and where thousands of families tell them
#: apart.
ICC_GRID: FloatArray = (np.arange(100) / 100) ** 2


class RandomInterceptFit(NamedTuple):
    """Estimates at every voxel.

    Attributes
    ----------
    beta : (K, V) array
    sigma2 : (V,) array
        Variance of a map, between groups and within.
    icc : (V,) array
        Share of sigma2 between groups, a value of `ICC_GRID`.
    """

    beta: FloatArray
    sigma2: FloatArray
    icc: FloatArray


class GroupedDesign:
    """A design over maps that belong to groups, with what every point of the grid needs of it.

    Parameters
    ----------
    X : (n, K) array
        May be rank deficient.
    groups : (n,) array of int
        Label of each map's group.
    """

    def __init__(self, X: FloatArray, groups: IntArray) -> None:
        self.basis: Basis = reduce_design(X)
        self.n_maps = len(X)
        self.dof = self.n_maps - self.basis.rank
        _, self.member, count = np.unique(groups, return_inverse=True, return_counts=True)
        self.sizes, self.size_of = np.unique(count, return_inverse=True)
        self.n_groups = np.bincount(self.size_of)
        #: s_g of every group, (groups, r)
        self.sums = _sums(self.basis.Q, self.member, len(count))

    @cached_property
    def squares(self) -> FloatArray:
        """Sum of s_g s_g' over the groups of each size, (sizes, r, r)."""
        return np.array([self.sums[self.size_of == k].T @ self.sums[self.size_of == k] for k in range(self.sizes.size)])

    def eigenvalues(self, icc: float) -> FloatArray:
        """Eigenvalues of V: of means of groups, by size, and at the end of all the rest."""
        return np.append(1 - icc + self.sizes * icc, 1 - icc)

    @property
    def slopes(self) -> FloatArray:
        """Derivatives of `eigenvalues` by icc."""
        return np.append(self.sizes - 1.0, -1.0)

    def quadratic(self, f: FloatArray) -> FloatArray:
        """``Q'f(V)Q`` (r, r) for the values f of a function at the eigenvalues."""
        change = np.tensordot((f[:-1] - f[-1]) / self.sizes, self.squares, 1)
        return np.asarray(f[-1] * np.eye(self.basis.rank) + change)

    def trace(self, f: FloatArray) -> float:
        """Trace of f(V)."""
        return float(np.append(self.n_groups, self.n_maps - self.n_groups.sum()) @ f)

    def derivatives(self, icc: float) -> Derivatives:
        """`Derivatives` of the precision ``D = V^-1``: ``dD = -D dV D``, and all of these commute."""
        d, slope = 1 / self.eigenvalues(icc), self.slopes
        return Derivatives(
            W=self.quadratic(d),
            A=self.quadratic(-(d**2) * slope)[None],
            B=self.quadratic(d**3 * slope**2)[None, None],
            first=np.array([self.trace(-d * slope)]),
            second=np.array([[self.trace((d * slope) ** 2)]]),
        )


class _Point(NamedTuple):
    """What one value of icc makes of the sums of a voxel."""

    d: float  # 1 / (1 - icc)
    change: FloatArray  # (f_n - f_rest) / n of D, by size
    factor: FloatArray  # L^-1 of Q'DQ = LL'
    log_weight: float  # log REML = -(n - r) / 2 (log rss + log_weight)


def _points(design: GroupedDesign) -> list[_Point]:
    found = []
    for icc in ICC_GRID:
        values = design.eigenvalues(float(icc))
        d = 1 / values
        L = np.linalg.cholesky(design.quadratic(d))
        log_weight = (design.trace(np.log(values)) + 2 * np.log(np.diag(L)).sum()) / design.dof
        change = (d[:-1] - d[-1]) / design.sizes
        found.append(_Point(float(d[-1]), change, np.linalg.inv(L), float(log_weight)))
    return found


def fit_random_intercept(
    X: FloatArray, Y: NDArray[np.floating], groups: IntArray, pattern: NDArray[np.int32], present: BoolArray
) -> RandomInterceptFit:
    """Maximise the restricted likelihood over icc in `ICC_GRID` at every voxel; beta and sigma2 are exact at it.

    NaN where no degrees of freedom are left or the maps are fitted without error. Where no group has two maps icc
    cannot be told and is 0.

    Parameters
    ----------
    X : (n, K) array
        May be rank deficient.
    Y : (n, V) array
        Not finite where missing.
    groups : (n,) array of int
    pattern : (V,) array of int
    present : (patterns, n) array of bool
        From `group_patterns`.
    """

    def prepare(rows: BoolArray) -> Solve | None:
        design = GroupedDesign(X[rows], groups[rows])
        return _solver(design) if design.dof > 0 else None

    return RandomInterceptFit(*solve_by_pattern(prepare, [Y], pattern, present, [(X.shape[1],), (), ()]))


def _solver(design: GroupedDesign) -> Callable[[FloatArray], tuple[FloatArray, FloatArray, FloatArray]]:
    points, Q = _points(design), design.basis.Q
    if design.sizes[-1] == 1:
        points = points[:1]

    def solve(y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        total = np.square(y).sum(axis=0)
        gamma = Q.T @ y
        e = y - Q @ gamma
        ss = np.square(e).sum(axis=0)
        cross, between = _group_sums(design, e)
        best, least, moved = np.zeros(ss.size, dtype=np.int64), np.full(ss.size, np.inf), np.zeros_like(gamma)
        rss = np.full(ss.size, np.nan)
        for i, point in enumerate(points):
            u = point.factor @ np.tensordot(point.change, cross, 1)
            left = point.d * ss + point.change @ between - np.square(u).sum(axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                objective = np.log(left) + point.log_weight
            lower = objective < least
            best[lower], least[lower], rss[lower] = i, objective[lower], left[lower]
            moved[:, lower] = point.factor.T @ u[:, lower]
        tested = ss > NO_VARIANCE**2 * total
        beta = np.where(tested, design.basis.back @ (gamma + moved), np.nan)
        return beta, np.where(tested, rss / design.dof, np.nan), np.where(tested, ICC_GRID[best], np.nan)

    return solve


def _group_sums(design: GroupedDesign, e: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sums over the groups of each size of ``s_g S_g`` (sizes, r, V) and ``S_g^2`` (sizes, V) of residuals e (n, V)."""
    S = _sums(e, design.member, len(design.sums))
    of_size = [design.size_of == k for k in range(design.sizes.size)]
    cross = np.array([design.sums[groups].T @ S[groups] for groups in of_size])
    return cross, np.array([np.square(S[groups]).sum(axis=0) for groups in of_size])


def _sums(rows: FloatArray, member: IntArray, n_groups: int) -> FloatArray:
    """Sums of the rows of each group, (groups, columns)."""
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(n_groups))
    return np.asarray(np.add.reduceat(rows[order], starts, axis=0))


def icc_index(icc: FloatArray) -> IntArray:
    """Index of the value of `ICC_GRID` nearest to each icc (0 for NaN)."""
    root = np.sqrt(np.clip(np.nan_to_num(icc), 0.0, 1.0))
    return np.asarray(np.minimum(np.rint(root * 100).astype(np.int64), ICC_GRID.size - 1))


def random_intercept_case(pattern: NDArray[np.integer], icc: FloatArray) -> IntArray:
    """Row of `random_intercept_table` of each voxel."""
    return np.asarray(pattern, dtype=np.int64) * ICC_GRID.size + icc_index(icc)


def random_intercept_table(
    X: FloatArray, groups: IntArray, present: BoolArray, C: FloatArray, cases: IntArray
) -> ContrastTable:
    """Tabulate Kenward and Roger's covariance, dof and scale (`kernels.first_level.dof`) of the contrast rows C (q, K).

    Parameters
    ----------
    X, groups, present
        As in `fit_random_intercept`.
    C : (q, K) array
    cases : array of int
        Cases (`random_intercept_case`) to tabulate; the others stay NaN.
    """
    table = empty_table(len(present) * ICC_GRID.size, len(C))
    for number, wanted in _by_pattern(cases):
        rows = present[number]
        design = GroupedDesign(X[rows], groups[rows])
        if design.dof < 1 or not is_estimable(C, design.basis).all():
            continue
        weights = C @ design.basis.back
        for case in wanted:
            pieces = small_sample(design.derivatives(float(ICC_GRID[case % ICC_GRID.size])), design.dof)
            table.cov[case], table.dof[case], table.scale[case] = kenward_roger(pieces, weights)
    return table


def _by_pattern(cases: IntArray) -> list[tuple[int, IntArray]]:
    number = cases // ICC_GRID.size
    return [(int(k), cases[number == k]) for k in np.unique(number)]
