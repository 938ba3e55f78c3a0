"""Ordinary least squares over maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.group.patterns import solve_by_pattern
from voxloom.kernels.linalg import NO_VARIANCE, reduce_design

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.group.patterns import BoolArray, Solve

    FloatArray = NDArray[np.float64]


class GroupFit(NamedTuple):
    """Least squares at every voxel over the maps that are there.

    Attributes
    ----------
    beta : (K, V) array
        Signal units. Where the design of a pattern is rank deficient, one of its solutions.
    sigma2 : (V,) array
        Residual sum of squares over n - rank, signal units squared.
    """

    beta: FloatArray
    sigma2: FloatArray


def fit_ols(X: FloatArray, Y: NDArray[np.floating], pattern: NDArray[np.int32], present: BoolArray) -> GroupFit:
    """Minimise ``||Y_v - X b||^2`` over the maps present at voxel v, for every column of Y.

    Column v of the result depends on ``Y[:, v]`` alone. NaN where no degrees of freedom are left or the maps
    are fitted without error (constant maps of a mean, say).

    Parameters
    ----------
    X : (n, K) array
        May be rank deficient.
    Y : (n, V) array
        Not finite where missing.
    pattern : (V,) array of int
    present : (patterns, n) array of bool
        From `group_patterns`.
    """

    def prepare(rows: BoolArray) -> Solve | None:
        basis = reduce_design(X[rows])
        dof = int(rows.sum()) - basis.rank
        if dof < 1:
            return None

        def solve(y: FloatArray) -> tuple[FloatArray, FloatArray]:
            gamma = basis.Q.T @ y
            with np.errstate(over="ignore", invalid="ignore"):  # beyond 1e154: infinite, so not tested
                error = np.square(y - basis.Q @ gamma).sum(axis=0)
                tested = error > NO_VARIANCE**2 * np.square(y).sum(axis=0)
            return np.where(tested, basis.back @ gamma, np.nan), np.where(tested, error / dof, np.nan)

        return solve

    return GroupFit(*solve_by_pattern(prepare, [Y], pattern, present, [(X.shape[1],), ()]))
