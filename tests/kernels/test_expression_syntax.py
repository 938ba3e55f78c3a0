"""Syntax of contrasts before there is a design: nothing is refused that some columns make right; slips are found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxloom.errors import ContrastError
from voxloom.kernels.expression import parse_contrast
from voxloom.kernels.expression_syntax import require_syntax

NAMES = ["face", "CS+", "CS-", "go-left", "face (happy)", "face happy", "2 back", "target*modulation", "a:b", "X[T.b]"]
NUMBERS = ["2", "0.5", "1e-3", "-1", "(1 / 3)"]
SUMS = st.recursive(
    st.sampled_from([*NAMES, *(f"`{name}`" for name in NAMES)]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", " - ", " -", "- "]), inner).map("".join),
        st.tuples(st.sampled_from(NUMBERS), st.sampled_from(["*", " * "]), inner.map("({})".format)).map("".join),
        st.tuples(inner.map("( {} )".format), st.sampled_from([" / 2", "*0.5"])).map("".join),
        inner.map("-{}".format),
    ),
    max_leaves=6,
)


@given(SUMS)
@settings(deadline=None, max_examples=300)
def test_what_these_columns_make_right_is_not_refused(expression):
    try:
        parse_contrast(expression, NAMES)
    except ContrastError:
        return  # a sum that these columns do not make right: `CS+- CS-`
    require_syntax(expression)


@pytest.mark.parametrize(
    "expression", ["3back - 0back", "CS+ - CS-", "2*(CS+ - CS-)", "CS+ - 2*(b - CS-)", "CS+ - a*(2) - CS-", "1", "C++"]
)
def test_names_may_hold_operators_and_digits(expression):
    require_syntax(expression)


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("a -", "the end is unexpected"),
        ("a * * b", r"'\*' is unexpected"),
        ("* a", r"'\*' is unexpected"),
        ("(a - b", r"`\)` is missing before the end"),
        ("a - b)", r"'\)' is unexpected"),
        ("a - ()", r"'\)' is unexpected"),
        ("a - `b", "backtick at character 5 is not closed"),
        ("a - 1", "adds the number -1 to columns"),
        ("a / b", "divides by columns"),
        ("a / 0", "divides by zero"),
    ],
)
def test_slips_are_told_with_what_is_wrong(expression, what):
    with pytest.raises(ContrastError, match=what):
        require_syntax(expression)
