"""Contrast expressions, such as ``face - 0.5 * (house + cat)``, to one weight per column.

Grammar (blanks are free)::

    sum     = product (("+" | "-") product)*
    product = factor (("*" | "/") factor)*
    factor  = ("+" | "-") factor | number | column | "(" sum ")"

A column is a name in backticks, or the longest known name that starts here and ends at a blank, an operator,
a parenthesis or the end; so ``target*modulation``, ``a:b`` and names with blanks need no quotes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import ContrastError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

_END = r"(?=[\s+\-*/()`]|$)"
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?" + _END)
_QUOTED = re.compile(r"`([^`]*)`")
_WORD = re.compile(r"[^\s+\-*/()`]+")
_OPERATORS = frozenset("+-*/()")


class Token(NamedTuple):
    """One piece of an expression: an ``operator``, ``number``, ``column`` or the ``end``, and its text."""

    kind: str
    text: str


#: A sub-expression: a number, or weights over the columns.
Value = float | np.ndarray


def parse_contrast(expression: str, columns: Sequence[str]) -> FloatArray:
    """Weights of a linear expression of column names.

    Parameters
    ----------
    expression : str
        Names, numbers, ``+ - * /`` and parentheses; an expression that equals a name is that column.
    columns : sequence of str
        Names of the design's columns.

    Returns
    -------
    (K,) array

    Raises
    ------
    ContrastError
        For an unknown name (with the nearest known), a name that could also be read as an expression, bad
        syntax, and anything that is not a weighted sum of columns.
    """
    where = f"contrast {expression!r}"
    names = [str(name) for name in columns]
    if len(set(names)) != len(names):
        raise ContrastError(where, f"the columns {names} are not unique.", "Rename those that repeat.")
    if expression.strip() in names:
        return _unit(names.index(expression.strip()), len(names))
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        value = _Parser(_tokens(expression, names, where), names, where).parse()
    if not isinstance(value, np.ndarray):
        raise ContrastError(where, f"is the number {value:g}, no column.", f"The columns are {names}.")
    if not np.isfinite(value).all():
        raise ContrastError(where, "has a weight that is not finite.", "Give finite numbers.")
    return value


def contrast_matrix(contrast: str | Sequence[str] | Sequence[float] | ArrayLike, columns: Sequence[str]) -> FloatArray:
    """Rows of contrast weights (q, K); q above 1 asks for an F test.

    Parameters
    ----------
    contrast : str, sequence of str, (K,) or (q, K) array_like
        One expression, one per row, or the weights.
    columns : sequence of str
        Names of the design's K columns.

    Raises
    ------
    ContrastError
        Where an expression is wrong, a row has not K weights, or a row weighs no column.
    """
    if isinstance(contrast, str):
        C = parse_contrast(contrast, columns)[np.newaxis]
    elif isinstance(contrast, Sequence) and contrast and all(isinstance(row, str) for row in contrast):
        C = np.stack([parse_contrast(str(row), columns) for row in contrast])
    else:
        C = _weights(contrast, columns)
    empty = np.flatnonzero(~C.any(axis=1)).tolist()
    if empty:
        raise ContrastError(f"contrast {contrast!r}", f"rows {empty} weigh no column.", "Drop them.")
    return C


def _weights(contrast: ArrayLike, columns: Sequence[str]) -> FloatArray:
    where = "contrast"
    try:
        C = np.atleast_2d(np.asarray(contrast, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ContrastError(
            where,
            f"{contrast!r} is neither expressions nor rows of numbers of one length.",
            f"Give one weight for each of the columns {list(columns)}.",
        ) from error
    if C.ndim != 2 or C.shape[1] != len(columns) or not C.size:
        raise ContrastError(
            where,
            f"has {C.shape[-1]} weights, but the design has {len(columns)} columns.",
            f"Give one weight for each of {list(columns)}, or an expression of their names.",
        )
    if not np.isfinite(C).all():
        raise ContrastError(where, "has a weight that is not finite.", "Give finite numbers.")
    return C


def _unit(index: int, length: int) -> FloatArray:
    e = np.zeros(length)
    e[index] = 1.0
    return e


def _tokens(expression: str, names: Sequence[str], where: str) -> list[Token]:
    """Cut the expression into tokens; raises for unknown and ambiguous names."""
    bare = [
        (name, re.compile(re.escape(name) + _END))
        for name in sorted(names, key=len, reverse=True)
        if name.strip() and not _NUMBER.fullmatch(name)
    ]
    tokens, at = [], 0
    while at < len(expression):
        if expression[at].isspace():
            at += 1
            continue
        token, at = _next_token(expression, at, names, bare, where)
        tokens.append(token)
    return [*tokens, Token("end", "")]


def _next_token(
    expression: str, at: int, names: Sequence[str], bare: Sequence[tuple[str, re.Pattern[str]]], where: str
) -> tuple[Token, int]:
    if quoted := _QUOTED.match(expression, at):
        if quoted[1] not in names:
            raise _unknown(quoted[1], names, where)
        return Token("column", quoted[1]), quoted.end()
    for name, pattern in bare:
        if pattern.match(expression, at):
            _require_unambiguous(name, names, where)
            return Token("column", name), at + len(name)
    if number := _NUMBER.match(expression, at):
        return Token("number", number[0]), number.end()
    if expression[at] in _OPERATORS:
        return Token("operator", expression[at]), at + 1
    if word := _WORD.match(expression, at):
        raise _unknown(word[0], names, where)
    raise ContrastError(where, f"a backtick at character {at + 1} is not closed.", "Write `name`.")


def _require_unambiguous(name: str, names: Sequence[str], where: str) -> None:
    """Refuse the column ``a-b`` where ``a`` and ``b`` are columns too: their difference may be meant."""
    if not set(name) & set("+-*/()"):
        return
    try:
        parse_contrast(name, [other for other in names if other != name])
    except ContrastError:
        return
    raise ContrastError(
        where,
        f"{name!r} is a column, and also an expression of other columns.",
        f"Write `{name}` in backticks for the column, or the other names in backticks for the expression.",
    )


def _unknown(name: str, names: Sequence[str], where: str) -> ContrastError:
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else ""
    return ContrastError(where, f"Contrast not found in design matrix: {name!r}; columns are {list(names)}.", hint)


class _Parser:
    """Recursive descent over the tokens; one method per rule of the grammar."""

    def __init__(self, tokens: Sequence[Token], names: Sequence[str], where: str) -> None:
        self.tokens, self.names, self.where, self.at = tokens, names, where, 0

    def parse(self) -> Value:
        """Value of the whole expression."""
        value = self.sum()
        if self.tokens[self.at].kind != "end":
            raise self.unexpected()
        return value

    def operator(self, signs: str) -> str:
        """Take the next token if it is one of these operators; empty otherwise."""
        token = self.tokens[self.at]
        if token.kind != "operator" or token.text not in signs:
            return ""
        self.at += 1
        return token.text

    def sum(self) -> Value:
        """Products added and subtracted."""
        value = self.product()
        while sign := self.operator("+-"):
            value = self.added(value, self.product() * (1.0 if sign == "+" else -1.0))
        return value

    def product(self) -> Value:
        """Factors multiplied and divided."""
        value = self.factor()
        while sign := self.operator("*/"):
            combine = self.multiplied if sign == "*" else self.divided
            value = combine(value, self.factor())
        return value

    def factor(self) -> Value:
        """Sign, number, column or parenthesis."""
        if sign := self.operator("+-"):
            return self.factor() * (1.0 if sign == "+" else -1.0)
        if self.operator("("):
            value = self.sum()
            if not self.operator(")"):
                raise self.unexpected("`)` is missing before ")
            return value
        token = self.tokens[self.at]
        if token.kind not in ("number", "column"):
            raise self.unexpected()
        self.at += 1
        if token.kind == "number":
            return float(token.text)
        return _unit(self.names.index(token.text), len(self.names))

    def added(self, left: Value, right: Value) -> Value:
        """Sum; a number cannot be added to columns (zero can)."""
        for number, other in ((left, right), (right, left)):
            if not isinstance(number, np.ndarray) and isinstance(other, np.ndarray):
                if number != 0:
                    raise self.not_linear(f"adds the number {number:g} to columns")
                return other
        return left + right

    def multiplied(self, left: Value, right: Value) -> Value:
        """Product; at most one side may hold columns."""
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            raise self.not_linear("multiplies columns by columns")
        return left * right

    def divided(self, left: Value, right: Value) -> Value:
        """Quotient by a number."""
        if isinstance(right, np.ndarray):
            raise self.not_linear("divides by columns")
        if right == 0:
            raise self.not_linear("divides by zero")
        return left / right

    def not_linear(self, what: str) -> ContrastError:
        """Error for an expression that is no weighted sum."""
        remedy = "A contrast is a sum of columns times numbers, such as face - 0.5 * house."
        return ContrastError(self.where, f"{what}.", remedy)

    def unexpected(self, before: str = "") -> ContrastError:
        """Error for a token that cannot stand here."""
        token = self.tokens[self.at]
        what = "the end" if token.kind == "end" else repr(token.text)
        found = f"{before}{what}." if before else f"{what} is unexpected."
        return ContrastError(self.where, found, f"The columns are {list(self.names)}.")
