"""REML on the grid against all 199 points, in lag sums and in full matrices."""

from __future__ import annotations

import numpy as np
import pytest
from ar1_oracle import log_reml, noise, scans_of

from voxloom.kernels.first_level.glm import fit_ar1
from voxloom.kernels.noise.lag_sums import lag_sums
from voxloom.kernels.noise.lags import lag_design
from voxloom.kernels.noise.reml import reml_index, reml_weights
from voxloom.kernels.noise.rho_grid import RHO_GRID, grid_index, grid_inverse, solve_on_grid
from voxloom.kernels.noise.segments import FAR, segments_of


def design_of(K, T=150, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.standard_normal((T, K - 1)).cumsum(axis=0), np.ones(T)])


SINGLE = np.setdiff1d(np.arange(180), np.arange(4, 180, 6))
BURSTS = np.setdiff1d(np.arange(190), np.array([5, 6, 30, 50, 51, 52, 80, 81, 100, 120, 121, *range(140, 169)]))[:150]


@pytest.mark.parametrize(
    ("K", "scans"),
    [
        (5, np.arange(60)),
        (20, scans_of((0, 10, 11, 30), 60)),
        (35, np.arange(60)),
        (5, SINGLE),
        (30, SINGLE),
        (5, BURSTS),
    ],
    ids=["one", "unrelated", "many columns", "crowded by single scans", "single scans", "crowded by bursts"],
)
def test_rho_maximises_the_restricted_likelihood(K, scans):
    rng, scans = np.random.default_rng(1), np.arange(60) if scans is None else scans[:60]
    X, Y = design_of(K, 60), noise(rng, rng.uniform(-0.5, 0.95, 12), scans[-1] % FAR + 1, 12)[scans % FAR] + 50
    fit = fit_ar1(X, Y, scans=scans)
    for v in range(12):
        profile = [log_reml(X, Y[:, v], rho, scans) for rho in RHO_GRID]
        assert fit.noise[0][v] == RHO_GRID[np.argmax(profile)]


@pytest.mark.parametrize("K", [5, 33, 60])
@pytest.mark.parametrize("scans", [None, scans_of((0, 40, 90), 150), SINGLE, BURSTS])
def test_search_finds_the_best_of_all_grid_points(K, scans):
    rho = np.repeat([-0.5, 0.0, 0.3, 0.6, 0.8, 0.95], 500)
    found, best, _ = searched(noise(np.random.default_rng(K), rho, 150, 3000), K, scans)
    np.testing.assert_array_equal(found, best)


def test_search_finds_the_lower_of_two_valleys():
    """Among these is a voxel whose best coarse point lies 21 steps from the best of all points."""
    found, best, every = searched(noise(np.random.default_rng(2), 0.95, 150, 3000), 50, None)
    np.testing.assert_array_equal(found, best)
    two = (np.diff(np.sign(np.diff(every, axis=0)), axis=0) > 0).sum(axis=0) > 1
    assert two.sum() > 50


def searched(Y, K, scans):
    """Index found, index of the least of all 199 points, and the criterion at all of them."""
    design = lag_design(design_of(K), segments_of(scans, 150, stationary=True))
    inverse, sums = grid_inverse(design), lag_sums(design, Y)
    weights = reml_weights(design, inverse)
    cases = np.ones(Y.shape[1], dtype=np.int64)
    every = [w * solve_on_grid(sums, inverse, g * cases)[0] for g, w in enumerate(weights)]
    return reml_index(sums, inverse, weights), np.argmin(every, axis=0), np.array(every)


def test_rho_is_unbiased_where_yule_walker_is_not():
    """Mean over voxels within 0.02 of the truth, with 33 columns of 150 (nilearn's rule: 0.18 for 0.6)."""
    Y = noise(np.random.default_rng(3), 0.6, 150, 4000)
    assert abs(fit_ar1(design_of(33), Y).noise[0].mean() - 0.6) < 0.02


def test_grid_index_finds_each_value():
    np.testing.assert_array_equal(grid_index(RHO_GRID), np.arange(199))
    np.testing.assert_array_equal(grid_index(np.array([np.nan, 2.0])), [0, 198])
