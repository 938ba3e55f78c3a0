"""Tables of runs: events, confounds and designs as a user gives them, one per run."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from voxloom.errors import InputError, VoxloomWarning
from voxloom.glm.images import is_many
from voxloom.io.bids.confounds import fill_leading, numeric, read_confounds
from voxloom.io.bids.events import read_events


def per_run(given: Any, n_runs: int, name: str) -> list[Any]:
    """One of `given` per run; None for each where there is none.

    Raises
    ------
    InputError
        Their number is not that of the runs.
    """
    if given is None:
        return [None] * n_runs
    items = list(given) if isinstance(given, list | tuple) else [given]
    if len(items) != n_runs:
        raise InputError(name, f"has {len(items)} items, but there are {n_runs} runs.", "Give one for each run.")
    return items


def masks_per_run(given: Any, n_runs: int) -> list[Any]:
    """One sample mask per run; an array or a list of numbers is that of one run."""
    if given is None or (is_many(given) and len(given) and np.ndim(given[0]) > 0) or n_runs > 1:
        return per_run(given, n_runs, "sample_masks")
    return [given[0] if is_many(given) and len(given) == 1 and given[0] is None else np.asarray(given)]


def events_of(given: Any) -> Any:
    """Events, read where they are a file."""
    return read_events(Path(given)) if isinstance(given, str | PathLike) else given


def confounds_of(given: Any, where: str) -> pd.DataFrame | None:
    """Confounds as a table without n/a: those in the first rows are given the value that follows, with a warning.

    Raises
    ------
    InputError
        Other values are missing, or there is text.
    """
    if given is None:
        return None
    table = read_confounds(Path(given)) if isinstance(given, str | PathLike) else given
    if not isinstance(table, pd.DataFrame):
        array = np.asarray(table, dtype=np.float64)
        array = array[:, np.newaxis] if array.ndim == 1 else array
        table = pd.DataFrame(array, columns=[f"reg{k}" for k in range(array.shape[1])])
    table = numeric(table.infer_objects(), list(table.columns), where)
    filled = fill_leading(table.reset_index(drop=True), where)
    empty = [str(name) for name in table.columns[table.isna().any()]]
    if empty:
        warnings.warn(
            f"{where}: the first values of {empty} are missing and were filled with those that follow.",
            VoxloomWarning,
            stacklevel=3,
        )
    return filled
