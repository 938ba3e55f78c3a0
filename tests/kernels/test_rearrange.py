"""Addressed randomness against NumPy's Philox, enumeration against itertools."""

from __future__ import annotations

from itertools import permutations, product
from math import comb, factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from voxloom.kernels.permutation.rearrange import arrangement_rank, n_arrangements, plan_rearrangements
from voxloom.kernels.philox import random_words


def distinct(n: int) -> np.ndarray:
    return np.arange(n)


@pytest.mark.parametrize(("seed", "i"), [(0, 1), (1, 0), (2**64 - 1, 7), (12345, 2**40 + 3)])
def test_random_words_are_those_of_philox(seed, i):
    words = np.empty(11, dtype=np.uint64)
    random_words(np.uint64(seed), np.uint64(i), words)
    expected = np.random.Philox(key=seed, counter=[0, i, 0, 0]).random_raw(11)
    np.testing.assert_array_equal(words, expected)


@pytest.mark.parametrize("scheme", ["flip", "permute"])
@settings(deadline=None)
@given(
    start=st.integers(0, 40),
    length=st.integers(0, 40),
    n=st.integers(10, 130),
    seed=st.integers(0, 2**64 - 1),
)
def test_rearrangement_i_is_a_function_of_seed_and_i(scheme, start, length, n, seed):
    short = plan_rearrangements(distinct(n), scheme, 80, seed)
    long = plan_rearrangements(distinct(n), scheme, 800, seed)
    assert not short.exhaustive
    np.testing.assert_array_equal(short.draw(start, start + length), long.draw(0, 80)[start : start + length])


@pytest.mark.parametrize("scheme", ["flip", "permute"])
def test_first_is_the_identity_and_seeds_differ(scheme):
    one, two = (plan_rearrangements(distinct(70), scheme, 100, seed).draw(0, 100) for seed in (0, 1))
    np.testing.assert_array_equal(one[0], np.arange(1, 71))
    assert not (one[1:] == two[1:]).all(axis=1).any()
    np.testing.assert_array_equal(np.sort(np.abs(one), axis=1), np.tile(np.arange(1, 71), (100, 1)))
    assert len(np.unique(one, axis=0)) == 100


def test_random_permutations_are_uniform():
    drawn = plan_rearrangements(distinct(5), "permute", 119, 3)
    assert not drawn.exhaustive
    # more draws than the plan tells: its stream does not end
    rows = drawn.draw(1, 24_001)
    _, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(counts) == factorial(5)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_random_flips_are_fair_and_independent():
    rows = plan_rearrangements(distinct(100), "flip", 20_000, 5).draw(1, 20_000)
    signs = np.sign(rows).astype(float)
    assert np.abs(signs.mean(axis=0)).max() < 5 / np.sqrt(20_000)
    correlation = signs.T @ signs / len(signs) - np.eye(100)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(20_000)


def test_all_flips_once_with_mirror_images():
    plan = plan_rearrangements(distinct(6), "flip", 64, 0)
    rows = plan.draw(0, plan.size)
    assert plan.exhaustive
    assert {tuple(np.sign(row)) for row in rows} == set(product([-1, 1], repeat=6))
    np.testing.assert_array_equal(rows[::-1], -rows)
    np.testing.assert_array_equal(rows[0], np.arange(1, 7))


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1], [1, 0, 1, 0, 2], [2, 0, 1], [0, 0, 0], [3, 1, 0, 2, 1, 1]])
def test_all_arrangements_once(labels):
    labels = np.array(labels)
    plan = plan_rearrangements(labels, "permute", 10_000, 0)
    rows = plan.draw(0, plan.size)
    assert plan.exhaustive
    assert plan.size == len(set(permutations(labels.tolist()))) == n_arrangements(labels)
    assert {tuple(labels[row - 1]) for row in rows} == set(permutations(labels.tolist()))
    np.testing.assert_array_equal(rows[0], np.arange(1, len(labels) + 1))
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(1, len(labels) + 1), (len(rows), 1)))
    np.testing.assert_array_equal(plan.draw(plan.size // 2, plan.size), rows[plan.size // 2 :])
    assert arrangement_rank(labels) == sorted(set(permutations(labels.tolist()))).index(tuple(labels))


def test_counts_decide_on_enumeration():
    groups = np.repeat([0, 1], 10)
    assert plan_rearrangements(groups, "permute", 5, 0).n_distinct == comb(20, 10)
    assert plan_rearrangements(groups, "flip", 5, 0).n_distinct == 2**20
    assert plan_rearrangements(groups, "permute", comb(20, 10), 0).exhaustive
    assert not plan_rearrangements(groups, "permute", comb(20, 10) - 1, 0).exhaustive
