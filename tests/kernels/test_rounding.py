"""Law: no value changes by more than was allowed, for any type, and what cannot be rounded stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxloom.kernels.volumes.rounding import MAX_ERROR_SD, round_to_sd
from voxloom.spec.data import Data

TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def exact_error(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """|after - before|, exact for integers of 64 bits, as float."""
    if before.dtype.kind == "f":
        return np.abs(after.astype(np.longdouble) - before.astype(np.longdouble)).astype(float)
    return np.abs(after.astype(object) - before.astype(object)).astype(float)


@settings(max_examples=150, deadline=None)
@given(
    dtype=st.sampled_from(TYPES),
    error=st.floats(1e-6, MAX_ERROR_SD),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 40)),
    spread=st.floats(1e-3, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_value_changes_by_more_than_the_bound(dtype, error, shape, spread, seed):
    rng = np.random.default_rng(seed)
    if dtype[0] == "f":
        scale = np.float64(10.0) ** rng.integers(-30, 30, (shape[0], 1))
        before = (rng.normal(5, spread, shape) * scale).astype(dtype)
    else:
        info = np.iinfo(dtype)
        middle = rng.choice([info.min, 0, info.max, 100])  # near both ends of the type, and at zero
        width = float(info.max) * spread
        before = np.clip(rng.normal(float(middle), width, shape), info.min, float(info.max) * (1 - 2**-52))
        before = before.astype(dtype)
    after = before.copy()
    round_to_sd(after, error)
    bound = error * before.astype(float).std(axis=1, keepdims=True)
    assert (exact_error(before, after) <= bound * (1 + 1e-9)).all()
    whole = before.copy()
    for row in whole:  # a voxel's values do not depend on its neighbours
        round_to_sd(row[None], error)
    np.testing.assert_array_equal(whole, after)


def test_the_analysis_file_allows_what_the_kernel_does():
    (limit,) = [m.le for m in Data.model_fields["max_error_sd"].metadata if hasattr(m, "le")]
    assert limit == MAX_ERROR_SD


def test_low_bits_are_zero():
    series = np.random.default_rng(0).normal(10_000, 150, (3, 500)).astype("i2")
    round_to_sd(series, 0.05)  # a step of at most 15: 8
    assert not (series & 7).any()
    assert (series & 8).any()
    floats = np.random.default_rng(0).normal(1.0, 0.1, (1, 500)).astype("f4")
    round_to_sd(floats, 0.05)  # of at most 0.01: 2^-7
    np.testing.assert_array_equal(floats, np.rint(floats * 128) / 128)


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_what_does_not_vary_stays(dtype):
    series = np.full((2, 9), 1001, dtype)
    round_to_sd(series, 0.25)
    assert (series == 1001).all()


def test_series_with_values_that_are_not_finite_stay_bit_for_bit():
    series = np.random.default_rng(0).normal(0, 1, (3, 20)).astype("f4")
    series[0, 3], series[1, 4], series[2, 5] = np.nan, np.inf, 3e38
    before = series.copy()
    round_to_sd(series, 0.1)
    assert series[:2].tobytes() == before[:2].tobytes()
    assert np.isfinite(series[2]).all()
