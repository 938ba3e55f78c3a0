"""First-level fits of all voxels: ordinary least squares, and AR(1) at about the same price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.kernels.lag_sums import LagSums, block_size, lag_sums
from voxloom.kernels.lags import LagDesign, lag_design, segments_of
from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.reml import reml_index, reml_weights
from voxloom.kernels.rho_grid import RHO_GRID, grid_inverse, solve_on_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    Solver = Callable[[LagSums], tuple[FloatArray, FloatArray]]


class GLSFit(NamedTuple):
    """Fit of every voxel.

    Attributes
    ----------
    beta : (K, V) array
        Signal units. For a rank-deficient design the solution of least norm (`linalg.reduce_design`).
    sigma2 : (V,) array
        Variance of the innovations in signal units squared: ``Cov(beta) = sigma2 (X'D(rho)X)^-1``, on
        rows - rank degrees of freedom. NaN where the design fits a voxel perfectly.
    rho : (V,) array
        First autocorrelation, a value of `RHO_GRID`; 0 for OLS.
    """

    beta: FloatArray
    sigma2: FloatArray
    rho: FloatArray


def fit_ols(X: ArrayLike, Y: NDArray[Any], *, segments: Sequence[int] = (0,), percent: bool = False) -> GLSFit:
    """Minimise ``||Y_v - X b||^2`` for every column v.

    Parameters
    ----------
    X : (T, K) array_like
        Design, may be rank deficient.
    Y : (T, V) array
        Signal, any real dtype. Column v of the result depends on Y[:, v] alone; a column that is constant or
        holds a value that is not finite gives NaN.
    segments : sequence of int
        First rows of gap-free segments. OLS does not depend on them.
    percent : bool
        Fit ``100 (y / mean - 1)``; NaN where the mean is not positive.

    Raises
    ------
    DesignError
        Where X and Y do not have the same rows, or no degrees of freedom are left.
    """
    design = lag_design(X, segments_of(segments, len(Y), stationary=True))

    def solve(sums: LagSums) -> tuple[FloatArray, FloatArray]:
        return np.zeros(len(sums.ss)), sums.ss[:, 0]

    return _fit(design, Y, percent, solve)


def fit_ar1(X: ArrayLike, Y: NDArray[Any], *, segments: Sequence[int] = (0,), percent: bool = False) -> GLSFit:
    """Maximise the restricted likelihood of ``Y_v = X b + e`` with e stationary AR(1) in each segment.

    rho is the best value of `RHO_GRID` (step 0.01); beta and sigma2 are exact at it. Parameters, NaN rules
    and errors as `fit_ols`. Source: Patterson and Thompson 1971 (REML); docs/statistics.md.
    """
    design = lag_design(X, segments_of(segments, len(Y), stationary=True))
    inverse = grid_inverse(design)
    weights = reml_weights(design, inverse)

    def solve(sums: LagSums) -> tuple[FloatArray, FloatArray]:
        index = reml_index(sums, inverse, weights)
        return RHO_GRID[index], solve_on_grid(sums, inverse, index)

    return _fit(design, Y, percent, solve)


def fit_ar1_yule_walker(
    X: ArrayLike, Y: NDArray[Any], *, segments: Sequence[int] = (0,), percent: bool = False
) -> GLSFit:
    """Whiten as nilearn does: rho by Yule-Walker on OLS residuals, cut toward zero to 0.01, zero start.

    ``rho = (sum_t r_t r_{t-1} / (T - S)) / (sum_t r_t^2 / T)`` for S segments, kept within +-0.99. nilearn
    also takes from the residuals their mean over all voxels, which is zero when the design holds the
    constant; without it nilearn's numbers depend on which voxels are fitted together, these do not. Biased
    toward zero by the design: `fit_ar1` is not. Parameters, NaN rules and errors as `fit_ols`.
    """
    design = lag_design(X, segments_of(segments, len(Y), stationary=False))
    inverse = grid_inverse(design)
    T = design.segments.n_rows
    unbias = T / max(T - design.segments.starts.size, 1)

    def solve(sums: LagSums) -> tuple[FloatArray, FloatArray]:
        with np.errstate(invalid="ignore", divide="ignore"):
            rho = np.nan_to_num(unbias * sums.ss[:, 1] / (2 * sums.ss[:, 0]), posinf=0.0, neginf=0.0)
        index = np.clip(np.trunc(100 * rho).astype(np.int64) + 99, 0, RHO_GRID.size - 1)
        return RHO_GRID[index], solve_on_grid(sums, inverse, index)

    return _fit(design, Y, percent, solve)


#: Noise models by name.
FITTERS: Mapping[str, Callable[..., GLSFit]] = {
    "ols": fit_ols,
    "ar1": fit_ar1,
    "ar1-yule-walker": fit_ar1_yule_walker,
}


def _fit(design: LagDesign, Y: NDArray[Any], percent: bool, solve: Solver) -> GLSFit:
    """Run `solve` (rho and whitened rss; moves gamma) over sub-blocks of voxels."""
    V = Y.shape[1]
    fit = GLSFit(np.empty((design.back.shape[0], V)), np.empty(V), np.empty(V))
    for block in sub_blocks(V, block_size(design)):
        sums = lag_sums(design, Y[:, block], percent=percent)
        rho, rss = solve(sums)
        lost = sums.perfect | ~np.isfinite(sums.ss[:, 0])
        np.matmul(design.back, sums.gamma.T, out=fit.beta[:, block])
        fit.sigma2[block] = np.where(lost, np.nan, rss / design.dof)
        fit.rho[block] = np.where(lost, np.nan, rho)
    return fit
