"""Heights of the events of a condition: the main effect, and what modulates it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import DesignError, VoxloomWarning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: Values that differ by less than this share are one.
SAME = 1e-12


class Course(NamedTuple):
    """One regressor before convolution: its name and the height of each event."""

    name: str
    height: FloatArray


class Modulation:
    """How the events of a design are modulated.

    Parameters
    ----------
    rule : {"separate", "amplitude"}
        What the column ``modulation`` is.
    modulators : sequence of str, or mapping of str to sequence of str
        Further columns, of all conditions or of those named.
    where : str
        How messages name the events.

    Raises
    ------
    DesignError
        The rule is not known.
    """

    def __init__(self, rule: str, modulators: Sequence[str] | Mapping[str, Sequence[str]], where: str) -> None:
        if rule not in MAIN:
            raise DesignError(where, f"modulation={rule!r} is not known.", f"Give one of {list(MAIN)}.")
        self.rule, self.where = rule, where
        self.everywhere = () if isinstance(modulators, Mapping) else _listed(modulators)
        self.of = {c: _listed(names) for c, names in modulators.items()} if isinstance(modulators, Mapping) else {}

    @property
    def columns(self) -> list[str]:
        """Every further column that is used, once."""
        return list(dict.fromkeys([*self.everywhere, *(name for names in self.of.values() for name in names)]))

    def courses(self, condition: str, rows: pd.DataFrame) -> Iterator[Course]:
        """Main effect, then a centred course for each modulator that varies over the events `rows`."""
        yield from MAIN[self.rule](condition, rows)
        for name in self._modulators(condition, rows):
            if varies(rows, f"*{name}"):
                yield Course(f"{condition}*{name}", centred(rows, f"*{name}"))

    def report(self, events: pd.DataFrame) -> None:
        """Refuse gaps in modulators; warn of those that do not vary, and of conditions that do not occur.

        Raises
        ------
        DesignError
            A modulator is n/a at an event that it should modulate.
        """
        conditions = {str(name): rows for name, rows in events.groupby("trial_type")}
        absent = sorted(set(self.of) - set(conditions))
        if absent:
            _warn(self.where, f"modulators are wanted of {absent}, but there are no such events.")
        for condition, rows in conditions.items():
            for name in self._modulators(condition, rows):
                self._require_numbers(condition, name, rows)
        constant = [name for name, rows in conditions.items() if self._stays_out(rows)]
        if constant:
            _warn(
                self.where,
                f"the modulation of {constant} is the same for all events, so there is no regressor of it "
                "and the amplitude is 1. Pass modulation='amplitude' to scale the condition by it.",
            )
        flat = [
            f"{condition}*{name}"
            for condition, rows in conditions.items()
            for name in self._modulators(condition, rows)
            if not varies(rows[rows["in_run"]], f"*{name}")
        ]
        if flat:
            _warn(
                self.where,
                f"{flat} have the same value at all events in the run, so there is no such regressor, "
                "only the main effect.",
            )

    def _modulators(self, condition: str, rows: pd.DataFrame) -> Sequence[str]:
        everywhere = [name for name in self.everywhere if rows[f"*{name}"].notna().any()]
        return [*everywhere, *self.of.get(condition, ())]

    def _require_numbers(self, condition: str, name: str, rows: pd.DataFrame) -> None:
        missing = rows["onset"][rows[f"*{name}"].isna()]
        if len(missing):
            raise DesignError(
                self.where,
                f"{name} is n/a in {len(missing)} of {len(rows)} events of {condition!r}, the first at "
                f"{missing.iloc[0]:g} s.",
                "Give such events a trial_type of their own, or a value.",
            )

    def _stays_out(self, rows: pd.DataFrame) -> bool:
        return self.rule == "separate" and not varies(rows) and not np.isclose(_each(rows)[0], 1)


def _separate(name: str, rows: pd.DataFrame) -> Iterator[Course]:
    """Amplitude 1, then the centred modulation where it varies. An event given twice counts twice in both."""
    yield Course(name, rows["count"].to_numpy(dtype=np.float64))
    if varies(rows):
        yield Course(f"{name}*modulation", centred(rows))


def _amplitude(name: str, rows: pd.DataFrame) -> Iterator[Course]:
    yield Course(name, rows["modulation"].to_numpy())


MAIN = {"separate": _separate, "amplitude": _amplitude}


def centred(rows: pd.DataFrame, column: str = "modulation") -> FloatArray:
    """Values less their mean over the events; a row that stands for several counts as many times."""
    count, total = rows["count"].to_numpy(dtype=np.float64), rows[column].to_numpy()
    return np.asarray(total - count * total.sum() / count.sum())


def varies(rows: pd.DataFrame, column: str = "modulation") -> bool:
    """Whether the value is not the same at all events."""
    each = _each(rows, column)
    return bool(each.size and np.ptp(each) > SAME * np.abs(each).max())


def _each(rows: pd.DataFrame, column: str = "modulation") -> FloatArray:
    """Value of one of the events that a row stands for."""
    return np.asarray(rows[column] / rows["count"], dtype=np.float64)


def _listed(names: ArrayLike | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(map(str, names))  # type: ignore[arg-type]


def _warn(where: str, what: str) -> None:
    warnings.warn(f"{where}: {what}", VoxloomWarning, stacklevel=4)
