"""Adjusted p against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from statsmodels.stats.multitest import multipletests

from voxloom.kernels.maps.multiplicity import bky, bonferroni, fdr


@pytest.mark.parametrize(("correct", "name"), [(fdr, "fdr_bh"), (bonferroni, "bonferroni")])
@given(p=arrays(float, st.integers(1, 60), elements=st.floats(0, 1)), holes=st.integers(0, 5))
def test_equal_to_statsmodels_and_nan_is_no_test(correct, name, p, holes):
    expected = multipletests(p, method=name)[1]
    np.testing.assert_allclose(correct(p), expected, rtol=1e-12)
    rng = np.random.default_rng(0)
    order = rng.permutation(p.size + holes)
    mixed = np.r_[p, np.full(holes, np.nan)][order]
    np.testing.assert_allclose(correct(mixed), np.r_[expected, np.full(holes, np.nan)][order], rtol=1e-12)


@given(
    p=arrays(float, st.integers(1, 60), elements=st.floats(0, 1) | st.floats(0, 0.05)),
    alpha=st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.7]),
)
def test_two_stages_reject_what_statsmodels_rejects_at_every_rate(p, alpha):
    found = bky(np.r_[p, np.nan])
    assert np.isnan(found[-1])
    clear = ~np.isclose(found[:-1], alpha, rtol=1e-9)  # rounding decides at the rate itself
    np.testing.assert_array_equal((found[:-1] <= alpha)[clear], multipletests(p, alpha, method="fdr_tsbky")[0][clear])


def test_no_tests_at_all():
    for p in (np.array([]), np.full(3, np.nan)):
        np.testing.assert_array_equal(bky(p), p)
        np.testing.assert_array_equal(fdr(p), p)
        np.testing.assert_array_equal(bonferroni(p), p)
