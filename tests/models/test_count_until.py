"""Sequential counts of a permutation test against all its rearrangements."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from voxloom.errors import InputError
from voxloom.kernels.permutation.sequential import sequential_p
from voxloom.models.inference import sequential
from voxloom.models.inference.permutation import observed_stat, prepare_test, rearranged_stat, uncorrected_p
from voxloom.models.inference.sequential import count_until

N, V = 16, 70


AGE = np.random.default_rng(9).standard_normal(N)


def maps() -> np.ndarray:
    Y = np.random.default_rng(0).standard_normal((N, V))
    Y[:, :10] += np.linspace(0.2, 1.5, 10)
    Y[:, 10:14] += 2 * AGE[:, np.newaxis]
    Y[3, 20], Y[:, 21] = np.nan, 1.0
    return Y


def design() -> pd.DataFrame:
    return pd.DataFrame({"intercept": 1.0, "age": AGE})


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("contrast", ["intercept", "age"])
def test_counts_are_those_of_all_rearrangements_up_to_the_stop(monkeypatch, two_sided, contrast):
    test = prepare_test(design(), contrast, n_perm=700, two_sided=two_sided, seed=3)
    Y, stop_at = maps(), 6
    stat = observed_stat(test, Y)
    found = count_until(test, Y, stat, stop_at)
    others = rearranged_stat(test, Y, start=1)
    height, bar = (np.abs(others), np.abs(stat)) if two_sided else (others, stat)
    reached = np.cumsum(height >= bar * (1 - 1e-9 * np.sign(bar)), axis=0)
    for v in range(V):
        if np.isnan(stat[v]):
            assert found.used[v] == found.reached[v] == 0
            continue
        last = np.searchsorted(reached[:, v], stop_at) + 1 if reached[-1, v] >= stop_at else 699
        assert (found.reached[v], found.used[v]) == (reached[last - 1, v], last)
    assert found.used.max() == 699
    assert found.used.mean() < 300
    # any batches, any voxels
    monkeypatch.setattr(sequential, "BATCH_BYTES", 8 * 70 * 64)
    np.testing.assert_array_equal(count_until(test, Y, stat, stop_at), found)
    np.testing.assert_array_equal(count_until(test, Y[:, 5:40], stat[5:40], stop_at), np.array(found)[:, 5:40])


def test_p_without_a_stop_is_that_of_the_whole_test():
    test = prepare_test(design(), "intercept", n_perm=300, seed=1)
    Y = maps()
    stat = observed_stat(test, Y)
    tested = ~np.isnan(stat)
    counts = count_until(test, Y, stat, stop_at=1000)
    expected = uncorrected_p(test, counts.reached + 1)
    np.testing.assert_allclose(sequential_p(counts, 1000)[tested], expected[tested], rtol=1e-14)


def test_all_rearrangements_have_no_random_order_and_no_count_is_no_stop():
    test = prepare_test(design().iloc[:8], "intercept", n_perm=300)
    with pytest.raises(InputError, match="exact"):
        count_until(test, maps()[:8], np.zeros(V), 5)
    with pytest.raises(InputError, match="At least 1"):
        count_until(prepare_test(design(), "intercept", n_perm=300), maps(), np.zeros(V), 0)
