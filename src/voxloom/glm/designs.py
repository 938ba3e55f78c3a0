"""A design as a user gives it: a table, its file, or its numbers."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from voxloom.errors import InputError
from voxloom.io.tables import read_tsv

_REMEDY = "A table with a named column per regressor is wanted, .tsv or .csv."


def design_table(given: Any) -> pd.DataFrame:
    """A table as it is, read from its file, or of numbers, whose columns are then ``reg0``, ``reg1``, ...

    Raises
    ------
    InputError
        There is no such file, or it is no table; an array has other dimensions than 2.
    """
    if isinstance(given, pd.DataFrame):
        return given
    if isinstance(given, str | PathLike):
        return _read(Path(given))
    X = np.asarray(given, dtype=np.float64)
    if X.ndim != 2:
        raise InputError("design_matrix", f"has {X.ndim} dimensions.", "Rows and columns are wanted.")
    return pd.DataFrame(X, columns=[f"reg{k}" for k in range(X.shape[1])])


def _read(path: Path) -> pd.DataFrame:
    if path.suffix == ".tsv":
        return read_tsv(path, remedy=_REMEDY)
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"cannot be read: {error}.", _REMEDY) from None
