"""Blocks against the group that their swaps and flips generate, one element after the other."""

from __future__ import annotations

from itertools import pairwise
from math import comb, factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from voxloom.errors import InputError
from voxloom.kernels.permutation.exchangeability import block_tree, free_block, moves_of, orbits, require_equal_parts
from voxloom.kernels.permutation.rearrange import plan_rearrangements

TREES = {
    "free": [[1]] * 5,
    "within": [[1], [1], [2], [1], [2]],
    "whole": [[1, -1], [1, -2], [1, -1], [1, -2], [1, -3], [1, -3]],
    "both": [[1, 1], [1, 2], [1, 1], [1, 2]],
    "whole within sites": [[1, -1], [1, -1], [1, -2], [1, -2], [2, -3], [2, -4], [2, -3], [2, -4]],
    "families of two kinds": [[-1, 1, -1], [-1, 1, -1], [-1, 1, -2], [-1, 1, -2], [-1, 2, -3], [-1, 2, -4]],
    "three levels": [[1, 1, -1], [1, 1, -2], [1, 2, -3], [1, 2, -4]],
    "twins listed last": [[1, -1, 1], [1, -1, 1], [1, -1, -2], [1, -2, -3], [1, -2, 4], [1, -2, 4]],
}


def generators(columns: np.ndarray) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
    """Blocks whose swap is allowed, and sets whose signs may change, read off the table row by row."""
    swaps, flips = [], []
    whole = np.hstack([np.zeros((len(columns), 1), dtype=int), columns, np.arange(1, len(columns) + 1)[:, None]])
    for level in range(1, columns.shape[1] + 1):
        for block in np.unique(whole[:, : level + 1], axis=0):
            members = np.flatnonzero((whole[:, : level + 1] == block).all(axis=1))
            if block[-1] > 0:
                parts = [members[whole[members, level + 1] == v] for v in dict.fromkeys(whole[members, level + 1])]
                swaps.append(parts)
                flips += parts
    return swaps, flips


def closure(n: int, steps: list[np.ndarray]) -> set[tuple[int, ...]]:
    """All products of signed permutations."""
    found = {tuple(range(1, n + 1))}
    new = found
    while new:
        made = {tuple(np.sign(s) * np.array(g)[np.abs(s) - 1]) for g in new for s in steps}
        new = made - found
        found = found | new
    return found


def group(columns: np.ndarray, scheme: str) -> set[tuple[int, ...]]:
    n = len(columns)
    swaps, flips = generators(columns)
    steps = []
    for parts in swaps if scheme != "flip" else []:
        for a, b in pairwise(parts):
            step = np.arange(1, n + 1)
            # parts of unlike order inside are matched by the order their inner blocks have in the tree
            a, b = (_matched(columns, part) for part in (a, b))
            step[a], step[b] = b + 1, a + 1
            steps.append(step)
    for part in flips if scheme != "permute" else []:
        step = np.arange(1, n + 1)
        step[part] *= -1
        steps.append(step)
    return closure(n, steps)


def _matched(columns: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Members in an order that depends on structure alone: those of larger positive blocks last."""
    last = columns[part, -1]
    kind = [(last[i] > 0, int((last == last[i]).sum())) for i in range(len(part))]
    return part[sorted(range(len(part)), key=lambda i: (kind[i], i))]


@pytest.mark.parametrize("scheme", ["flip", "permute", "both"])
@pytest.mark.parametrize("name", TREES)
def test_all_rearrangements_are_the_group(name, scheme):
    columns = np.array(TREES[name])
    expected = group(columns, scheme)
    plan = plan_rearrangements(np.arange(len(columns)), scheme, 10**6, 0, block_tree(columns))
    rows = plan.draw(0, plan.size)
    assert plan.exhaustive
    assert len(rows) == len(expected)
    assert set(map(tuple, rows.tolist())) == expected
    np.testing.assert_array_equal(rows[0], np.arange(1, len(columns) + 1))
    np.testing.assert_array_equal(plan.draw(plan.size // 3, plan.size), rows[plan.size // 3 :])
    if plan.mirrored:
        np.testing.assert_array_equal(rows[::-1], -rows)


@pytest.mark.parametrize("scheme", ["flip", "permute", "both"])
@pytest.mark.parametrize("name", ["within", "both", "three levels", "families of two kinds"])
def test_random_rearrangements_are_uniform_over_the_group(name, scheme):
    columns = np.array(TREES[name])
    expected = group(columns, scheme)
    plan = plan_rearrangements(np.arange(len(columns)), scheme, len(expected) - 1, 7, block_tree(columns))
    assert not plan.exhaustive
    n = 60 * len(expected)
    rows, counts = np.unique(plan.draw(1, n + 1), axis=0, return_counts=True)
    assert set(map(tuple, rows.tolist())) == expected
    assert stats.chisquare(counts).pvalue > 1e-3
    np.testing.assert_array_equal(plan.draw(5, 9), plan.draw(0, 20)[5:9])


@pytest.mark.parametrize("name", TREES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), n_labels=st.integers(1, 3))
def test_equal_observations_are_not_counted_apart(name, seed, n_labels):
    columns = np.array(TREES[name])
    labels = np.unique(np.random.default_rng(seed).integers(0, n_labels, len(columns)), return_inverse=True)[1]
    plan = plan_rearrangements(labels, "permute", 10**6, 0, block_tree(columns))
    expected = {tuple(labels[np.array(g) - 1]) for g in group(columns, "permute")}
    rows = plan.draw(0, plan.size)
    assert plan.size == plan.n_distinct == len(expected)
    assert {tuple(labels[row - 1]) for row in rows} == expected
    # and every one is allowed
    assert set(map(tuple, rows.tolist())) <= group(columns, "permute")


@pytest.mark.parametrize("name", TREES)
def test_orbits_are_those_of_the_group(name):
    columns = np.array(TREES[name])
    places = np.array(sorted(group(columns, "permute")))
    found = orbits(moves_of(block_tree(columns)))
    expected = [set(places[:, i]) for i in range(len(columns))]
    for i in range(len(columns)):
        for j in range(len(columns)):
            assert (found[i] == found[j]) == (expected[i] == expected[j])


def test_counts_of_large_designs():
    pairs = np.repeat(np.arange(1, 101), 2)[:, None]
    plan = plan_rearrangements(np.tile([0, 1], 100), "permute", 500, 0, block_tree(pairs))
    assert plan.n_distinct == 2**100
    whole = plan_rearrangements(
        np.repeat([0, 1], 100), "permute", 500, 0, block_tree(np.c_[np.ones_like(pairs), -pairs])
    )
    assert whole.n_distinct == comb(100, 50)
    free = plan_rearrangements(np.arange(30), "both", 500, 0)
    assert free.n_distinct == factorial(30) * 2**30
    assert len(free.moves.units) == 30


def test_free_block_is_one_block_for_all():
    assert block_tree(np.ones((4, 1), dtype=int)).parts[0] == free_block(4)


def test_unequal_wholes_stay_apart():
    columns = np.array([[1, -1], [1, -1], [1, -2]])
    with pytest.raises(InputError, match="2 blocks of 1, 2 observations are to be exchanged"):
        require_equal_parts(block_tree(columns))
    require_equal_parts(block_tree(np.array(TREES["twins listed last"])))
    with pytest.raises(InputError, match="unlike inner structure"):
        require_equal_parts(block_tree(np.array([[1, 1], [1, 1], [1, -2], [1, -2]])))


@pytest.mark.parametrize(
    "columns", [[[1, -1], [1, -2], [1, -2], [1, -2], [1, -3]], [[1, 1], [1, -2], [1, -2], [1, 1], [1, 3]]]
)
def test_unequal_wholes_may_change_sign(columns):
    columns = np.array(columns)
    plan = plan_rearrangements(np.zeros(5, dtype=int), "flip", 1000, 0, block_tree(columns))
    rows = plan.draw(0, plan.size)
    assert set(map(tuple, rows.tolist())) == group(columns, "flip")
    assert len(rows) == len(group(columns, "flip"))
    found = orbits(moves_of(block_tree(columns)))
    assert len(found) == 5


def test_bad_tables():
    with pytest.raises(InputError, match="index 0"):
        block_tree(np.array([[1], [0]]))
    with pytest.raises(InputError, match="column 1: block 2 has both signs"):
        block_tree(np.array([[2], [-2]]))
