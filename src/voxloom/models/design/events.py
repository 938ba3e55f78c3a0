"""Tables of events, checked: what a design is made of."""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from voxloom.errors import DesignError, VoxloomWarning

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from numpy.typing import NDArray

#: Two rows with these equal are one event given twice.
IDENTITY = ["trial_type", "onset", "duration"]
#: Columns that cannot be modulators, for they have a meaning of their own.
RESERVED = {*IDENTITY, "modulation"}
#: Trial type of all events of a table that names none, as in nilearn.
UNNAMED = "dummy"
#: Likeness of names from which one is the other misspelt: "trialtype" and "trail_type" are, "trial_name" is not.
MISSPELT = 0.85
#: Rows named in a message before it says how many more there are.
SHOWN = 5


def check_events(
    events: pd.DataFrame,
    where: str = "events",
    *,
    start: float | None = None,
    end: float | None = None,
    modulators: Sequence[str] = (),
) -> pd.DataFrame:
    """Events with numeric columns, one row per distinct event, in the order given.

    Rows without a trial type are dropped. Rows equal in trial type, onset and duration become one, whose
    modulations add up. Other columns are ignored. Each of these, and events outside the run, gives a
    `VoxloomWarning`.

    Parameters
    ----------
    events : DataFrame
        ``onset`` and ``duration`` in seconds; optionally ``trial_type`` and ``modulation``.
    where : str
        How messages name the table: its file.
    start, end : float, optional
        Events that start before `start`, or at `end` or later (s), are marked as outside the run.
    modulators : sequence of str
        Further columns of numbers to keep; ``n/a`` may stand in them.

    Returns
    -------
    DataFrame
        ``trial_type`` (str), ``onset``, ``duration``, ``modulation`` (float; 1 where not given), ``count``
        (rows that the event stands for) and ``in_run`` (bool); ``*<name>`` for each modulator (float, NaN where n/a).

    Raises
    ------
    DesignError
        For no table, no rows, missing columns, values that are not finite numbers, or negative durations.
    """
    if not isinstance(events, pd.DataFrame):
        raise DesignError(
            where, f"is a {type(events).__name__}.", "A DataFrame with columns onset and duration is wanted."
        )
    rows = pd.DataFrame({name: _numbers(events, name, where) for name in ("onset", "duration")})
    rows["modulation"] = _numbers(events, "modulation", where) if "modulation" in events else 1.0
    for name in modulators:
        rows[f"*{name}"] = _modulator(events, name, where)
    _require_durations(rows["duration"].to_numpy(), where)
    rows["trial_type"] = _trial_types(events, where)
    rows = rows[rows["trial_type"].notna()]
    if rows.empty:
        raise DesignError(where, "has no events.", "Give at least one, or fit without events.")
    return _marked(_merged(rows, where), where, start, end)


def _numbers(events: pd.DataFrame, name: str, where: str) -> NDArray[np.float64]:
    if name not in events:
        raise DesignError(
            where,
            f"has no column {name!r}; it has {[str(c) for c in events.columns]}.",
            "Add it, in seconds.",
        )
    given = events[name]
    values = np.array(pd.to_numeric(given, errors="coerce"), dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        found = given.iloc[wrong[0]]
        raise DesignError(
            where,
            f"{name} is {'empty (n/a)' if pd.isna(found) else repr(str(found))} in {_rows(wrong)}.",
            "Give finite numbers, or remove these events.",
        )
    return values


def _modulator(events: pd.DataFrame, name: str, where: str) -> NDArray[np.float64]:
    """Numbers of a column, NaN where it says n/a; text that is neither is refused."""
    if name not in events or name in RESERVED:
        usable = sorted(set(map(str, events.columns)) - RESERVED)
        raise DesignError(where, f"{name!r} is no modulator.", f"Give a column of the events; these may be: {usable}.")
    given = events[name]
    empty = given.isna() | (given.astype(str).str.strip() == "n/a")
    _numbers(events[~empty], name, where)
    return np.array(pd.to_numeric(given.where(~empty), errors="coerce"), dtype=np.float64)


def _require_durations(durations: NDArray[np.float64], where: str) -> None:
    negative = np.flatnonzero(durations < 0)
    if negative.size:
        raise DesignError(
            where, f"duration is negative in {_rows(negative)}.", "Give seconds; 0 stands for an impulse."
        )


def _trial_types(events: pd.DataFrame, where: str) -> NDArray[Any]:
    """Names as str, None where there is none."""
    if "trial_type" not in events:
        near = get_close_matches("trial_type", map(str, events.columns), n=1, cutoff=MISSPELT)
        if near:
            raise DesignError(where, f"has no column 'trial_type', but {near[0]!r}.", "Rename it.")
        _warn(where, f"no column 'trial_type'; all events are taken as one condition, {UNNAMED!r}.")
        return np.full(len(events), UNNAMED, dtype=object)
    names = np.array([_name(value) for value in events["trial_type"]], dtype=object)
    missing = np.flatnonzero([name is None for name in names])
    if missing.size:
        _warn(where, f"events without trial_type are dropped: {missing.size} ({_rows(missing)}).")
    return names


def _name(value: Hashable) -> str | None:
    if pd.isna(value) or value == "n/a":  # type: ignore[call-overload]
        return None
    # codes 1, 2 become 1.0, 2.0 when some rows are empty; they are still the conditions "1" and "2"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _merged(rows: pd.DataFrame, where: str) -> pd.DataFrame:
    if not rows.duplicated(IDENTITY).any():
        return rows.assign(count=1)
    same = rows.groupby(IDENTITY, sort=False)
    names = [name for name in rows if name not in IDENTITY]
    merged = same[names].agg(_sum).assign(count=same.size()).reset_index()
    twice = int(len(rows) - len(merged))
    first = merged[merged["count"] > 1].iloc[0]
    _warn(
        where,
        f"rows repeat an event: {twice} (the first {first['trial_type']!r} at {first['onset']:g} s); "
        "their modulations are added.",
    )
    return merged


def _sum(values: pd.Series[float]) -> float:
    """Sum of which n/a makes n/a."""
    return float(values.sum(skipna=False))


def _marked(rows: pd.DataFrame, where: str, start: float | None, end: float | None) -> pd.DataFrame:
    onset = rows["onset"].to_numpy()
    early = onset < (-np.inf if start is None else start)
    late = onset >= (np.inf if end is None else end)
    if early.any():
        _warn(
            where,
            f"events that start before {start:g} s are dropped: {early.sum()}, the first at {onset[early].min():g} s.",
        )
    if late.any():
        _warn(
            where,
            f"events that start at or after the end of the run ({end:g} s) contribute nothing: "
            f"{late.sum()}, the first at {onset[late].min():g} s.",
        )
    return rows.assign(in_run=~(early | late))


def _rows(indices: Iterable[int]) -> str:
    """Rows by number, the first below the header being 1."""
    numbers = [int(index) + 1 for index in indices]
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return f"row{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:SHOWN]))}{more}"


def _warn(where: str, what: str) -> None:
    warnings.warn(f"{where}: {what}", VoxloomWarning, stacklevel=4)
