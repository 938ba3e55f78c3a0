"""Contrast expressions: a parser against its own renderings, nilearn and the messages users see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nilearn.glm.contrasts import expression_to_contrast_vector

from voxloom.errors import ContrastError
from voxloom.kernels.expression import contrast_matrix, parse_contrast

PLAIN = ["face", "house", "faces", "cat_derivative", "constant", "drift_1"]
AWKWARD = [*PLAIN, "target*modulation", "target", "a:b", "left hand", "t-shirt", "2back", "0back", "x.y[T.1]"]

numbers = st.floats(-100, 100).filter(lambda x: abs(x) > 1e-6).map(lambda x: round(x, 4)).filter(bool)


def expressions(columns, quote):
    """Pairs of text and the coefficients it must parse to."""
    e = np.eye(len(columns))
    names = st.integers(0, len(columns) - 1).map(lambda k: (quote(columns[k]), e[k]))

    def grow(inner):
        pair = st.tuples(inner, inner)
        return st.one_of(
            pair.map(lambda p: (f"{p[0][0]} + {p[1][0]}", p[0][1] + p[1][1])),
            pair.map(lambda p: (f"{p[0][0]}  -  ({p[1][0]})", p[0][1] - p[1][1])),
            st.tuples(numbers, inner).map(lambda p: (f"{p[0]!r} * ({p[1][0]})", p[0] * p[1][1])),
            st.tuples(inner, numbers).map(lambda p: (f"({p[0][0]})*{p[1]!r}", p[0][1] * p[1])),
            st.tuples(inner, numbers).map(lambda p: (f"({p[0][0]}) / {p[1]!r}", p[0][1] / p[1])),
            st.tuples(inner, numbers, numbers).map(
                lambda p: (f"({p[1]!r} - {p[2]!r}/3)*({p[0][0]})", (p[1] - p[2] / 3) * p[0][1])
            ),
            inner.map(lambda p: (f"-({p[0]})", -p[1])),
        )

    return st.recursive(names, grow, max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(expressions(AWKWARD, lambda name: f"`{name}`"))
def test_quoted_names_parse_to_their_coefficients(case):
    text, weights = case
    np.testing.assert_allclose(parse_contrast(text, AWKWARD), weights, rtol=1e-12, atol=1e-12)


@settings(max_examples=300, deadline=None)
@given(expressions(AWKWARD, str))
def test_bare_names_parse_to_their_coefficients(case):
    text, weights = case
    np.testing.assert_allclose(parse_contrast(text, AWKWARD), weights, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(expressions(PLAIN, str))
def test_equals_nilearn_where_names_are_identifiers(case):
    text, _ = case
    theirs = np.asarray(expression_to_contrast_vector(text, PLAIN), dtype=float)
    assume(np.isfinite(theirs).all())
    np.testing.assert_allclose(parse_contrast(text, PLAIN), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("face", {"face": 1}),
        (" face-house ", {"face": 1, "house": -1}),
        ("faces-face", {"faces": 1, "face": -1}),
        ("2back - 0back", {"2back": 1, "0back": -1}),
        ("2*2back", {"2back": 2}),
        ("t-shirt - target*modulation", {"t-shirt": 1, "target*modulation": -1}),
        ("target *2", {"target": 2}),
        ("left hand - a:b", {"left hand": 1, "a:b": -1}),
        ("1e-1*face + .5*house", {"face": 0.1, "house": 0.5}),
        ("--face", {"face": 1}),
        ("-face/-2", {"face": 0.5}),
        ("2*-face", {"face": -2}),
        ("face - (house + faces)/2", {"face": 1, "house": -0.5, "faces": -0.5}),
        ("face + 0", {"face": 1}),
        ("face - face", {}),
        ("face / 2 / 5 * 3", {"face": 0.3}),
        ("x.y[T.1]", {"x.y[T.1]": 1}),
    ],
)
def test_examples(text, weights):
    np.testing.assert_allclose(parse_contrast(text, AWKWARD), [weights.get(name, 0) for name in AWKWARD])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("face*house", "multiplies columns by columns"),
        ("face + 1", "adds the number 1 to columns"),
        ("1 - face", "adds the number 1 to columns"),
        ("1 / face", "divides by columns"),
        ("face / 0", "divides by zero"),
        ("face - hose", r"Contrast not found in design matrix: 'hose'; columns are \[.*\]. Did you mean 'house'\?"),
        ("`hose`", "not found in design matrix: 'hose'"),
        ("zzz", r"not found in design matrix: 'zzz'; columns are \[.*\]\.$"),
        ("2face", "not found in design matrix: '2face'"),
        ("face.x", "not found in design matrix: 'face.x'"),
        ("face -", "the end is unexpected"),
        ("", "the end is unexpected"),
        ("(face - house", r"`\)` is missing before the end"),
        ("face house", "'house' is unexpected"),
        ("face)", r"'\)' is unexpected"),
        ("face ** 2", r"'\*' is unexpected"),
        ("face - `house", "a backtick at character 8 is not closed"),
        ("3 + 4", "is the number 7, no column"),
        ("1e999*face", "not finite"),
        ("__import__('os')", "not found in design matrix: '__import__'"),
    ],
)
def test_messages(text, message):
    with pytest.raises(ContrastError, match=message):
        parse_contrast(text, AWKWARD)


def test_a_name_that_is_also_an_expression_must_be_quoted():
    columns = ["a", "b", "a-b"]
    assert parse_contrast("a-b", columns).tolist() == [0, 0, 1]
    assert parse_contrast("2 * `a-b`", columns).tolist() == [0, 0, 2]
    assert parse_contrast("2 * (`a`-`b`)", columns).tolist() == [2, -2, 0]
    assert parse_contrast("2 * (a - b)", columns).tolist() == [2, -2, 0]
    with pytest.raises(ContrastError, match="'a-b' is a column, and also an expression"):
        parse_contrast("2 * a-b", columns)
    # a product of columns is no contrast, so this name cannot be mistaken
    assert parse_contrast("2 * a*b", ["a", "b", "a*b"]).tolist() == [0, 0, 2]


def test_names_that_look_like_numbers_need_backticks():
    columns = ["1", "2", "face"]
    assert parse_contrast("2", columns).tolist() == [0, 1, 0]
    assert parse_contrast("2*face - `1`", columns).tolist() == [-1, 0, 2]


def test_repeated_columns_are_refused():
    with pytest.raises(ContrastError, match="not unique"):
        parse_contrast("a", ["a", "a"])
    with pytest.raises(ContrastError, match=r"\['a'\] are not unique"):
        contrast_matrix([1, -1, 0], ["a", "a", "b"])


def test_contrast_matrix_takes_expressions_and_weights():
    columns = ["a", "b", "c"]
    expected = np.array([[1.0, -1, 0], [0, 0, 2]])
    np.testing.assert_array_equal(contrast_matrix(["a - b", "2*c"], columns), expected)
    np.testing.assert_array_equal(contrast_matrix(expected.tolist(), columns), expected)
    np.testing.assert_array_equal(contrast_matrix("a - b", columns), expected[:1])
    np.testing.assert_array_equal(contrast_matrix([0, 0, 2], columns), expected[1:])


@pytest.mark.parametrize(
    ("contrast", "message"),
    [
        ([1, -1], "has 2 weights, but the design has 3 columns"),
        ([[1, -1, 0, 0]], "has 4 weights, but the design has 3 columns"),
        ([[1, 0, 0], [1, 0]], "rows of numbers of one length"),
        (["a", [1, 0, 0]], "neither expressions nor rows"),
        ([0, 0, np.nan], "not finite"),
        ([0, 0, 0], r"rows \[0\] weigh no column"),
        (["a", "b - b"], r"rows \[1\] weigh no column"),
        ([], "but the design has 3 columns"),
        (np.zeros((1, 1, 3)), "weights"),
    ],
)
def test_contrast_matrix_refuses(contrast, message):
    with pytest.raises(ContrastError, match=message):
        contrast_matrix(contrast, ["a", "b", "c"])
