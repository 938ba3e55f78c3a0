"""Influence without refits equals leaving each map out and fitting again."""

from __future__ import annotations

import numpy as np
import statsmodels.api as sm

from voxloom.kernels.group.influence import influence, leverage
from voxloom.kernels.group.patterns import group_patterns, pattern_bits


def study(missing: float = 0.0):
    rng = np.random.default_rng(1)
    X = np.c_[np.ones(14), rng.standard_normal((14, 2))]
    Y = rng.standard_normal((14, 8)) + 2
    Y[rng.random(Y.shape) < missing] = np.nan
    pattern, present = group_patterns(pattern_bits(Y), 14)
    return X, Y, pattern, present


def test_statsmodels_finds_the_same_influence():
    X, Y, pattern, present = study()
    found = influence(X, Y, np.array([0.0, 1.0, 0.0]), pattern, present)
    for v, y in enumerate(Y.T):
        expected = sm.OLS(y, X).fit().get_influence()
        np.testing.assert_allclose(found.cooks_distance[:, v], expected.cooks_distance[0], rtol=1e-9)
        np.testing.assert_allclose(found.dfbeta[:, v], expected.dfbeta[:, 1], rtol=1e-9)
        np.testing.assert_allclose(found.dfbetas[:, v], expected.dfbetas[:, 1], rtol=1e-9)
        np.testing.assert_allclose(leverage(X, present)[0], expected.hat_matrix_diag, rtol=1e-9)


def test_change_of_a_contrast_is_that_of_a_fit_without_the_map():
    X, Y, pattern, present = study(missing=0.1)
    c = np.array([0.5, 1.0, -2.0])
    found = influence(X, Y, c, pattern, present)
    for v, y in enumerate(Y.T):
        rows = np.flatnonzero(np.isfinite(y))
        whole = c @ np.linalg.lstsq(X[rows], y[rows])[0]
        for i in rows:
            rest = rows[rows != i]
            without = c @ np.linalg.lstsq(X[rest], y[rest])[0]
            np.testing.assert_allclose(found.dfbeta[i, v], whole - without, rtol=1e-8, atol=1e-12)
        assert np.isnan(np.delete(found.dfbeta[:, v], rows)).all()


def test_a_map_that_alone_tells_a_regressor_has_no_influence_to_tell():
    X, Y, pattern, present = study()
    X = np.c_[X, np.eye(14)[3]]
    found = influence(X, Y, np.array([1.0, 0, 0, 0]), pattern, present)
    assert np.isnan(found.cooks_distance[3]).all()
    assert np.isfinite(np.delete(found.cooks_distance, 3, axis=0)).all()
