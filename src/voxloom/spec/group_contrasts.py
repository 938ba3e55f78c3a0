"""Contrasts of group models in the analysis file: expressions, terms of the formula, weights, several together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator, model_serializer, model_validator

from voxloom.errors import InputError
from voxloom.spec.contrast_rows import (
    Expressions,
    Rows,
    Weights,
    as_rows,
    by_name,
    row_texts,
    rows_of_weights,
    single_row,
    single_spaces,
    usual_type,
)
from voxloom.spec.contrasts import Weighted
from voxloom.spec.section import Section, did_you_mean
from voxloom.spec.values import Name

#: Keys of which one says what is tested.
_SPELLINGS = ("expression", "weights", "contrasts")


class GroupContrast(Section):
    """A question to a group model: an expression for t; a list, rows of weights or a term of the formula for F."""

    expression: Rows
    """Sum of weighted columns of the design, such as `a - b`; or a term of the formula, such as `C(site)`."""
    stat_type: Literal["t", "F"] | None = None
    """By default F for a list and for a term of several columns, else t."""

    @property
    def by_name(self) -> bool:
        """Whether it names columns, rather than weigh each in turn."""
        return by_name(self.expression)

    @property
    def text(self) -> str:
        """What it says, in a line."""
        return "; ".join(row_texts(self.expression))

    @model_validator(mode="before")
    @classmethod
    def _from_any_spelling(cls, raw: Any) -> Any:
        return written_out(raw)

    @field_validator("expression")
    @classmethod
    def _single_spaces(cls, rows: Any) -> Any:
        return single_spaces(rows)

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
        raw = {key: value for key, value in raw.items() if key != "weights"} | {
            "expression": rows_of_weights(raw["weights"])
        }
    if "expression" not in raw:
        return dict(raw)
    kind = raw.get("stat_type") or _usual(raw["expression"])
    rows = as_rows(raw["expression"])
    if kind == "t" and not single_row(rows):
        raise InputError("stat_type", "is t for several rows.", "Several rows are an F test.")
    return dict(raw) | {"expression": rows, "stat_type": kind}


def _usual(rows: Any) -> str | None:
    """Type of a test where none is given; of one expression the design says it, for it may be a term."""
    return None if isinstance(rows, str) else usual_type(rows)


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


Spelling = Rows | Weights | GroupContrast | Weighted | Together
GroupContrasts = Annotated[
    dict[Name, GroupContrast], BeforeValidator(_with_named, json_schema_input_type=dict[Name, Spelling])
]
