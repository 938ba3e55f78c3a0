"""Hommel's value and bounds on true discoveries against a published example and closed testing written out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from voxloom.kernels.maps.closed_testing import hommel_value, true_discoveries

P = st.sampled_from([0.0, 1e-9, 0.001, 0.01, 0.02, 0.04, 0.05, 0.1, 0.3, 0.7, 1.0]) | st.floats(0, 1)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(1e-9, 7), (1e-7, 6), (0.059, 6), (0.061, 5), (0.249, 5), (0.251, 4), (0.399, 4), (0.401, 3), (0.899, 3)],
)
def test_example_of_meijer_et_al(alpha, expected):
    p = np.array([0.5, 1.0e-8, 0.1, 0.01, 0.7, 0.08, 0.9])
    assert hommel_value(p, alpha) == expected


@given(p=arrays(float, st.integers(0, 30), elements=P), alpha=st.sampled_from([0.01, 0.05, 0.2, 0.6]))
def test_hommel_is_the_largest_set_that_simes_does_not_reject(p, alpha):
    ordered, m = np.sort(p), p.size
    sizes = [i for i in range(1, m + 1) if all(i * ordered[m - i + j - 1] > j * alpha for j in range(1, i + 1))]
    assert hommel_value(p, alpha) == max(sizes, default=0)


def simes_rejects(p: np.ndarray, alpha: float) -> bool:
    return bool(np.any(p.size * np.sort(p) <= alpha * np.arange(1, p.size + 1)))


@settings(max_examples=25, deadline=None)
@given(p=arrays(float, st.integers(1, 6), elements=P), alpha=st.sampled_from([0.05, 0.2]))
def test_bounds_are_those_of_closed_testing_for_every_set(p, alpha):
    """A set is rejected when Simes rejects all sets around it; the bound is |S| less its largest unrejected part."""
    sets = [frozenset(s) for k in range(1, p.size + 1) for s in combinations(range(p.size), k)]
    local = {s: simes_rejects(p[list(s)], alpha) for s in sets}
    closed = {s: all(local[other] for other in sets if s <= other) for s in sets}
    hommel = hommel_value(p, alpha)
    for s in sets:
        unrejected = max((len(part) for part in sets if part <= s and not closed[part]), default=0)
        assert true_discoveries(p[list(s)], hommel, alpha) == len(s) - unrejected


def test_no_tests_are_no_discoveries():
    assert hommel_value(np.array([]), 0.05) == 0
    assert true_discoveries(np.array([]), 5, 0.05) == 0
