"""Rounding that is small against what a voxel varies by, and leaves zero bits behind, which compress to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows are taken in pieces whose float64 copy has this many bytes and stays in cache.
PIECE_BYTES = 2**20
#: Above it a step could exceed what the smaller integer types hold.
MAX_ERROR_SD = 0.25


def round_to_sd(values: NDArray[Any], max_error_sd: float) -> None:
    """Round every row, in place, so that no value changes by more than `max_error_sd` of the row's SD over time.

    The row is rounded to multiples of the largest power of two whose half is at most ``max_error_sd * SD``: the
    lowest bits of integers, and of the mantissa of floats, become zero. Rows that do not vary, or hold a value that
    is not finite, stay as they are.

    Parameters
    ----------
    values : (V, T) array of integers or floats
        Changed in place. Row v of the result depends on row v alone.
    max_error_sd : float
        Of the SD with divisor T; 0 < `max_error_sd` <= `MAX_ERROR_SD`.
    """
    assert 0 < max_error_sd <= MAX_ERROR_SD
    round_rows = _round_floats if values.dtype.kind == "f" else _round_integers
    n = max(1, PIECE_BYTES // (8 * values.shape[1]))
    with np.errstate(all="ignore"):  # rows of huge or non-finite values come out as they were
        for start in range(0, len(values), n):
            rows = values[start : start + n]
            rows[...] = round_rows(rows, *_steps(rows, max_error_sd))


def _steps(rows: NDArray[Any], max_error_sd: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Exponent of each row's step, and whether it has one: (n,), (n,)."""
    sd = rows.astype(np.float64).std(axis=1)
    has_one = np.isfinite(sd) & (sd > 0)
    # 2 * bound = m * 2^e with 1/2 <= m < 1: the largest power of two in it is 2^(e - 1), without a rounded logarithm
    exponent = np.frexp(2 * max_error_sd * np.where(has_one, sd, 1.0))[1].astype(np.int64) - 1
    return exponent, has_one


def _round_integers(rows: NDArray[Any], exponent: NDArray[np.int64], has_one: NDArray[np.bool_]) -> NDArray[Any]:
    """Integer arithmetic, exact for 64 bits too; the largest value of the type stands for a multiple beyond it."""
    step = np.left_shift(1, np.where(has_one, exponent, 0).clip(0)).astype(rows.dtype)[:, None]
    half, largest = step >> 1, np.iinfo(rows.dtype).max
    low = rows & (step - 1)  # in two's complement the distance down to a multiple, for negative values too
    down = rows - low
    up = np.where(down > largest - step, largest, down + step)
    return np.where((low >= half) & (half > 0), up, down)


def _round_floats(rows: NDArray[Any], exponent: NDArray[np.int64], has_one: NDArray[np.bool_]) -> NDArray[Any]:
    """Division and product by a power of two are exact; where either leaves the range, the value stays."""
    step = np.where(has_one, np.ldexp(1.0, exponent), 0.0).astype(rows.dtype)[:, None]
    rounded = np.rint(rows / step) * step
    return np.where(np.isfinite(rounded), rounded, rows)
