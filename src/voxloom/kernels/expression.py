"""Contrast expressions, such as ``face - 0.5 * (house + cat)``, to one weight per column.

A column is a name in backticks, or the longest known name that starts here and ends at a blank, an operator,
a parenthesis or the end; so ``target*modulation``, ``a:b`` and names with blanks need no quotes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

from voxloom.errors import ContrastError
from voxloom.kernels.expression_grammar import END, NUMBER, OPERATORS, QUOTED, Parser, Token, unit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

_WORD = re.compile(r"[^\s+\-*/()`]+")


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
    _require_unique(names, where)
    if expression.strip() in names:
        return unit(names.index(expression.strip()), len(names))
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        value = Parser(_tokens(expression, names, where), names, where, f"The columns are {names}.").parse()
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
        Where an expression is wrong, columns share a name, a row has not K weights, or a row weighs no column.
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
    _require_unique(list(map(str, columns)), where)
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


def _require_unique(names: Sequence[str], where: str) -> None:
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise ContrastError(where, f"the columns {twice} are not unique.", "Rename those that repeat.")


def _tokens(expression: str, names: Sequence[str], where: str) -> list[Token]:
    """Cut the expression into tokens; raises for unknown and ambiguous names."""
    bare = [
        (name, re.compile(re.escape(name) + END))
        for name in sorted(names, key=len, reverse=True)
        if name.strip() and not NUMBER.fullmatch(name)
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
    if quoted := QUOTED.match(expression, at):
        if quoted[1] not in names:
            raise _unknown(quoted[1], names, where)
        return Token("column", quoted[1]), quoted.end()
    for name, pattern in bare:
        if pattern.match(expression, at):
            _require_unambiguous(name, names, where)
            return Token("column", name), at + len(name)
    if number := NUMBER.match(expression, at):
        return Token("number", number[0]), number.end()
    if expression[at] in OPERATORS:
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
