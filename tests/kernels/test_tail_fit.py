"""Fitted tails against scipy's distributions, and what is said where a fit fails or ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from voxloom.kernels.permutation.tail_fit import BEYOND, REPLACED, anderson_darling, fit_tail, tail_p

SHAPES = {"uniform": 1.0, "bounded": 0.3, "exponential": 0.0, "long": -0.3}


def gpd_null(shape: float, n: int = 4000, seed: int = 0) -> np.ndarray:
    return 3 + stats.genpareto.rvs(-shape, scale=2, size=n, random_state=seed)


def counted(stat: np.ndarray, null: np.ndarray) -> np.ndarray:
    return np.maximum((null >= stat[:, None]).sum(axis=1), 1) / null.size


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gpd_finds_the_shape_and_gives_scipys_tail(shape):
    null = gpd_null(shape, 40_000)
    fit = fit_tail(null, "gpd")
    assert fit.status == "fitted"
    assert fit.n_exceedances == (null > fit.threshold).sum()
    # a GPD beyond a threshold is one of the same shape
    np.testing.assert_allclose(fit.shape, shape, atol=0.08)
    stat = np.quantile(null, [0.95, 0.99, 0.999])
    found = tail_p(fit, stat, counted(stat, null))
    tail = stats.genpareto.sf(stat - fit.threshold, -fit.shape, scale=fit.scale)
    np.testing.assert_allclose(found.p, fit.n_exceedances / null.size * tail, rtol=1e-10)
    np.testing.assert_allclose(found.p, [0.05, 0.01, 0.001], rtol=0.25)


def test_gpd_has_mean_and_variance_of_the_exceedances():
    null = gpd_null(0.3)
    fit = fit_tail(null, "gpd")
    y = null[null > fit.threshold] - fit.threshold
    moments = stats.genpareto.stats(-fit.shape, scale=fit.scale, moments="mv")
    np.testing.assert_allclose(moments, [y.mean(), y.var(ddof=1)], rtol=1e-10)


@pytest.mark.parametrize("draw", [stats.gumbel_r(4, 0.5), stats.gamma(9), stats.gumbel_l(4, 0.5), stats.norm(3, 1)])
def test_gamma_is_scipys_pearson_3_of_the_same_moments(draw):
    null = draw.rvs(2000, random_state=0)
    skewness = stats.skew(null)
    stat = np.quantile(null, [0.92, 0.99, 0.999])
    found = tail_p(fit_tail(null, "gamma"), stat, counted(stat, null))
    expected = stats.pearson3.sf(stat, skewness, loc=null.mean(), scale=null.std())
    np.testing.assert_allclose(found.p[~found.bounded], expected[~found.bounded], rtol=1e-8)
    assert not found.bounded[:2].any()


def test_gamma_without_skewness_is_normal():
    null = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
    stat = np.array([1.5, 2.5, 3.0])
    found = tail_p(fit_tail(null, "gamma"), stat, counted(stat, null))
    np.testing.assert_allclose(found.p, stats.norm.sf(stat / null.std()), rtol=0.02)


def test_anderson_darling_is_its_integral():
    """A^2 = n times the integral of (F_n(z) - z)^2 / (z (1 - z)) over (0, 1)."""
    z = np.sort(np.random.default_rng(0).uniform(0.01, 0.99, 12))
    steps = [0, *z, 1]
    parts = [
        integrate.quad(lambda x, k=k: (k / z.size - x) ** 2 / (x * (1 - x)), steps[k], steps[k + 1])[0]
        for k in range(z.size + 1)
    ]
    np.testing.assert_allclose(anderson_darling(z), z.size * sum(parts), rtol=1e-8)


@pytest.mark.parametrize("tail", ["gpd", "gamma"])
def test_only_small_p_are_replaced_and_nan_stays(tail):
    null = gpd_null(-0.1)
    stat = np.append(np.quantile(null, [0.2, 0.85, 0.95]), np.nan)
    p = np.append(counted(stat[:3], null), np.nan)
    found = tail_p(fit_tail(null, tail), stat, p)
    np.testing.assert_array_equal(found.replaced, [False, False, True, False])
    np.testing.assert_array_equal(found.p[~found.replaced], p[~found.replaced])
    assert found.p[2] != p[2] < REPLACED


@pytest.mark.parametrize(("tail", "null"), [("gpd", gpd_null(1.0, 500)), ("gamma", -gpd_null(-0.05, 500))])
def test_beyond_the_end_of_a_tail_p_is_a_floor_and_told(tail, null):
    fit = fit_tail(null, tail)
    assert fit.ends
    stat = null.max() + np.array([0.0, 1.0, 5.0, 50.0, 1e4])
    found = tail_p(fit, stat, np.full(5, 1 / 500))
    assert found.bounded[1:].all()
    assert (found.p > 0).all()
    assert (np.diff(found.p) <= 0).all()
    assert found.p[1:].max() <= 1 / (BEYOND * null.size)
    # never below one of all distinct rearrangements
    assert tail_p(fit, stat, np.full(5, 1 / 500), least=1e-6).p.min() == 1e-6


def test_a_tail_without_an_end_is_never_floored():
    null = gpd_null(-0.2, 500)
    fit = fit_tail(null, "gpd")
    assert not fit.ends
    stat = np.array([1e2, 1e4, 1e8])
    found = tail_p(fit, stat, np.full(3, 1 / 500))
    assert not found.bounded.any()
    assert (found.p > 0).all()


@pytest.mark.parametrize("tail", ["gpd", "gamma"])
@pytest.mark.parametrize("null", [np.full(200, 3.0), np.full(200, -np.inf), np.array([2.0])])
def test_a_null_without_spread_keeps_the_counts(tail, null):
    fit = fit_tail(null, tail)
    assert fit.status == "null without spread"
    found = tail_p(fit, np.array([3.0]), np.array([0.02]))
    assert found.p == 0.02
    assert not found.replaced.any()


def test_a_null_that_is_no_pareto_at_any_threshold_says_so_and_keeps_the_counts():
    """Two values alone: the exceedances over any threshold have no spread, or are two lumps."""
    null = np.repeat([1.0, 2.0, 9.0], [400, 50, 50])
    fit = fit_tail(null, "gpd")
    assert fit.status == "no threshold passed"
    assert tail_p(fit, np.array([9.0]), np.array([0.01])).p == 0.01


def test_status_tells_fits_that_fail_from_those_that_pass_in_simulations():
    """Counts of few values, as small clusters have them, are no Pareto tail; a continuous null is one."""
    rng = np.random.default_rng(0)
    passed = {
        name: [fit_tail(draw(), "gpd").status == "fitted" for _ in range(40)]
        for name, draw in {
            "continuous": lambda: rng.gumbel(4, 0.5, 500),
            "coarse": lambda: rng.geometric(0.9, 500).astype(float),
        }.items()
    }
    assert all(passed["continuous"])
    assert np.mean(passed["coarse"]) < 0.1
