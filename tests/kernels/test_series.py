"""Passes over the values of a run equal NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from voxloom.kernels.volumes.series import moments, pick


@pytest.mark.parametrize("dtype", [np.int16, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("n_times", [1, 7, 64])
def test_moments_are_mean_and_variance_in_float64(dtype: type, n_times: int) -> None:
    series = np.random.default_rng(0).normal(10_000, 3, (50, n_times)).astype(dtype)
    mean, variance = moments(series)
    np.testing.assert_allclose(mean, series.mean(axis=1, dtype=np.float64), rtol=1e-14)
    np.testing.assert_allclose(variance, series.var(axis=1, dtype=np.float64), rtol=1e-12)


@pytest.mark.parametrize("value", [-7, 0.1, 3e5 / 7])
def test_a_series_that_does_not_vary_has_no_variance(value: float) -> None:
    series = np.full((1, 321), value, np.int16 if value == -7 else np.float32)
    assert moments(series)[1] == 0


def test_what_is_not_finite_stays_in_its_own_series() -> None:
    series = np.ones((3, 40), np.float32)
    series[0, 7], series[2, 39] = np.nan, -np.inf
    mean, variance = moments(series)
    np.testing.assert_array_equal(mean, [np.nan, 1, -np.inf])
    np.testing.assert_array_equal(np.isnan(variance), [True, False, True])


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_picked_values_lie_where_they_belong_bit_for_bit(size: int) -> None:
    rng = np.random.default_rng(size)
    volume = np.frombuffer(rng.bytes(200 * size), f"u{size}")  # read-only, as decoded bytes are
    wanted = rng.permutation(200)[:90]
    place = np.argsort(wanted)
    row = np.zeros(90, volume.dtype)
    pick(volume, wanted[place].astype(np.uintp), place.astype(np.uintp), row)
    np.testing.assert_array_equal(row, volume[wanted])
