"""Events files: when what was shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from voxloom.errors import InputError
from voxloom.io.tables import read_tsv

if TYPE_CHECKING:
    from pathlib import Path

NUMERIC = ("onset", "duration", "modulation")
REQUIRED = ("onset", "duration")
_REMEDY = "A tab-separated table with columns onset, duration and trial_type is wanted."


def read_events(path: str | Path) -> pd.DataFrame:
    """Read the events of a run.

    Only what concerns the file is checked here; `models.design.matrix.check_events` judges the values.

    Returns
    -------
    DataFrame
        One row per event, every column of the file; `onset` and `duration` in s (float64, missing is NaN),
        `trial_type` text where the file has it.

    Raises
    ------
    InputError
        The file is missing, empty, without events, without its required columns, or has text for a number.
    """
    table = read_tsv(path, remedy=_REMEDY, as_text=("trial_type",))
    absent = [name for name in REQUIRED if name not in table]
    if absent:
        raise InputError(
            str(path),
            f"has no column {' and no column '.join(absent)}; it has {', '.join(map(str, table.columns))}.",
            _REMEDY,
        )
    if table.empty:
        raise InputError(str(path), "has no events.", "Remove the run with data.filters, or add its events.")
    for name in NUMERIC:
        if name in table:
            table[name] = _numbers(table[name], str(path))
    return table


def _numbers(column: pd.Series[str], where: str) -> pd.Series[float]:
    """Make the column float64; text that is no number is refused with its line."""
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    text = column.notna() & numbers.isna()
    if text.any():
        row = int(text.to_numpy().argmax())
        raise InputError(
            f"{where}, line {row + 2}",
            f"{column.name} is {column.iloc[row]!r}.",
            "A number or n/a is wanted.",
        )
    return numbers
