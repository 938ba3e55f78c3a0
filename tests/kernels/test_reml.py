"""REML on the grid against all 199 points, in lag sums and in full matrices."""

from __future__ import annotations

import numpy as np
import pytest
from ar1_oracle import log_reml, noise

from voxloom.kernels.glm import fit_ar1
from voxloom.kernels.lag_sums import lag_sums
from voxloom.kernels.lags import lag_design, segments_of
from voxloom.kernels.reml import reml_index, reml_weights
from voxloom.kernels.rho_grid import RHO_GRID, grid_index, grid_inverse, solve_on_grid


def design_of(K, T=150, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.standard_normal((T, K - 1)).cumsum(axis=0), np.ones(T)])


@pytest.mark.parametrize(("K", "starts"), [(5, (0,)), (20, (0, 10, 11, 30)), (35, (0,))])
def test_rho_maximises_the_restricted_likelihood(K, starts):
    rng, X = np.random.default_rng(1), design_of(K, 60)
    Y = noise(rng, rng.uniform(-0.5, 0.95, 12), 60, 12) + 50
    fit = fit_ar1(X, Y, segments=starts)
    for v in range(12):
        profile = [log_reml(X, Y[:, v], rho, starts) for rho in RHO_GRID]
        assert fit.noise[0][v] == RHO_GRID[np.argmax(profile)]


@pytest.mark.parametrize("K", [5, 33, 60])
@pytest.mark.parametrize("starts", [(0,), (0, 40, 90)])
def test_search_finds_the_best_of_all_grid_points(K, starts):
    rho = np.repeat([-0.5, 0.0, 0.3, 0.6, 0.8, 0.95], 500)
    found, best, _ = searched(noise(np.random.default_rng(K), rho, 150, 3000), K, starts)
    np.testing.assert_array_equal(found, best)


def test_search_finds_the_lower_of_two_valleys():
    """Among these is a voxel whose best coarse point lies 21 steps from the best of all points."""
    found, best, every = searched(noise(np.random.default_rng(2), 0.95, 150, 3000), 50, (0,))
    np.testing.assert_array_equal(found, best)
    two = (np.diff(np.sign(np.diff(every, axis=0)), axis=0) > 0).sum(axis=0) > 1
    assert two.sum() > 50


def searched(Y, K, starts):
    """Index found, index of the least of all 199 points, and the criterion at all of them."""
    design = lag_design(design_of(K), segments_of(starts, 150, stationary=True))
    inverse, sums = grid_inverse(design), lag_sums(design, Y)
    weights = reml_weights(design, inverse)
    cases = np.ones(Y.shape[1], dtype=np.int64)
    every = [w * solve_on_grid(sums, inverse, g * cases) for g, w in enumerate(weights)]
    return reml_index(sums, inverse, weights), np.argmin(every, axis=0), np.array(every)


def test_rho_is_unbiased_where_yule_walker_is_not():
    """Mean over voxels within 0.02 of the truth, with 33 columns of 150 (nilearn's rule: 0.18 for 0.6)."""
    Y = noise(np.random.default_rng(3), 0.6, 150, 4000)
    assert abs(fit_ar1(design_of(33), Y).noise[0].mean() - 0.6) < 0.02


def test_grid_index_finds_each_value():
    np.testing.assert_array_equal(grid_index(RHO_GRID), np.arange(199))
    np.testing.assert_array_equal(grid_index(np.array([np.nan, 2.0])), [0, 198])
