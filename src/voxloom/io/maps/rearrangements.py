"""Rearrangements from a file, as permutation tools save them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from voxloom.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_REMEDY = "A row per rearrangement is wanted, of 1-based indices with commas between, negative for a flipped sign."


def read_rearrangements(path: Path) -> NDArray[np.int64]:
    """Read a text table of signed indices (P, n), such as PALM's ``_permidx.csv``.

    Raises
    ------
    InputError
        The file cannot be read, rows differ in length, or a value is no whole number.
    """
    try:
        table = pd.read_csv(path, header=None, comment="#", encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(str(path), "no such file.", _REMEDY) from None
    except (OSError, ValueError) as error:  # pandas' errors of parsing are ValueErrors
        raise InputError(str(path), f"is no table: {str(error).strip()}.", _REMEDY) from None
    values = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.argwhere(values != np.round(values))  # NaN, too, is no whole number
    if wrong.size:
        row, column = (int(i) for i in wrong[0])
        raise InputError(str(path), f"row {row + 1}, column {column + 1} is no whole number.", _REMEDY)
    return np.asarray(values, dtype=np.int64)


def content_of(path: Path) -> str:
    """Digest of a file's bytes, by which its use is known.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        found = path.stat()
    except OSError:
        raise InputError(str(path), "no such file.", _REMEDY) from None
    return _digest(path, found.st_size, found.st_mtime_ns)


@lru_cache
def _digest(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
