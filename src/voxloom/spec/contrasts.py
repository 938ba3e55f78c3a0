"""First-level contrasts of the analysis file: expressions, weights, conjunctions, brought into one form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from voxloom.errors import ContrastError, InputError
from voxloom.kernels.expression_syntax import require_syntax
from voxloom.spec.contrast_rows import (
    Matrix,
    Rows,
    Weights,
    as_rows,
    by_name,
    row_texts,
    rows_of_weights,
    single_row,
    single_spaces,
    usual_type,
    weighted_sum,
)
from voxloom.spec.section import Section, did_you_mean
from voxloom.spec.values import Name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

StatType = Literal["t", "F", "conjunction"]


class Contrast(Section):
    """A question to the model: one row for t, one or several for F, several for a conjunction."""

    expression: Rows
    """Sum of weighted column names, such as `face - house`; or weights of the first columns in turn."""
    stat_type: StatType = "t"
    """By default `t` for a single expression or row, `F` for a list; `conjunction`: the smallest z of several t."""

    @property
    def said(self) -> str | list[str]:
        """What it says, for those that read it: the expressions, or a line of weights for each row."""
        texts = row_texts(self.expression)
        return texts[0] if single_row(self.expression) else texts

    @property
    def in_turn(self) -> bool:
        """Whether it weighs columns by their place."""
        return not by_name(self.expression)

    def over(self, columns: Sequence[str]) -> Rows:
        """Its rows for a design; weights have one for every column, 0 for those behind the last that is given.

        Raises
        ------
        ContrastError
            There are more weights than columns.
        """
        if not self.in_turn:
            return self.expression
        return tuple(_filled(row, columns) for row in self.expression if not isinstance(row, str))

    def named(self, columns: Sequence[str]) -> str | list[str]:
        """What it says of a design, in the names of its columns; raises as `over`."""
        if not self.in_turn:
            return self.said
        rows = [weighted_sum(dict(zip(columns, row))) for row in self.over(columns)]
        return rows[0] if single_row(self.expression) else rows

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
        rows = as_rows(raw["expression"])
        kind = raw.get("stat_type") or usual_type(raw["expression"])
        if kind == "t" and not single_row(rows):
            raise InputError("stat_type", "is t for several expressions.", "Several rows are an F test.")
        if kind == "conjunction" and single_row(rows):
            raise InputError("conjunction", f"is of {rows!r} alone.", "Two expressions or more are wanted.")
        return raw | {"expression": rows, "stat_type": kind}

    @field_validator("expression")
    @classmethod
    def _right_for_some_design(cls, rows: Rows) -> Any:
        for row in row_texts(rows) if by_name(rows) else ():
            try:
                require_syntax(row)
            except ContrastError as error:
                raise InputError("", f"{error.where}: {error.what}", error.remedy) from None
        return single_spaces(rows)


def _filled(row: Sequence[float], columns: Sequence[str]) -> tuple[float, ...]:
    if len(row) > len(columns):
        raise ContrastError(
            "contrast", f"is too long: {len(row)} weights for {len(columns)} columns.", f"They are {list(columns)}."
        )
    return (*row, *[0.0] * (len(columns) - len(row)))


class Weighted(Section):
    """A contrast as weights: one mapping or row of numbers for t, a list of them for F."""

    weights: dict[Name, float] | Annotated[tuple[dict[Name, float], ...], Field(min_length=1)] | Weights | Matrix
    """Weight of each column that has one, such as `{face: 1, house: -1}`; or of the columns in turn: `[1, -1]`."""
    stat_type: Literal["t", "F"] | None = None


class Conjunction(Section):
    """The smallest z of several t contrasts, against the conjunction null."""

    conjunction: Annotated[tuple[Name, ...], Field(min_length=2)]
    """Expressions, each a t contrast."""


def _from_conjunction(value: Any) -> dict[str, Any]:
    return {"expression": value, "stat_type": "conjunction"}


#: Spellings that stand in place of `expression`.
_SPELLINGS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "weights": lambda value: {"expression": rows_of_weights(value)},
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


ContrastSpelling = Rows | Weights | Contrast | Weighted | Conjunction
Contrasts = Annotated[
    dict[Name, Contrast],
    BeforeValidator(lambda raw: {} if raw is None else raw, json_schema_input_type=dict[Name, ContrastSpelling]),
]
