"""Rank, basis and estimability against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxloom.errors import DesignError
from voxloom.kernels.linalg import is_estimable, orth, reduce_design, sub_blocks


def matrix(seed: int, rows: int = 30, columns: int = 5, dependent: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns))
    return np.hstack([X, X @ rng.standard_normal((columns, dependent))])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), dependent=st.integers(0, 3), units=st.integers(0, 12))
def test_basis_spans_the_design_whatever_the_units(seed, dependent, units):
    X = matrix(seed, dependent=dependent)
    X *= 10.0 ** np.linspace(-units, units, X.shape[1])
    basis = reduce_design(X)
    assert basis.rank == 5
    np.testing.assert_allclose(basis.Q.T @ basis.Q, np.eye(5), atol=1e-13)
    np.testing.assert_allclose(
        (basis.Q @ basis.forward) / np.linalg.norm(X, axis=0), X / np.linalg.norm(X, axis=0), atol=1e-12
    )
    np.testing.assert_allclose(basis.forward @ basis.back, np.eye(5), atol=1e-7)


def test_coefficients_are_those_of_least_squares():
    X, y = matrix(0, dependent=0), np.random.default_rng(1).standard_normal(30)
    basis = reduce_design(X)
    np.testing.assert_allclose(basis.back @ (basis.Q.T @ y), np.linalg.lstsq(X, y)[0], rtol=1e-12)


def test_estimable_rows_are_those_in_the_row_space():
    X = matrix(3) * 10.0 ** np.linspace(-5, 5, 7)
    basis = reduce_design(X)
    inside = np.random.default_rng(4).standard_normal((6, 30)) @ X
    assert is_estimable(inside, basis).all()
    assert not is_estimable(np.eye(7), basis).any()
    assert is_estimable(np.zeros(7), basis).all()


def test_a_column_of_zeros_is_not_estimable():
    basis = reduce_design(np.column_stack([np.arange(5.0), np.zeros(5)]))
    assert basis.rank == 1
    np.testing.assert_array_equal(is_estimable(np.eye(2), basis), [True, False])


def test_a_column_of_zeros_costs_the_others_nothing():
    """A condition whose events all lie outside the run, say, among many columns."""
    X = np.random.default_rng(5).standard_normal((60, 12))
    X[:, 4] = 0.0
    np.testing.assert_array_equal(is_estimable(np.eye(12), reduce_design(X)), np.arange(12) != 4)


def test_orth_of_nothing_is_empty():
    assert orth(np.zeros((4, 2))).shape == (4, 0)


@pytest.mark.parametrize("bad", [np.ones(3), np.array([[1.0, np.nan]]), np.array([[np.inf], [1.0]])])
def test_bad_designs_are_refused(bad):
    with pytest.raises(DesignError):
        reduce_design(bad)


@given(n=st.integers(0, 20_000), size=st.sampled_from([16, 4096]))
def test_sub_blocks_cover_the_axis_at_fixed_multiples(n, size):
    blocks = list(sub_blocks(n, size))
    assert [i for b in blocks for i in (b.start, b.stop)] == sorted(i for b in blocks for i in (b.start, b.stop))
    assert sum(b.stop - b.start for b in blocks) == n
    assert all(b.start % size == 0 for b in blocks)
