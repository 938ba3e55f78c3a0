"""Drifts against nilearn and SPM, and against what they must span."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level.design_matrix import _make_drift

from voxloom.errors import DesignError
from voxloom.kernels.design.drift import cosine_drift, polynomial_drift
from voxloom.kernels.design.gram_schmidt import dependent, orthogonalize

frames = st.builds(
    lambda n, t_r, reference: np.linspace(reference * t_r, (n - 1 + reference) * t_r, n),
    st.integers(8, 300),
    st.sampled_from([0.5, 0.72, 2.0, 3.0]),
    st.sampled_from([0.0, 0.5]),
)


@settings(max_examples=50, deadline=None)
@given(frames=frames, high_pass=st.floats(0, 0.16))
def test_cosines_equal_nilearn(frames, high_pass):
    theirs, _ = _make_drift("cosine", frames, 0, high_pass)
    np.testing.assert_allclose(cosine_drift(high_pass, frames), theirs, rtol=0, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(frames=frames, order=st.integers(0, 6))
def test_polynomials_equal_nilearn(frames, order):
    theirs, _ = _make_drift("polynomial", frames, order, None)
    np.testing.assert_allclose(polynomial_drift(order, frames), theirs, rtol=0, atol=1e-10)


def test_cosines_equal_spm(voxloom_data):
    with np.load(voxloom_data / "data/spm_reference_hrf_designs/spm_dmtx.npz") as reference:
        spm = reference["cosbf_dt_1_nt_20_hcut_0p1"]
    # SPM puts the constant first, with norm 1
    np.testing.assert_allclose(cosine_drift(0.1, np.arange(20.0))[:, :3], spm[:, 1:], atol=1e-12)


def test_polynomials_span_the_powers_and_are_orthogonal():
    times = np.arange(120) * 2.0
    P = polynomial_drift(5, times)
    unit = P / np.linalg.norm(P, axis=0)
    np.testing.assert_allclose(unit.T @ unit, np.eye(6), atol=1e-13)
    powers = (times / times.max())[:, None] ** np.arange(6)
    np.testing.assert_allclose(unit @ (unit.T @ powers), powers, atol=1e-12)


def test_options_are_checked():
    for high_pass in (-0.01, 0.25, 1.0, np.nan):
        with pytest.raises(DesignError, match="high_pass"):
            cosine_drift(high_pass, np.arange(50) * 2.0)
    for order in (-1, 1.5, 50):
        with pytest.raises(DesignError, match="drift_order"):
            polynomial_drift(order, np.arange(50) * 2.0)


def test_orthogonalize_keeps_order_and_survives_zeros():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 6))
    X[:, 0], X[:, 3] = 0, X[:, 1] - 2 * X[:, 2]
    residual, independent = orthogonalize(X)
    assert independent.tolist() == [False, True, True, False, True, True]
    for k in range(6):
        fitted = X[:, :k] @ np.linalg.lstsq(X[:, :k], X[:, k])[0] if k else 0.0
        np.testing.assert_allclose(residual[:, k], X[:, k] - fitted, atol=1e-12)


def test_dependent_columns_do_not_depend_on_units():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((50, 5)) * [1e-8, 1.0, 1e6, 1.0, 1.0]
    X = np.column_stack([X, X[:, 0] * 1e8 + X[:, 1], np.zeros(50), X[:, 2] * 1e-12, rng.standard_normal(50)])
    assert dependent(X).tolist() == [5, 6, 7]
    assert dependent(rng.standard_normal((4, 6))).tolist() == [4, 5]
    assert dependent(np.zeros((5, 0))).tolist() == []
