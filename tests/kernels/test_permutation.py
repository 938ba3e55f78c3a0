"""Partition and Freedman-Lane against refits of the full model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permutation_oracle import projections, refitted
from voxloom.kernels.permutation.nuisance import stat_of_cosine
from voxloom.kernels.permutation.partition import concerns_a_mean, interchangeable, partition
from voxloom.kernels.permutation.rearrange import plan_rearrangements

ONE, SIDE = np.ones(8), np.repeat([1.0, 0.0], 4)
AGE = np.array([3.0, -1, 4, 1, -5, 9, 2, -6])


def design(seed: int, n: int, k: int, *, dependent: bool, units: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    M = np.c_[np.ones(n), rng.standard_normal((n, k))] * 10.0 ** rng.integers(-units, units + 1, k + 1)
    return np.c_[M, M[:, 0] + 2 * M[:, 1]] if dependent else M


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(8, 25),
    k=st.integers(1, 4),
    dependent=st.booleans(),
    units=st.integers(0, 2),
    scheme=st.sampled_from(["flip", "permute"]),
)
def test_projections_equal_refits(seed, n, k, dependent, units, scheme):
    rng = np.random.default_rng(seed + 1)
    M = design(seed, n, k, dependent=dependent, units=units)
    # rows of M times anything are estimable; half of the contrasts name one column
    C = np.eye(M.shape[1])[2:3] if k > 1 and seed % 2 else rng.standard_normal((1, n)) @ M
    Y = rng.standard_normal((n, 7)) + 5
    indices = plan_rearrangements(np.arange(n), scheme, 20, seed).draw(0, 20)
    model = projections(M, C, scheme)
    e = Y - model.removed @ (model.removed.T @ Y)
    e /= np.linalg.norm(e, axis=0)
    signs, rows = np.sign(indices), np.abs(indices) - 1
    u = np.einsum("pn,pn,nv->pv", signs, model.effect[rows, 0], e)
    w = np.einsum("pn,pnq,nv->pqv", signs, model.moving[rows], e)
    t = stat_of_cosine(u / np.sqrt(1 - (w**2).sum(axis=1)), model)
    np.testing.assert_allclose(t, refitted(M, C, Y, indices), rtol=1e-6, atol=1e-8)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), dependent=st.booleans(), rows=st.integers(1, 2))
def test_partition_keeps_the_model_and_its_contrast(seed, dependent, rows):
    rng = np.random.default_rng(seed)
    M = design(seed, 15, 3, dependent=dependent, units=0)
    C = rng.standard_normal((rows, 15)) @ M
    X, Z = partition(M, C)
    y = rng.standard_normal(15)
    XZ = np.c_[X, Z]
    assert XZ.shape[1] == np.linalg.matrix_rank(M) == np.linalg.matrix_rank(XZ)
    np.testing.assert_allclose(np.linalg.pinv(XZ)[:rows] @ y, C @ np.linalg.pinv(M) @ y, rtol=1e-7)
    np.testing.assert_allclose(XZ @ np.linalg.pinv(XZ), M @ np.linalg.pinv(M), atol=1e-9)


def test_under_permutations_the_constant_does_not_move():
    M = np.c_[ONE, SIDE, AGE]
    assert projections(M, np.eye(3)[1:2], "permute").moving.shape == (8, 1)
    assert projections(M, np.eye(3)[1:2], "flip").moving.shape == (8, 2)
    assert projections(M, np.eye(3)[:1], "permute").moving.shape == (8, 2)
    assert projections(M[:, :2], np.eye(2)[1:], "permute").moving.shape == (8, 0)


@pytest.mark.parametrize(
    ("columns", "weights", "flipped"),
    [
        ([ONE], [1], True),
        ([ONE, AGE], [1, 0], True),
        ([ONE, AGE], [0, 1], False),
        ([ONE, 2 * SIDE - 1], [0, 1], False),  # nilearn's trap: two groups beside a constant
        ([SIDE, 1 - SIDE], [1, -1], False),
        ([SIDE, 1 - SIDE], [1, 0], True),
        ([SIDE, 1 - SIDE, AGE], [0.5, 0.5, 0], True),
        ([SIDE, 1 - SIDE, AGE], [0, 0, 1], False),
        ([2 * SIDE - 1], [1], True),  # differences with signs, no constant
        ([AGE], [1], False),
    ],
)
def test_means_are_flipped_and_the_rest_permuted(columns, weights, flipped):
    M, C = np.column_stack(columns), np.array([weights], dtype=float)
    assert concerns_a_mean(M, C) is flipped
    # the same model in other columns: M b = (M T) (T^-1 b)
    T = np.eye(len(weights)) + np.triu(np.ones((len(weights), len(weights))), 1)
    if len(weights) > 1:
        assert concerns_a_mean(M @ T, C @ T) is flipped


def test_equal_rows_are_interchangeable():
    labels = interchangeable(np.c_[ONE, SIDE])
    assert len(set(labels[:4])) == len(set(labels[4:])) == 1
    assert labels[0] != labels[-1]
    assert sorted(interchangeable(np.c_[ONE, AGE])) == list(range(8))


def test_t_of_a_correlation():
    model = projections(np.c_[np.ones(5), np.arange(5.0)], np.eye(2)[1:], "permute")
    assert model.dof == 3
    np.testing.assert_allclose(stat_of_cosine(np.array([0.5, -0.5]), model), [1.0, -1.0])
    np.testing.assert_array_equal(
        stat_of_cosine(np.array([1.0, -1, -np.inf, np.inf]), model), [np.inf, -np.inf, -np.inf, np.inf]
    )


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), dependent=st.booleans(), rows=st.integers(1, 3))
def test_partitions_of_guttman_and_beckmann_are_one_test(seed, dependent, rows):
    """Beckmann's X = M D C' (C D C')^-1 spans the effect apart from Guttman's Z, and its nuisance is the same space."""
    rng = np.random.default_rng(seed)
    M = design(seed, 15, 4, dependent=dependent, units=0)
    C = rng.standard_normal((rows, 15)) @ M
    D = np.linalg.pinv(M.T @ M)
    X = M @ D @ C.T @ np.linalg.inv(C @ D @ C.T)
    model = projections(M, C, "flip")
    np.testing.assert_allclose(model.removed.T @ X, 0, atol=1e-8 * np.abs(X).max())
    np.testing.assert_allclose(model.effect @ (model.effect.T @ X), X, atol=1e-8 * np.abs(X).max())
    H = M @ D @ M.T
    np.testing.assert_allclose(model.removed @ model.removed.T, H - X @ np.linalg.pinv(X), atol=1e-8)
    if rows == 1:
        assert (model.effect.T @ X).item() > 0
