"""Psychophysiological interactions: brute force, and couplings whose truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from voxloom.errors import ContrastError, DesignError
from voxloom.kernels.design.convolve import convolve_events, fine_grid, place_events
from voxloom.kernels.design.deconvolve import deconvolve, observe, observed_cosines
from voxloom.kernels.design.hrf import HrfBasis, hrf_kernels
from voxloom.models.design.matrix import design_matrix, frame_times
from voxloom.models.design.ppi import ppi_regressors

T_R, N = 2.0, 240
TIMES = frame_times(N, T_R, 0.5)
GRID = fine_grid(TIMES, oversampling=16)
KERNEL = hrf_kernels("spm", GRID.t_r, 16).kernels[0]


def dense(grid, kernel):
    """What each point of the fine grid does to the frames."""
    return np.stack([observe(row, kernel, grid) for row in np.eye(grid.times.size)], axis=1)


def cosines(points, n):
    at = (np.arange(points)[:, np.newaxis] + 0.5) * np.arange(n) * np.pi / points
    C = np.cos(at)
    return C / np.linalg.norm(C, axis=0)


def test_placed_and_observed_events_are_convolved_events():
    rng = np.random.default_rng(0)
    events = rng.uniform(-20, 480, 40), rng.exponential(3, 40) * rng.integers(0, 2, 40), rng.standard_normal(40)
    basis = HrfBasis([KERNEL], [""], orthogonal=False)
    ours = observe(place_events(*events, GRID.times), KERNEL, GRID)
    np.testing.assert_allclose(ours, convolve_events(*events, basis, GRID)[:, 0], atol=1e-12)


@pytest.mark.parametrize("length", [1, 30, 400])
def test_observed_cosines_equal_matrices(length):
    rng = np.random.default_rng(1)
    grid, kernel = fine_grid(np.arange(70) * 1.3, oversampling=5, min_onset=-11), rng.standard_normal(length)
    expected = dense(grid, kernel) @ cosines(grid.times.size, 70)
    np.testing.assert_allclose(observed_cosines(kernel, grid), expected, atol=1e-10)


def test_deconvolution_equals_the_ridge_whose_penalty_has_the_highest_restricted_likelihood():
    """Everything dense, the likelihood as the density of contrasts of the series that are free of confounds."""
    rng = np.random.default_rng(2)
    grid = fine_grid(np.arange(60) * 2.0, oversampling=4)
    kernel = hrf_kernels("spm", 2.0, 4).kernels[0]
    Z = np.column_stack([np.ones(60), np.arange(60.0)])
    C = cosines(grid.times.size, 60)
    A = dense(grid, kernel) @ C
    y = A @ rng.standard_normal(60) + 0.3 * rng.standard_normal(60) + Z @ [5.0, 0.1]
    found = deconvolve(y, kernel, grid, Z)
    free = np.linalg.svd(Z)[0][:, 2:].T  # rows orthogonal to Z
    M, u = free @ A, free @ y

    def likelihood(ratio):
        V = np.eye(58) + ratio * M @ M.T
        scale = u @ np.linalg.solve(V, u) / 58
        return stats.multivariate_normal.logpdf(u, cov=scale * V)

    b = np.linalg.solve(M.T @ M + np.eye(60) / found.ratio, M.T @ u)
    np.testing.assert_allclose(found.course, C @ b, atol=1e-8)
    others = found.ratio * np.logspace(-6, 6, 601)
    assert likelihood(found.ratio) >= max(map(likelihood, others)) - 1e-8


def test_pure_noise_is_deconvolved_to_nothing_and_a_clean_series_to_itself():
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(N)
    assert np.std(deconvolve(noise, KERNEL, GRID, np.ones((N, 1))).course) < 0.3
    activity = place_events(np.arange(10, 450, 37.0), np.full(12, 6.0), np.ones(12), GRID.times)
    clean = observe(activity, KERNEL, GRID)
    course = deconvolve(clean + 0.001 * noise, KERNEL, GRID, np.ones((N, 1))).course
    assert np.corrcoef(course, activity)[0, 1] > 0.9


def study(duration, seed):
    """A region whose activity drives another, more so during `face`: events, seed series, target series."""
    rng = np.random.default_rng(seed)
    onset = np.arange(4, 460, duration + 8.0) + rng.uniform(0, 3, len(np.arange(4, 460, duration + 8.0)))
    events = pd.DataFrame({"onset": onset, "duration": duration})
    events["trial_type"] = rng.permuted(np.resize(["face", "house"], len(events)))
    sign = events["trial_type"].map({"face": 1.0, "house": -1.0})
    p = place_events(onset, events["duration"], sign, GRID.times)
    steps = rng.standard_normal(GRID.times.size)
    # activity that wanders over some seconds, so that a scanner can see it
    x = np.convolve(steps, np.exp(-np.arange(0, 15, T_R / 16) / 2.0))[: steps.size]
    x *= 4 / x.std()
    series, target = observe(x, KERNEL, GRID), observe(0.5 * x + COUPLING * p * x, KERNEL, GRID)
    noise = 0.05 * series.std() * rng.standard_normal((2, N))
    return events, 100 + series + noise[0], 50 + target + 2 * noise[1]


COUPLING = 0.4


def recovered(duration, seed, **options):
    events, series, target = study(duration, seed)
    ppi = ppi_regressors(series, events, TIMES, psychological="face - house", **options)
    X = design_matrix(TIMES, add_regs=ppi, drift_model=None)
    return np.linalg.lstsq(X.to_numpy(), target, rcond=None)[0][X.columns.get_loc("interaction")]


def test_a_known_coupling_is_recovered_where_the_simple_product_is_not():
    """Measured: 0.399 and 0.354 of 0.4."""
    with_, without = (np.mean([recovered(10.0, seed, deconvolve=d) for seed in range(8)]) for d in (True, False))
    assert abs(with_ - COUPLING) < 0.02
    assert abs(without - COUPLING) > 0.03


def test_no_coupling_gives_none():
    rng = np.random.default_rng(5)
    values = []
    for seed in range(20):
        events, series, _ = study(8.0, seed)
        ppi = ppi_regressors(series, events, TIMES, psychological={"face": 1, "house": -1})
        X = np.column_stack([ppi, np.ones(N)])
        noise = rng.standard_normal(N)
        b, rss, *_ = np.linalg.lstsq(X, noise, rcond=None)
        values.append(b[2] / np.sqrt(rss[0] / (N - 4) * np.linalg.inv(X.T @ X)[2, 2]))
    assert abs(np.mean(values)) < 3 / np.sqrt(20)
    assert max(map(abs, values)) < 4


def test_the_simple_product_is_that_of_nilearns_columns():
    events, series, _ = study(10.0, 0)
    ppi = ppi_regressors(series, events, TIMES, psychological="face - house", deconvolve=False, oversampling=50)
    X = design_matrix(TIMES, events, drift_model=None)
    p = X["face"] - X["house"]
    p, seed = p - p.mean(), series - series.mean()
    np.testing.assert_allclose(ppi["interaction"], p * seed, atol=1e-9)
    np.testing.assert_allclose(ppi["physiological"], seed, atol=1e-12)
    np.testing.assert_allclose(ppi["psychological"] - ppi["psychological"].mean(), p, atol=0.03)


def test_the_unit_of_the_seed_is_that_of_the_interaction_and_its_level_counts_for_nothing():
    events, series, _ = study(6.0, 1)
    one, other = (ppi_regressors(s, events, TIMES, psychological="face") for s in (series, 7 * series - 300))
    np.testing.assert_allclose(other["interaction"], 7 * one["interaction"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(other["psychological"], one["psychological"])


def test_confounds_leave_the_seed():
    events, series, _ = study(6.0, 1)
    drift = pd.DataFrame({"x": np.linspace(-1, 1, N)})
    one, other = (
        ppi_regressors(s, events, TIMES, psychological="face", confounds=drift)
        for s in (series, series + 40 * drift["x"].to_numpy())
    )
    pd.testing.assert_frame_equal(one, other, rtol=1e-5, atol=1e-6)


def test_bad_input():
    events, series, _ = study(6.0, 1)
    ask = {"events": events, "frame_times": TIMES, "psychological": "face"}
    gap = np.where(np.arange(N) == 3, np.nan, series)
    for changed, kind, message in (
        ({"seed": series[:-1]}, DesignError, r"the seed has shape \(239,\), not \(240,\)"),
        ({"seed": np.ones(N)}, DesignError, "the seed is constant"),
        ({"seed": gap}, DesignError, "not finite"),
        ({"psychological": "fase"}, ContrastError, "Did you mean 'face'"),
        ({"psychological": {"fase": 1}}, DesignError, r"no events of \['fase'\]"),
        ({"psychological": {"face": 0}}, DesignError, "does not vary"),
        ({"hrf_model": "spm + derivative"}, DesignError, "has 2 parts"),
        ({"confounds": np.ones(5)}, DesignError, "confounds have 5 rows"),
    ):
        with pytest.raises(kind, match=message):
            ppi_regressors(**({"seed": series} | ask | changed))
