"""Contrasts of group models in the analysis file: expressions, terms of the formula, weights, several together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

from voxloom.errors import InputError
from voxloom.spec.contrasts import WeightsByName, weighted_sum
from voxloom.spec.section import Section, did_you_mean
from voxloom.spec.values import Name

Expressions = Annotated[tuple[Name, ...], Field(min_length=1)]
Matrix = Annotated[tuple[Annotated[tuple[float, ...], Field(min_length=1)], ...], Field(min_length=1)]
#: Keys of which one says what is tested.
_SPELLINGS = ("expression", "weights", "contrasts")


class GroupContrast(Section):
    """A question to a group model: an expression for t; a list, rows of weights or a term of the formula for F."""

    expression: Name | Expressions | Matrix
    """Sum of weighted columns of the design, such as `a - b`; or a term of the formula, such as `C(site)`."""
    stat_type: Literal["t", "F"] | None = None
    """By default F for a list and for a term of several columns, else t."""

    @property
    def by_name(self) -> bool:
        """Whether it names columns, rather than weigh each in turn."""
        return isinstance(self.expression, str) or isinstance(self.expression[0], str)

    @property
    def text(self) -> str:
        """What it says, in a line."""
        rows = [self.expression] if isinstance(self.expression, str) else self.expression
        return "; ".join(row if isinstance(row, str) else " ".join(f"{weight:g}" for weight in row) for row in rows)

    @model_validator(mode="before")
    @classmethod
    def _from_any_spelling(cls, raw: Any) -> Any:
        return written_out(raw)

    @field_validator("expression")
    @classmethod
    def _single_spaces(cls, rows: Any) -> Any:
        if isinstance(rows, str):
            return " ".join(rows.split())
        return tuple(" ".join(row.split()) if isinstance(row, str) else row for row in rows)

    @model_serializer
    def _short(self) -> Any:
        """As it is written where nothing has to be said beside the expression: results keep their names."""
        if self.stat_type == _usual(self.expression):
            return self.expression
        return {"expression": self.expression, "stat_type": self.stat_type}


class Together(Section):
    """Contrasts of the same model tested together, by F."""

    contrasts: Expressions
    """Their names."""


def written_out(raw: Any) -> dict[str, Any]:
    """A contrast, however it is written, as expression and type.

    Raises
    ------
    InputError
        It says nothing, or two things, or is a t of several rows.
    """
    if isinstance(raw, (str, list, tuple)):
        raw = {"expression": raw}
    if not isinstance(raw, Mapping):
        raise InputError("", f"is {raw!r}.", "An expression such as `a - b` is wanted.")
    given = [key for key in _SPELLINGS if key in raw]
    if len(given) > 1:
        raise InputError(given[1], f"is given beside `{given[0]}`.", "One of them says the contrast.")
    if "weights" in raw:
        raw = {key: value for key, value in raw.items() if key != "weights"} | {"expression": _rows(raw["weights"])}
    if "expression" not in raw:
        return dict(raw)
    rows = raw["expression"]
    if _numbers(rows):
        rows = [rows]
    if not isinstance(rows, str):
        _require_rows(rows)
    kind = raw.get("stat_type") or _usual(rows)
    if isinstance(rows, (list, tuple)) and len(rows) == 1 and isinstance(rows[0], str):
        rows = rows[0]
    if kind == "t" and not isinstance(rows, str) and len(rows) > 1:
        raise InputError("stat_type", "is t for several rows.", "Several rows are an F test.")
    return dict(raw) | {"expression": rows, "stat_type": kind}


def _require_rows(rows: Any) -> None:
    listed = list(rows) if isinstance(rows, (list, tuple)) else []
    if not listed or not (all(isinstance(row, str) for row in listed) or all(map(_numbers, listed))):
        raise InputError("", f"is {rows!r}.", "An expression such as `a - b`, several, or rows of numbers are wanted.")


def _usual(rows: Any) -> str | None:
    """Type of a test where none is given: F of a list; what the design says of one expression; t of one row."""
    if isinstance(rows, str):
        return None
    single = len(rows) == 1 and _numbers(rows[0])
    return "t" if single else "F"


def _numbers(row: Any) -> bool:
    return isinstance(row, (list, tuple)) and bool(row) and all(isinstance(weight, (int, float)) for weight in row)


def _rows(weights: Any) -> Any:
    """Rows of a contrast that is given as weights: by name, or one for each column."""
    if isinstance(weights, Mapping):
        return weighted_sum(weights)
    if isinstance(weights, (list, tuple)) and weights and all(isinstance(row, Mapping) for row in weights):
        return [weighted_sum(row) for row in weights]
    return weights


def _with_named(raw: Any) -> Any:
    """Contrasts of which those that name others have the rows of these."""
    if not isinstance(raw, Mapping):
        return raw
    together = {name: value for name, value in raw.items() if isinstance(value, Mapping) and "contrasts" in value}
    alone = {name: value for name, value in raw.items() if name not in together}
    return {name: _joined(name, value, alone) if name in together else value for name, value in raw.items()}


def _joined(name: str, value: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of the contrasts that one names, as one."""
    names, rows = value["contrasts"], list[Any]()
    for other in names if isinstance(names, (list, tuple)) else [names]:
        if other not in others:
            raise InputError(f"{name}.contrasts", f"{other!r} is no contrast.", did_you_mean(str(other), others))
        expression = written_out(others[other]).get("expression", ())
        rows += [expression] if isinstance(expression, str) else expression
    return {key: given for key, given in value.items() if key != "contrasts"} | {"expression": rows}


Spelling = Name | Expressions | tuple[float, ...] | Matrix | GroupContrast | WeightsByName | Together
GroupContrasts = Annotated[
    dict[Name, GroupContrast], BeforeValidator(_with_named, json_schema_input_type=dict[Name, Spelling])
]
