"""What a contrast of the analysis file weighs, at either level: expressions, or weights of the columns in turn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from voxloom.errors import InputError
from voxloom.spec.values import Name

Expressions = Annotated[tuple[Name, ...], Field(min_length=1)]
Weights = Annotated[tuple[float, ...], Field(min_length=1)]
Matrix = Annotated[tuple[Weights, ...], Field(min_length=1)]
#: Names that expressions take without backticks, whatever the other columns are called.
_PLAIN = re.compile(r"[^\W\d][\w.]*")
#: An expression, several, or rows of weights.
Rows = Name | Expressions | Matrix


def as_rows(raw: Any) -> Any:
    """One expression, several, or rows of weights; a row of weights alone is the only one.

    Raises
    ------
    InputError
        A list that is neither of expressions nor of numbers.
    """
    if isinstance(raw, str):
        return raw
    if is_weights(raw):
        raw = [raw]
    listed = list(raw) if isinstance(raw, (list, tuple)) else []
    if not listed or not (all(isinstance(row, str) for row in listed) or all(map(is_weights, listed))):
        raise InputError("", f"is {raw!r}.", "An expression such as `a - b`, several, or rows of numbers are wanted.")
    if any(is_weights(row) and not any(row) for row in listed):
        raise InputError("", f"is {raw!r}, of which a row weighs no column.", "Give weights other than 0.")
    return listed[0] if len(listed) == 1 and isinstance(listed[0], str) else listed


def is_weights(row: Any) -> bool:
    """Whether this is a list of numbers."""
    return isinstance(row, (list, tuple)) and bool(row) and all(map(is_weight, row))


def is_weight(value: Any) -> bool:
    """Whether this is a number, which true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def single_row(rows: Any) -> bool:
    """Whether there is one row: a t contrast, where nothing else is said."""
    return isinstance(rows, str) or len(rows) == 1


def by_name(rows: Rows) -> bool:
    """Whether columns are named, rather than weighed in turn."""
    return isinstance(rows, str) or isinstance(rows[0], str)


def row_texts(rows: Rows) -> list[str]:
    """Each row, in a line."""
    listed = [rows] if isinstance(rows, str) else rows
    return [row if isinstance(row, str) else " ".join(f"{weight:g}" for weight in row) for row in listed]


def single_spaces(rows: Any) -> Any:
    """Expressions with one blank where there are several, so that spacing does not name results."""
    if isinstance(rows, str):
        return " ".join(rows.split())
    return tuple(" ".join(row.split()) if isinstance(row, str) else row for row in rows)


def usual_type(raw: Any) -> str:
    """Type of a test where none is given: F of a list, but t of a row of numbers."""
    listed = isinstance(raw, (list, tuple)) and not is_weights(raw)
    return "F" if listed and not (len(raw) == 1 and is_weights(raw[0])) else "t"


def rows_of_weights(value: Any) -> Any:
    """Rows of a contrast that is given as weights: by name, or of the columns in turn."""
    if isinstance(value, Mapping):
        return weighted_sum(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(row, Mapping) for row in value):
        return [weighted_sum(row) for row in value]
    if not is_weights(value) and not (isinstance(value, (list, tuple)) and value and all(map(is_weights, value))):
        raise InputError(
            "weights", f"is {value!r}.", "{name: weight}, numbers for the columns in turn, or rows of them."
        )
    return value


def weighted_sum(weights: Mapping[Any, Any]) -> str:
    """Expression of weights by column name: ``{face: 1, house: -0.5}`` is ``face - 0.5 * house``.

    Raises
    ------
    InputError
        A weight is no finite number, or none of them counts.
    """
    terms = [_term(str(name), weight) for name, weight in weights.items() if weight != 0]
    if not terms:
        raise InputError("weights", "weighs no column.", "Give {name: weight}.")
    return " ".join(terms).removeprefix("+ ")


def _term(name: str, weight: Any) -> str:
    if not is_weight(weight) or not math.isfinite(weight):
        raise InputError(f"weights.{name}", f"is {weight!r}.", "A finite number is wanted.")
    column = name if _PLAIN.fullmatch(name) else f"`{name}`"
    factor = "" if abs(weight) == 1 else f"{_shortest(abs(weight))} * "
    return f"{'-' if weight < 0 else '+'} {factor}{column}"


def _shortest(number: float) -> str:
    """Digits that give this number again: 2 for 2.0, so that equal weights are equal text."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(float(number))
