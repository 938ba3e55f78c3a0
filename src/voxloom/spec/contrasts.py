"""First-level contrasts of the analysis file: expressions, weights by name, conjunctions, brought into one form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from voxloom.errors import InputError
from voxloom.spec.section import Section, did_you_mean
from voxloom.spec.values import Name

if TYPE_CHECKING:
    from collections.abc import Callable

StatType = Literal["t", "F", "conjunction"]
Rows = str | Sequence[str]
#: Names that expressions take without backticks, whatever the other columns are called.
_PLAIN = re.compile(r"[^\W\d][\w.]*")


class Contrast(Section):
    """A question to the model: one expression for t, one or several for F, several for a conjunction."""

    expression: Name | Annotated[tuple[Name, ...], Field(min_length=1)]
    """Sum of weighted column names, such as `face - house`."""
    stat_type: StatType = "t"
    """By default `t` for a single expression, `F` for a list; `conjunction`: the smallest z of several t."""

    @model_validator(mode="before")
    @classmethod
    def _from_any_spelling(cls, raw: Any) -> Any:
        if isinstance(raw, (str, list, tuple)):
            raw = {"expression": raw}
        if not isinstance(raw, dict):
            raise InputError("", f"is {raw!r}.", "An expression such as `face - house` is wanted.")
        raw = _spelled_out(raw)
        if "expression" not in raw:
            return raw
        rows = raw["expression"]
        kind = raw.get("stat_type") or ("t" if isinstance(rows, str) else "F")
        if isinstance(rows, (list, tuple)) and len(rows) == 1:
            rows = rows[0]
        if isinstance(rows, (list, tuple)) and not rows:
            raise InputError("expression", "is an empty list.", "At least one expression is wanted.")
        if kind == "t" and not isinstance(rows, str):
            raise InputError("stat_type", "is t for several expressions.", "Several rows are an F test.")
        if kind == "conjunction" and isinstance(rows, str):
            raise InputError("conjunction", f"is of {rows!r} alone.", "Two expressions or more are wanted.")
        return raw | {"expression": rows, "stat_type": kind}

    @field_validator("expression")
    @classmethod
    def _single_spaces(cls, rows: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(rows, str):
            return " ".join(rows.split())
        return tuple(" ".join(row.split()) for row in rows)


class WeightsByName(Section):
    """A contrast as weights: one mapping for t, a list of them for F."""

    weights: dict[Name, float] | Annotated[tuple[dict[Name, float], ...], Field(min_length=1)]
    """Weight of each column that has one, such as `{face: 1, house: -1}`."""
    stat_type: Literal["t", "F"] | None = None


class Conjunction(Section):
    """The smallest z of several t contrasts, against the conjunction null."""

    conjunction: Annotated[tuple[Name, ...], Field(min_length=2)]
    """Expressions, each a t contrast."""


def _from_weights(value: Any) -> dict[str, Any]:
    if isinstance(value, (list, tuple)):
        return {"expression": [weighted_sum(row) for row in value]}
    return {"expression": weighted_sum(value)}


def _from_conjunction(value: Any) -> dict[str, Any]:
    return {"expression": value, "stat_type": "conjunction"}


#: Spellings that stand in place of `expression`.
_SPELLINGS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "weights": _from_weights,
    "conjunction": _from_conjunction,
}


def _spelled_out(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with `expression` in place of another spelling."""
    given = [key for key in ("expression", *_SPELLINGS) if key in raw]
    if len(given) > 1:
        raise InputError(given[1], f"is given beside `{given[0]}`.", "One of them says the contrast.")
    if not given:
        for key in raw:
            if key != "stat_type":
                raise InputError(str(key), "is not a known key.", did_you_mean(str(key), ("expression", *_SPELLINGS)))
        return dict(raw)
    if given == ["expression"]:
        return dict(raw)
    (key,) = given
    return {name: value for name, value in raw.items() if name != key} | _SPELLINGS[key](raw[key])


def weighted_sum(weights: Any) -> str:
    """Expression of weights by column name: ``{face: 1, house: -0.5}`` is ``face - 0.5 * house``.

    Raises
    ------
    InputError
        Not a mapping of names to finite numbers, or none of them counts.
    """
    if not isinstance(weights, Mapping):
        raise InputError("weights", f"is {weights!r}.", "Runs differ in their columns: give {name: weight}.")
    terms = [_term(str(name), weight) for name, weight in weights.items() if weight != 0]
    if not terms:
        raise InputError("weights", "weighs no column.", "Give {name: weight}.")
    return " ".join(terms).removeprefix("+ ")


def _term(name: str, weight: Any) -> str:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
        raise InputError(f"weights.{name}", f"is {weight!r}.", "A finite number is wanted.")
    column = name if _PLAIN.fullmatch(name) else f"`{name}`"
    factor = "" if abs(weight) == 1 else f"{_shortest(abs(weight))} * "
    return f"{'-' if weight < 0 else '+'} {factor}{column}"


def _shortest(number: float) -> str:
    """Digits that give this number again: 2 for 2.0, so that equal weights are equal text."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(float(number))


ContrastSpelling = Name | Annotated[tuple[Name, ...], Field(min_length=1)] | Contrast | WeightsByName | Conjunction
Contrasts = Annotated[
    dict[Name, Contrast],
    BeforeValidator(lambda raw: {} if raw is None else raw, json_schema_input_type=dict[Name, ContrastSpelling]),
]
