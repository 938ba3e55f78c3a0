"""ComBat against neuroCombat, and its laws."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest
from neuroCombat import neuroCombat

from voxloom.kernels.group.combat import adjust, describe, moments, priors, shrink
from voxloom.kernels.group.patterns import group_patterns, pattern_bits


def study(seed: int = 1, n_voxels: int = 60):
    rng = np.random.default_rng(seed)
    sites = np.repeat([0, 1, 2], [9, 12, 7])
    X = rng.standard_normal((28, 2))
    shift, spread = rng.standard_normal((3, n_voxels)) + np.array([[0], [1], [-2]]), rng.gamma(5, 0.2, (3, n_voxels))
    Y = 3 + X @ rng.standard_normal((2, n_voxels)) + shift[sites] + spread[sites] * rng.standard_normal((28, n_voxels))
    order = rng.permutation(28)
    return X[order], Y[order], sites[order]


def harmonised(X, Y, sites, n_sites=3):
    pattern, present = group_patterns(pattern_bits(Y), len(Y))
    of = describe(X, Y, sites, n_sites, pattern, present)
    return adjust(X, Y, sites, of, *shrink(of, priors(moments(of.gamma, of.delta2).sum(axis=2))))


@pytest.mark.filterwarnings("ignore")
def test_equal_to_neurocombat():
    X, Y, sites = study()
    table = pd.DataFrame({"site": sites, "a": X[:, 0], "b": X[:, 1]})
    with redirect_stdout(io.StringIO()):
        expected = neuroCombat(Y.T, table, "site", continuous_cols=["a", "b"])["data"].T
    # it stops at changes of 1e-4 of a value
    np.testing.assert_allclose(harmonised(X, Y, sites), expected, atol=2e-3)


def test_sites_that_differ_by_much_are_alike_afterwards():
    X, Y, sites = study(2, 2000)
    found = harmonised(X, Y, sites)
    rest = found - X @ np.linalg.lstsq(np.c_[np.ones(28), X], found)[0][1:]
    means = np.array([rest[sites == s].mean(axis=0) for s in range(3)])
    before = np.array([Y[sites == s].mean(axis=0) for s in range(3)])
    assert np.ptp(means, axis=0).mean() < 0.15 * np.ptp(before, axis=0).mean()


def test_a_missing_map_is_left_out_of_its_voxel_alone():
    X, Y, sites = study(4)
    whole = harmonised(X, Y, sites)
    Y[3, 5] = np.nan
    found = harmonised(X, Y, sites)
    assert np.isnan(found[3, 5])
    others = np.arange(60) != 5
    np.testing.assert_allclose(found[:, others], whole[:, others], atol=0.05)  # by the priors alone


def test_a_site_of_one_map_has_no_scale():
    X, Y, sites = study(5)
    sites[:] = np.where(np.arange(28) == 0, 3, sites)
    assert np.isnan(harmonised(X, Y, sites, 4)).all()
