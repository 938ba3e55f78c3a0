"""Tails of a permutation null as distributions, for p below what counting can tell (Winkler et al. 2016).

The generalised Pareto tail (GPD) is fitted to the exceedances y over a threshold, the lowest of a series at which
Anderson and Darling's test passes: with their mean m and variance v, scale ``a = m (m^2 / v + 1) / 2``, shape
``k = (m^2 / v - 1) / 2`` and survival ``(1 - k y / a)^(1 / k)``. The gamma tail (Pearson III) has mean, variance and
skewness of the whole null. Either replaces only p below `REPLACED`; counting is as good above.

A tail with k > 0 ends at a / k and says p = 0 beyond (in a quarter of fits to 500 rearrangements where p was 1e-5), but
its end is an estimate, and the observed order is a rearrangement that reaches the statistic. So a tail that ends is
believed down to ``1 / (BEYOND J)`` of J rearrangements. Below, p is at least that of the lightest tail without an end,
the exponential of the same mean (for gamma: the normal of the same mean and variance), or that limit where it is less.
And p is never below one of all distinct rearrangements, the least that a permutation p can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from scipy import special

from voxloom.kernels.tails import P_FLOOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Tail = Literal["gpd", "gamma"]
Status = Literal["fitted", "no threshold passed", "null without spread"]

#: Only p below this are replaced.
REPLACED = 0.10
#: Quantiles at which thresholds of the GPD are tried.
QUANTILES: FloatArray = np.arange(751, 1000, 10) / 1000
#: A tail that ends is believed to this many times the resolution of counting.
BEYOND = 10
#: Skewness nearer to 0 is taken as this: the gamma function of the shape, 4 / skewness^2, would lose digits.
LEAST_SKEWNESS = 1e-3
#: A^2 that has p = 0.05, by shape (Choulakian and Stephens 2001, table 2, both parameters estimated): a fit passes
#: below. The rows of longer tails, where more would pass (0.974 at k = 0), are left out, as PALM's search has it.
AD_SHAPE, AD_CRITICAL = (0.5, 0.9), (0.830, 0.771)


class TailFit(NamedTuple):
    """A tail fitted to a null.

    Attributes
    ----------
    tail : "gpd" or "gamma"
    status : str
        ``"fitted"``, or why there is none; p are then those of counting.
    n_perm : int
        Values of the null.
    n_exceedances : int
        Values of the null in the tail.
    threshold : float
        Where the tail begins: u of GPD, -inf for gamma.
    mean, sd : float
        Of the exceedances over u; for gamma of the null.
    shape, scale : float
        k and a of GPD; of Pearson III, the scale negative where the skewness is.
    """

    tail: Tail
    status: Status
    n_perm: int
    n_exceedances: int = 0
    threshold: float = np.nan
    mean: float = np.nan
    sd: float = np.nan
    shape: float = np.nan
    scale: float = np.nan

    @property
    def ends(self) -> bool:
        """Whether there is a statistic that the tail gives p = 0."""
        return self.shape > 0 if self.tail == "gpd" else self.scale < 0


class TailP(NamedTuple):
    """Replaced p of statistics, each (V,); `bounded`: the tail ends there or before, and p is that of the floor."""

    p: FloatArray
    replaced: NDArray[np.bool_]
    bounded: NDArray[np.bool_]


def fit_tail(null: FloatArray, tail: Tail) -> TailFit:
    """Fit a tail to the values of a null, the observed one among them.

    Parameters
    ----------
    null : (J,) array
        -inf (nothing could be tested) counts as the least of the others.
    tail : "gpd" or "gamma"
    """
    null = np.sort(np.asarray(null, dtype=np.float64))
    finite = null[np.isfinite(null)]
    if finite.size < 2 or finite[0] == finite[-1]:
        return TailFit(tail, "null without spread", null.size)
    return _FITS[tail](np.maximum(null, finite[0]))


def _fit_gpd(null: FloatArray) -> TailFit:
    reached = np.searchsorted(null, null, side="right") / null.size
    tried = 0
    for first in np.searchsorted(reached, QUANTILES):
        if first == tried or first > null.size - 2:
            continue
        tried = first
        u = (null[first] + null[first - 1]) / 2
        y = null[first:] - u
        mean, sd = y.mean(), y.std(ddof=1)
        if sd == 0:
            continue
        ratio = (mean / sd) ** 2
        fit = TailFit("gpd", "fitted", null.size, y.size, u, mean, sd, (ratio - 1) / 2, mean * (ratio + 1) / 2)
        passes = float(np.interp(fit.shape, AD_SHAPE, AD_CRITICAL))
        if anderson_darling(1 - _gpd_survival(fit, null[first:])) < passes:
            return fit
    return TailFit("gpd", "no threshold passed", null.size)


def anderson_darling(z: FloatArray) -> float:
    """A^2 of increasing values of a distribution function; infinite where one is 0 or 1."""
    odd = 2 * np.arange(1, z.size + 1) - 1
    with np.errstate(divide="ignore"):
        return float(-z.size - np.mean(odd * (np.log(z) + np.log1p(-z[::-1]))))


def _fit_gamma(null: FloatArray) -> TailFit:
    mean, sd = null.mean(), null.std()
    skewness = np.mean(((null - mean) / sd) ** 3)
    skewness = np.copysign(max(abs(skewness), LEAST_SKEWNESS), skewness)
    return TailFit("gamma", "fitted", null.size, null.size, -np.inf, mean, sd, 4 / skewness**2, sd * skewness / 2)


def tail_p(fit: TailFit, stat: FloatArray, p: FloatArray, least: float = P_FLOOR) -> TailP:
    """Replace p of counting below `REPLACED` by those of the tail.

    Parameters
    ----------
    fit : TailFit
    stat : (V,) array
        On the scale of the null.
    p : (V,) array
        By counting; NaN stays.
    least : float
        One of all distinct rearrangements.
    """
    replaced = (p < REPLACED) & (stat > fit.threshold)
    bounded = np.zeros_like(replaced)
    if fit.status != "fitted" or not replaced.any():
        return TailP(p, np.zeros_like(replaced), bounded)
    share, x = fit.n_exceedances / fit.n_perm, stat[replaced]
    by_tail = share * _SURVIVALS[fit.tail](fit, x)
    if fit.ends:
        floor = np.minimum(share * _LIGHTEST[fit.tail](fit, x), 1 / (BEYOND * fit.n_perm))
        bounded[replaced] = by_tail <= floor
        by_tail = np.maximum(by_tail, floor)
    out = p.copy()
    out[replaced] = np.maximum(by_tail, max(least, P_FLOOR))
    return TailP(out, replaced, bounded)


def _gpd_survival(fit: TailFit, x: FloatArray) -> FloatArray:
    y = (x - fit.threshold) / fit.scale
    if fit.shape == 0:
        return np.asarray(np.exp(-y))
    return np.asarray(np.maximum(1 - fit.shape * y, 0) ** (1 / fit.shape))


def _gamma_survival(fit: TailFit, x: FloatArray) -> FloatArray:
    y = np.maximum((x - fit.mean) / fit.scale + fit.shape, 0)
    return np.asarray((special.gammaincc if fit.scale > 0 else special.gammainc)(fit.shape, y))


#: What each tail is made of: its fit, its survival, and that of the lightest tail without an end.
_FITS: dict[str, Callable[[FloatArray], TailFit]] = {"gpd": _fit_gpd, "gamma": _fit_gamma}
_SURVIVALS: dict[str, Callable[[TailFit, FloatArray], FloatArray]] = {"gpd": _gpd_survival, "gamma": _gamma_survival}
_LIGHTEST: dict[str, Callable[[TailFit, FloatArray], FloatArray]] = {
    "gpd": lambda fit, x: np.exp(-(x - fit.threshold) / fit.mean),
    "gamma": lambda fit, x: special.ndtr(-(x - fit.mean) / fit.sd),
}
