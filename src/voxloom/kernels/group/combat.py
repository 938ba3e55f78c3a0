"""ComBat: location and scale of every site, shrunken over voxels, taken from maps (Johnson 2007; Fortin 2018).

At every voxel ``y = alpha + x b + gamma_site + delta_site e``. Data are standardised by least squares with the sites
in the design; a site's gamma and delta^2 there are shrunken toward what they are over all voxels, by a normal and an
inverse gamma prior whose parameters are moments over voxels. So this is two passes with a small sum over the whole
map between them: what a voxel tells (`describe`), the priors (`priors`), and the shrunken values (`shrink`), which
depend on a voxel's own alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.group.patterns import solve_by_pattern
from voxloom.kernels.linalg import NO_VARIANCE, reduce_design

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.group.patterns import BoolArray, Solve

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Values are found when none of them changes by more than this part.
RTOL = 1e-10
MAX_STEPS = 1000


class Described(NamedTuple):
    """What the maps tell at every voxel; NaN where it cannot be told.

    Attributes
    ----------
    mean : (V,) array
        Mean of the sites, weighted by their maps.
    beta : (K, V) array
        Coefficients of the covariates that are kept.
    sigma : (V,) array
        Pooled standard deviation.
    gamma, delta2 : (S, V) arrays
        Mean and variance of the standardised maps of each site.
    n : (S, V) array
        Maps of each site.
    """

    mean: FloatArray
    beta: FloatArray
    sigma: FloatArray
    gamma: FloatArray
    delta2: FloatArray
    n: FloatArray


class Priors(NamedTuple):
    """Moments over voxels, (S,): gamma is normal (mean, tau2), delta^2 inverse gamma (shape, scale)."""

    mean: FloatArray
    tau2: FloatArray
    shape: FloatArray
    scale: FloatArray


def describe(
    X: FloatArray,
    Y: NDArray[np.floating],
    sites: IntArray,
    n_sites: int,
    pattern: NDArray[np.int32],
    present: BoolArray,
) -> Described:
    """Standardise maps and take what is left in each site.

    NaN where a site that is there has fewer than two maps, covariates and sites cannot be told apart, or no variance
    is left.

    Parameters
    ----------
    X : (n, K) array
        Covariates whose effects are kept, without a constant.
    Y : (n, V) array
        Not finite where missing.
    sites : (n,) array of int
        0 .. n_sites - 1.
    n_sites : int
    pattern : (V,) array of int
    present : (patterns, n) array of bool
        From `group_patterns`.
    """

    def prepare(rows: BoolArray) -> Solve | None:
        of_map = sites[rows]
        count = np.bincount(of_map, minlength=n_sites).astype(np.float64)
        there = np.flatnonzero(count)
        B = (of_map[:, None] == there).astype(np.float64)
        design = np.hstack([B, X[rows]])
        basis = reduce_design(design)
        if (count[there] < 2).any() or basis.rank < design.shape[1] or len(design) <= basis.rank:
            return None
        share = count[there] / count.sum()

        def solve(y: FloatArray) -> tuple[FloatArray, ...]:
            coefficients = basis.back @ (basis.Q.T @ y)
            mean, beta = share @ coefficients[: there.size], coefficients[there.size :]
            variance = np.square(y - design @ coefficients).mean(axis=0)
            variance = np.where(variance > NO_VARIANCE**2 * np.square(y).mean(axis=0), variance, np.nan)
            sigma = np.sqrt(variance)
            Z = (y - mean - X[rows] @ beta) / sigma
            gamma, delta2 = np.full((2, n_sites, y.shape[1]), np.nan)
            gamma[there] = (B / count[there]).T @ Z
            delta2[there] = (B.T @ np.square(Z - gamma[of_map])) / (count[there, None] - 1)
            return mean, beta, sigma, gamma, delta2, np.repeat(count[:, None], y.shape[1], axis=1)

        return solve

    S, K = n_sites, X.shape[1]
    return Described(*solve_by_pattern(prepare, [Y], pattern, present, [(), (K,), (), (S,), (S,), (S,)]))


def moments(gamma: FloatArray, delta2: FloatArray) -> FloatArray:
    """What voxels add to the sums that make `priors`, (5, S, V): 1, gamma, gamma^2, delta^2, delta^4; NaN adds 0."""
    there = np.isfinite(gamma) & np.isfinite(delta2)
    g, d = np.where(there, gamma, 0.0), np.where(there, delta2, 0.0)
    return np.array([there, g, g**2, d, d**2])


def priors(sums: FloatArray) -> Priors:
    """Prior of each site by the method of moments, from the sums of `moments` over voxels, (5, S)."""
    n, g, g2, d, d2 = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, m = g / n, d / n
        tau2, s2 = ((a2 - n * a**2) / (n - 1) for a2, a in ((g2, mean), (d2, m)))
        return Priors(mean, tau2, (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2)


def shrink(of: Described, prior: Priors) -> tuple[FloatArray, FloatArray]:
    """Posterior means gamma and delta^2 (S, V), each given the other, until they stay."""
    mean, tau2, shape, scale = (values[:, None] for values in prior)
    gamma, delta2 = of.gamma.copy(), of.delta2.copy()
    squares = (of.n - 1) * of.delta2
    for _ in range(MAX_STEPS):
        new = (of.n * tau2 * of.gamma + delta2 * mean) / (of.n * tau2 + delta2)
        spread = (scale + (squares + of.n * (of.gamma - new) ** 2) / 2) / (of.n / 2 + shape - 1)
        change = np.fmax(np.abs(new - gamma), np.abs(spread - delta2)) / np.fmax(delta2, spread)
        gamma, delta2 = new, spread
        if not (change > RTOL).any():
            break
    return gamma, delta2


def adjust(
    X: FloatArray, Y: NDArray[np.floating], sites: IntArray, of: Described, gamma: FloatArray, delta2: FloatArray
) -> FloatArray:
    """Maps without the location and scale of their sites, (n, V); rows may be others than those described."""
    kept = of.mean + X @ of.beta
    Z = (np.asarray(Y, dtype=np.float64) - kept) / of.sigma
    return np.asarray(of.sigma * (Z - gamma[sites]) / np.sqrt(delta2[sites]) + kept)
