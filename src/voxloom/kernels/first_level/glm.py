"""First-level fits of all voxels: ordinary least squares, and generalised for noise with a memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.kernels.first_level.ols_residuals import Residuals, ols_residuals
from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.noise.ar import ar_design
from voxloom.kernels.noise.ar_reml import ar_reml
from voxloom.kernels.noise.ar_solve import ArSums, ar_sums, batch_size, solve_ar
from voxloom.kernels.noise.arma import ARMA_GRID, arma_index
from voxloom.kernels.noise.arma_reml import ArmaGrid, arma_reml, search_voxels, solve_arma
from voxloom.kernels.noise.lag_sums import LagSums, block_size, lag_sums
from voxloom.kernels.noise.lags import LagDesign, lag_design
from voxloom.kernels.noise.reml import reml_index, reml_weights
from voxloom.kernels.noise.rho_grid import RHO_GRID, GridInverse, grid_index, grid_inverse, solve_on_grid
from voxloom.kernels.noise.segments import segments_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    #: ``solve(voxels) -> BlockFit`` of one sub-block.
    Solver = Callable[[slice], "BlockFit"]
    #: What is added to OLS coefficients (n, r), whitened rss (n,), noise (m, n), for residuals of length 1.
    _Corrections = tuple[FloatArray, FloatArray, FloatArray]
    _KnownSolver = Callable[[slice, Residuals, NDArray[np.int64]], _Corrections]


class GLSFit(NamedTuple):
    """Fit of every voxel.

    Attributes
    ----------
    beta : (K, V) array
        Signal units. For a rank-deficient design the solution of least norm (`linalg.reduce_design`).
    sigma2 : (V,) array
        Variance of the innovations in signal units squared: ``Cov(beta) = sigma2 (X'DX)^-1``, D the precision of
        the noise for innovations of variance 1, on rows - rank degrees of freedom. NaN where the design fits a
        voxel perfectly.
    noise : (m, V) array
        Parameters of the noise (`kernels.first_level.noise_models`); none for OLS.
    r_squared : (V,) array
        ``1 - |Y - X beta|^2 / |Y - mean|^2``, never whitened; NaN where beta is. With Q an orthonormal basis of X and
        gamma the coefficients in it, ``|Y - X beta|^2 = |Y - X beta_ols|^2 + |gamma - gamma_ols|^2``.
    """

    beta: FloatArray
    sigma2: FloatArray
    noise: FloatArray
    r_squared: FloatArray


class BlockFit(NamedTuple):
    """Fit of n voxels in the basis Q.

    Attributes
    ----------
    gamma : (n, r) array
    rss : (n,) array
        Whitened.
    noise : (m, n) array
    lost : (n,) array of bool
    left, total : (n,) array
        Squares of ``Y - X beta``, not whitened, and of Y about its mean.
    """

    gamma: FloatArray
    rss: FloatArray
    noise: FloatArray
    lost: NDArray[np.bool_]
    left: FloatArray
    total: FloatArray


def fit_ols(X: ArrayLike, Y: NDArray[Any], *, scans: ArrayLike | None = None, percent: bool = False) -> GLSFit:
    """Minimise ``||Y_v - X b||^2`` for every column v.

    Parameters
    ----------
    X : (T, K) array_like
        Design, may be rank deficient.
    Y : (T, V) array
        Signal, any real dtype. Column v of the result depends on Y[:, v] alone; a column that is constant or
        holds a value that is not finite gives NaN.
    scans : (T,) array_like of int, optional
        Number of each row's scan (`kernels.noise.segments`); by default none is left out. OLS does not depend on them.
    percent : bool
        Fit ``100 (y / mean - 1)``; NaN where the mean is not positive.

    Raises
    ------
    DesignError
        Where X and Y do not have the same rows, or no degrees of freedom are left.
    """
    design = lag_design(X, segments_of(scans, len(Y), stationary=True))

    def solve(voxels: slice) -> BlockFit:
        sums = lag_sums(design, Y[:, voxels], percent=percent)
        rss = sums.ss[:, 0]
        return BlockFit(sums.gamma, rss, np.empty((0, rss.size)), _lost(sums), rss, sums.total)

    return _fit(design, Y.shape[1], 0, block_size(design), solve)


def fit_ar1(
    X: ArrayLike,
    Y: NDArray[Any],
    *,
    scans: ArrayLike | None = None,
    percent: bool = False,
    noise: FloatArray | None = None,
) -> GLSFit:
    """Maximise the restricted likelihood of ``Y_v = X b + e`` with e stationary AR(1), also across gaps.

    rho is the best value of `RHO_GRID` (step 0.01), or that nearest to `noise` (1, V) where it is given; beta and
    sigma2 are exact at it. Other parameters, NaN rules and errors as `fit_ols`. Source: Patterson and Thompson 1971
    (REML); docs/explanation/statistics.md.
    """
    design = lag_design(X, segments_of(scans, len(Y), stationary=True))
    inverse = grid_inverse(design)
    weights = reml_weights(design, inverse)

    def solve(voxels: slice) -> BlockFit:
        sums = lag_sums(design, Y[:, voxels], percent=percent)
        index = reml_index(sums, inverse, weights) if noise is None else grid_index(noise[0, voxels])
        return _solve_sums(sums, inverse, index)

    return _fit(design, Y.shape[1], 1, block_size(design), solve, noise)


def fit_ar1_yule_walker(
    X: ArrayLike,
    Y: NDArray[Any],
    *,
    scans: ArrayLike | None = None,
    percent: bool = False,
    noise: FloatArray | None = None,
) -> GLSFit:
    """Whiten as nilearn does: rho by Yule-Walker on OLS residuals, cut toward zero to 0.01, zero start.

    ``rho = (sum_t r_t r_{t-1} / (T - S)) / (sum_t r_t^2 / T)`` for S segments, kept within +-0.99. nilearn
    also takes from the residuals their mean over all voxels, which is zero when the design holds the
    constant; without it nilearn's numbers depend on which voxels are fitted together, these do not. Biased
    toward zero by the design: `fit_ar1` is not. Parameters, NaN rules and errors as `fit_ar1`.
    """
    design = lag_design(X, segments_of(scans, len(Y), stationary=False))
    inverse = grid_inverse(design)
    T = design.segments.n_rows
    unbias = T / max(T - design.segments.starts.size, 1)

    def estimate(sums: LagSums) -> NDArray[np.int64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            rho = np.nan_to_num(unbias * sums.ss[:, 1] / (2 * sums.ss[:, 0]), posinf=0.0, neginf=0.0)
        return np.clip(np.trunc(100 * rho).astype(np.int64) + 99, 0, RHO_GRID.size - 1)

    def solve(voxels: slice) -> BlockFit:
        sums = lag_sums(design, Y[:, voxels], percent=percent)
        index = estimate(sums) if noise is None else grid_index(noise[0, voxels])
        return _solve_sums(sums, inverse, index)

    return _fit(design, Y.shape[1], 1, block_size(design), solve, noise)


def fit_ar(
    order: int,
    X: ArrayLike,
    Y: NDArray[Any],
    *,
    scans: ArrayLike | None = None,
    percent: bool = False,
    noise: FloatArray | None = None,
) -> GLSFit:
    """Maximise the restricted likelihood with e stationary AR(`order`), also across gaps (`kernels.noise.ar_reml`).

    Parameters, NaN rules and errors as `fit_ar1`; DesignError too where a series is shorter than the order.
    """
    design = ar_design(X, order, scans, len(Y))

    def solve_known(voxels: slice, R: Residuals, known: NDArray[np.int64]) -> _Corrections:
        sums = ar_sums(design, R.unit[known])
        phi = ar_reml(design, sums) if noise is None else noise[:, voxels].T[known]
        rank = design.base.rank
        delta, rss = np.empty((known.size, rank)), np.empty(known.size)
        for batch in sub_blocks(known.size, batch_size(design)):
            solved = solve_ar(design, ArSums(*(part[batch] for part in sums)), phi[batch])
            delta[batch], rss[batch] = solved.delta[:, :rank], solved.rss
        return delta, rss, phi.T

    size = block_size(design.base, len(design.weights) * design.size)
    solve = partial(_solve_residuals, design.base, Y, percent, order, solve_known)
    return _fit(design.base, Y.shape[1], order, size, solve, noise)


def fit_arma11(
    X: ArrayLike,
    Y: NDArray[Any],
    *,
    scans: ArrayLike | None = None,
    percent: bool = False,
    noise: FloatArray | None = None,
) -> GLSFit:
    """Maximise the restricted likelihood with e stationary ARMA(1, 1), also across gaps (`kernels.noise.arma_reml`).

    (a, b) is a point of `ARMA_GRID`, the nearest to `noise` (2, V) where it is given. Other parameters, NaN rules and
    errors as `fit_ols`.
    """
    design = lag_design(X, segments_of(scans, len(Y), stationary=True))
    grid = ArmaGrid(design)

    def solve_known(voxels: slice, R: Residuals, known: NDArray[np.int64]) -> _Corrections:
        unit = np.ascontiguousarray(R.unit[known].T)
        index = arma_reml(grid, unit) if noise is None else arma_index(*noise[:, voxels][:, known])
        return *solve_arma(grid, unit, index), ARMA_GRID[index].T

    solve = partial(_solve_residuals, design, Y, percent, 2, solve_known)
    return _fit(design, Y.shape[1], 2, search_voxels(len(Y)), solve, noise)


def _solve_sums(sums: LagSums, inverse: GridInverse, index: NDArray[np.int64]) -> BlockFit:
    """Fit one sub-block at ``RHO_GRID[index]``."""
    rss, moved = solve_on_grid(sums, inverse, index)
    return BlockFit(sums.gamma, rss, RHO_GRID[index][None], _lost(sums), sums.ss[:, 0] + moved, sums.total)


def _lost(sums: LagSums) -> NDArray[np.bool_]:
    return sums.perfect | ~np.isfinite(sums.ss[:, 0])


def _solve_residuals(
    design: LagDesign, Y: NDArray[Any], percent: bool, m: int, solve_known: _KnownSolver, voxels: slice
) -> BlockFit:
    """Fit one sub-block by what `solve_known` adds to least squares where there is noise."""
    R = ols_residuals(design, Y[:, voxels], percent=percent)
    known = np.flatnonzero(~R.lost)
    noise, rss = np.full((m, R.lost.size), np.nan), np.full(R.lost.size, np.nan)
    delta, whitened, noise[:, known] = solve_known(voxels, R, known)
    R.gamma[known] += delta * R.length[known, None]
    squares = R.length**2
    rss[known] = whitened * squares[known]
    squares[known] *= 1.0 + (delta**2).sum(axis=1)
    return BlockFit(R.gamma, rss, noise, R.lost, squares, R.total)


def _fit(design: LagDesign, V: int, m: int, size: int, solve: Solver, given: FloatArray | None = None) -> GLSFit:
    """Run `solve` over sub-blocks of voxels; voxels without a value of the `given` noise are lost too."""
    fit = GLSFit(np.empty((design.back.shape[0], V)), np.empty(V), np.empty((m, V)), np.empty(V))
    for voxels in sub_blocks(V, size):
        found = solve(voxels)
        lost = found.lost if given is None else found.lost | ~np.isfinite(given[:, voxels]).all(axis=0)
        np.matmul(design.back, found.gamma.T, out=fit.beta[:, voxels])
        fit.sigma2[voxels] = np.where(lost, np.nan, found.rss / design.dof)
        fit.noise[:, voxels] = np.where(lost, np.nan, found.noise)
        with np.errstate(invalid="ignore", divide="ignore"):  # of voxels without a number, or below 1e-154
            fit.r_squared[voxels] = 1.0 - found.left / found.total
    return fit
