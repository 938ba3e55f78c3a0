"""Grammar of contrast expressions: numbers, columns, ``+ - * /`` and parentheses, and what they come to.

Blanks are free::

    sum     = product (("+" | "-") product)*
    product = factor (("*" | "/") factor)*
    factor  = ("+" | "-") factor | number | column | "(" sum ")"
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import ContrastError

if TYPE_CHECKING:
    from collections.abc import Sequence

OPERATORS = frozenset("+-*/()")
#: Where a number or a name that is not in backticks ends.
END = r"(?=[\s+\-*/()`]|$)"
NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?" + END)
QUOTED = re.compile(r"`([^`]*)`")


class Token(NamedTuple):
    """One piece of an expression: an ``operator``, ``number``, ``column`` or the ``end``, and its text."""

    kind: str
    text: str


#: A sub-expression: a number, or weights over the columns.
Value = float | np.ndarray


def unit(index: int, length: int) -> np.ndarray:
    """Weights (length,) of one column."""
    e = np.zeros(length)
    e[index] = 1.0
    return e


class Parser:
    """Recursive descent over the tokens; one method per rule of the grammar.

    ``remedy`` is what messages about a token in a wrong place advise.
    """

    def __init__(self, tokens: Sequence[Token], names: Sequence[str], where: str, remedy: str) -> None:
        self.tokens, self.names, self.where, self.remedy, self.at = tokens, names, where, remedy, 0

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
        return unit(self.names.index(token.text), len(self.names))

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
        return ContrastError(self.where, found, self.remedy)
