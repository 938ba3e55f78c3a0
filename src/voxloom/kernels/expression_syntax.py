"""What is wrong with a contrast expression whatever the columns are called: it is asked before there is a design.

Names need no backticks though they hold blanks, parentheses or operators (``CS+``, ``go-left``, ``face (happy)``), so
an expression is wrong when neither reading of it is right: operators that touch a name are operators, or a part of it.
"""

from __future__ import annotations

import re
from itertools import groupby

import numpy as np

from voxloom.errors import ContrastError
from voxloom.kernels.expression_grammar import NUMBER, OPERATORS, QUOTED, Parser, Token

#: Names by either reading. By the second they take in ``(...)`` behind them, and operators with no parenthesis behind.
_STRICT = re.compile(r"[^\s+\-*/()`]+")
_LOOSE = re.compile(r"[^\s+\-*/()`](?:[^\s+\-*/()`]|\s*\([^()`]*\)|[+\-*/]+(?![+\-*/(`]))*")
_REMEDY = "Write an expression such as `face - 0.5 * house`; put names with operators in backticks."


def require_syntax(expression: str) -> None:
    """Refuse an expression that is wrong for any columns.

    Raises
    ------
    ContrastError
        An operator, a parenthesis or a backtick has no partner, or what it says is no weighted sum.
    """
    errors = [error for reading in (_STRICT, _LOOSE) if (error := _error(expression, reading)) is not None]
    if len(errors) == 2:
        raise errors[0]


def _error(expression: str, reading: re.Pattern[str]) -> ContrastError | None:
    where = f"contrast {expression!r}"
    try:
        tokens = _tokens(expression, reading, where)
        names = list(dict.fromkeys(token.text for token in tokens if token.kind == "column"))
        with np.errstate(over="ignore", invalid="ignore"):
            Parser(tokens, names, where, _REMEDY).parse()
    except ContrastError as error:
        return error
    return None


def _tokens(expression: str, reading: re.Pattern[str], where: str) -> list[Token]:
    """Pieces of the expression; names and numbers with nothing between them are one name."""
    found, at = list[Token](), 0
    while at < len(expression):
        if expression[at].isspace():
            at += 1
            continue
        token, at = _next_token(expression, at, reading, where)
        found.append(token)
    pieces = [list(group) for _, group in groupby(found, lambda token: token.kind == "operator")]
    return [token for piece in pieces for token in _joined(piece)] + [Token("end", "")]


def _joined(piece: list[Token]) -> list[Token]:
    if piece[0].kind == "operator" or len(piece) == 1:
        return piece
    return [Token("column", " ".join(token.text for token in piece))]


def _next_token(expression: str, at: int, reading: re.Pattern[str], where: str) -> tuple[Token, int]:
    for kind, pattern, group in (("column", QUOTED, 1), ("number", NUMBER, 0), ("column", reading, 0)):
        if match := pattern.match(expression, at):
            return Token(kind, match[group]), match.end()
    if expression[at] in OPERATORS:
        return Token("operator", expression[at]), at + 1
    raise ContrastError(where, f"a backtick at character {at + 1} is not closed.", "Write `name`.")
