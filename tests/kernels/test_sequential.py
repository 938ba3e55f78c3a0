"""Counts that stop, against all sequences written out."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest

from voxloom.kernels.permutation.sequential import Counts, advance, sequential_p

LENGTH = 10
#: Every sequence of reached or not, (2^LENGTH, LENGTH).
SEQUENCES = np.array(list(product([0.0, 1.0], repeat=LENGTH)))


def count(sequences: np.ndarray, stop_at: int, cuts: tuple[int, ...] = ()) -> Counts:
    counts = Counts(np.zeros(len(sequences), np.int64), np.zeros(len(sequences), np.int64))
    for part in np.split(sequences.T, cuts):
        advance(counts, part, np.full(len(sequences), 0.5), stop_at)
    return counts


@pytest.mark.parametrize("stop_at", [1, 2, 4])
def test_counts_are_those_of_a_loop_and_of_any_batches(stop_at):
    found = count(SEQUENCES, stop_at)
    for sequence, reached, used in zip(SEQUENCES, *found):
        total = np.cumsum(sequence)
        last = np.searchsorted(total, stop_at) + 1 if total[-1] >= stop_at else LENGTH
        assert (reached, used) == (total[last - 1], last)
    for cuts in [(1, 2, 3), (4,), tuple(range(1, LENGTH))]:
        np.testing.assert_array_equal(count(SEQUENCES, stop_at, cuts), found)


@pytest.mark.parametrize("stop_at", [2, 4])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.7])
def test_the_estimate_from_the_counts_is_unbiased(stop_at, share):
    """(h - 1) / (l - 1) where counting stopped, b / m else, in the mean over all sequences."""
    reached, used = count(SEQUENCES, stop_at)
    stopped = reached == stop_at
    estimate = (reached - stopped) / (used - stopped)
    chance = share ** SEQUENCES.sum(axis=1) * (1 - share) ** (LENGTH - SEQUENCES.sum(axis=1))
    np.testing.assert_allclose(chance @ estimate, share, rtol=1e-12)


@pytest.mark.parametrize("stop_at", [1, 2, 4, LENGTH + 1])
def test_p_keeps_its_level_exactly(stop_at):
    """Without an effect every rank of the observed is as likely; then P(p <= a) = a for every a that occurs."""
    p = sequential_p(count(SEQUENCES, stop_at), stop_at)
    ones = SEQUENCES.sum(axis=1).astype(int)
    chance = 1 / np.array([(LENGTH + 1) * comb(LENGTH, k) for k in ones])
    np.testing.assert_allclose(chance.sum(), 1)
    assert p.min() > 0
    for level in np.unique(p):
        np.testing.assert_allclose(chance[p <= level + 1e-12].sum(), level, rtol=1e-12)
