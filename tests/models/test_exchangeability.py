"""What a test may rearrange: blocks end to end against refits over all arrangements, laws, calibration, bad input."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from permutation_oracle import refitted
from voxloom.errors import InputError
from voxloom.kernels.permutation.nuisance import NUISANCE
from voxloom.models.inference.exchangeability import Exchangeability
from voxloom.models.inference.permutation import (
    count_reached,
    fwe_p,
    null_max_stat,
    observed_stat,
    prepare_test,
    rearranged_stat,
    sweep,
    uncorrected_p,
)

SUBJECT = np.array(["u", "v", "v", "w", "u", "w"])


def frame(n: int, seed: int = 0, columns: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values = np.c_[np.ones(n), rng.standard_normal((n, columns))]
    return pd.DataFrame(values, columns=["one", *"abcdef"[:columns]])


def maps(n: int, n_voxels: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + 100).standard_normal((n, n_voxels)) + 3


def allowed(kind: str, n: int = 6) -> list[np.ndarray]:
    """All arrangements of six maps of three subjects that keep to the blocks, by trying every one."""
    found = []
    for order in permutations(range(n)):
        sources = SUBJECT[list(order)]
        if kind == "within" and (sources != SUBJECT).any():
            continue
        # first map of a subject to first, second to second, of one and the same other
        if kind == "whole":
            rows = [np.array(order)[s == SUBJECT] for s in "uvw"]
            homes = [tuple(np.flatnonzero(s == SUBJECT)) for s in "uvw"]
            if not all(tuple(row) in homes for row in rows):
                continue
        found.append(np.array(order) + 1)
    return found


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [("free", "permute"), ("within", "permute"), ("whole", "permute"), ("within", "both"), ("whole", "both")],
)
@pytest.mark.parametrize("nuisance", ["freedman-lane", "dekker", "ter-braak", "manly"])
def test_exhaustive_nulls_are_those_of_every_arrangement(kind, scheme, nuisance):
    design, Y, C = frame(6), maps(6, 5), np.array([[0.0, 1, 0]])
    blocks = None if kind == "free" else {kind: SUBJECT}
    arrangements = allowed(kind)
    if scheme == "both":
        units = [s == SUBJECT for s in "uvw"] if kind == "whole" else list(np.eye(6, dtype=bool))
        signs = [
            np.prod([np.where(u, s, 1) for u, s in zip(units, flips)], axis=0)
            for flips in product([1, -1], repeat=len(units))
        ]
        arrangements = [sign * order for order in arrangements for sign in signs]
    test = prepare_test(
        design,
        C,
        n_perm=10_000,
        exchangeability=Exchangeability(scheme=scheme, blocks=blocks),
        nuisance=nuisance,
        two_sided=False,
    )
    expected = refitted(design.to_numpy(), C, Y, np.array(arrangements), nuisance)
    assert test.rearrangements.exhaustive
    assert (
        test.n_perm
        == len(arrangements)
        == {"free": 720, "within": 8, "whole": 6}[kind] * len(arrangements) // len(allowed(kind))
    )
    found = rearranged_stat(test, Y)
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(np.sort(null_max_stat(test, Y)), np.sort(expected.max(axis=1)), rtol=1e-6, atol=1e-7)
    p = uncorrected_p(test, count_reached(test, Y, observed_stat(test, Y)))
    identity = expected[[(np.array(a) == np.arange(1, 7)).all() for a in arrangements]][0]
    reached = (expected >= identity - 1e-9 * np.abs(identity)).mean(axis=0)
    np.testing.assert_allclose(p, reached, rtol=1e-12)


@pytest.mark.parametrize(
    ("nuisance", "blocks"),
    [*((name, None) for name in NUISANCE), ("freedman-lane", "within"), ("dekker", "whole"), ("manly", "within")],
)
@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 2**32), scale=st.sampled_from([1e-100, 0.3, 1e80]), scheme=st.sampled_from(["flip", "permute"])
)
def test_scale_nuisance_coding_and_sign_do_not_matter(nuisance, blocks, seed, scale, scheme):
    rng = np.random.default_rng(seed)
    n, Y = 12, maps(12, 9, seed)
    design, C = frame(n, seed, 4), np.array([0.0, 1, -1, 0, 0])
    labels = np.repeat(np.arange(4), 3)
    exchangeability = Exchangeability(scheme=scheme, blocks=blocks and {blocks: labels})

    def null(Y, design=design, C=C):
        test = prepare_test(design, C, n_perm=20, exchangeability=exchangeability, nuisance=nuisance, two_sided=False)
        return rearranged_stat(test, Y)

    expected = null(Y)
    kwargs = {"rtol": 1e-5, "atol": 1e-7}
    np.testing.assert_allclose(null(scale * Y), expected, **kwargs)
    np.testing.assert_allclose(null(-Y), -expected, **kwargs)
    np.testing.assert_allclose(null(Y, C=-2 * C), -expected, **kwargs)
    order = rng.permutation(5)
    np.testing.assert_allclose(null(Y, design.iloc[:, order], C[order]), expected, **kwargs)
    # M b = (M T) (T^-1 b)
    T = np.eye(5) + np.triu(rng.uniform(-1, 1, (5, 5)), 1)
    np.testing.assert_allclose(null(Y, pd.DataFrame(design.to_numpy() @ T), C @ T), expected, **kwargs)
    if nuisance != "manly":
        effect_free = design.to_numpy() @ np.array([1.0, 2, 2, -1, 3])[:, None]
        np.testing.assert_allclose(null(Y + 5 * effect_free), expected, **kwargs)


def test_labels_may_be_anything_and_forms_agree():
    design = frame(6)
    matrices = {
        "within": [[1], [2], [2], [3], [1], [3]],
        "whole": [[1, -1], [1, -2], [1, -2], [1, -3], [1, -1], [1, -3]],
    }
    for kind, matrix in matrices.items():
        forms = [
            {kind: SUBJECT},
            {kind: pd.Series(SUBJECT, dtype="category")},
            matrix,
            {kind: [1, 2.5, 2.5, "x", 1, "x"]},
        ]
        forms += [SUBJECT] if kind == "within" else []
        rows = [
            prepare_test(design, "a", exchangeability=Exchangeability(blocks=form)).rearrangements.draw(0, 6)
            for form in forms
        ]
        for one in rows:
            np.testing.assert_array_equal(one, rows[0])


def test_labelled_blocks_are_matched_with_the_design():
    design = frame(6).set_index(pd.Index([f"map-{i}" for i in range(6)]))
    given = pd.Series(SUBJECT, index=design.index)
    turned = Exchangeability(blocks={"whole": given[::-1]}, variance_groups=given.iloc[[3, 0, 1, 5, 4, 2]])
    straight = Exchangeability(blocks={"whole": SUBJECT}, variance_groups=SUBJECT)
    one, two = (prepare_test(design, "a", exchangeability=wanted) for wanted in (turned, straight))
    np.testing.assert_array_equal(one.rearrangements.draw(0, 6), two.rearrangements.draw(0, 6))
    np.testing.assert_array_equal(one.groups.group == one.groups.group[:, None], SUBJECT[:, None] == SUBJECT)
    with pytest.raises(InputError, match=r"blocks: no row for map-1"):
        prepare_test(design, "a", exchangeability=Exchangeability(blocks=given.drop("map-1")))


def test_whole_subjects_move_within_sites():
    subject, site = np.repeat(np.arange(6), 2), np.repeat(["x", "y"], 6)
    test = prepare_test(frame(12), "a", exchangeability=Exchangeability(blocks={"within": site, "whole": subject}))
    assert test.n_perm == 36
    sources = np.abs(test.rearrangements.draw(0, 36)) - 1
    assert (site[sources] == site).all()
    assert (subject[sources[:, ::2]] == subject[sources[:, 1::2]]).all()
    assert (sources[:, 1::2] - sources[:, ::2] == 1).all()


def test_constants_of_blocks_are_taken_once():
    """Subjects' means are what permutations within them cannot change: nothing of the nuisance moves."""
    subject = np.repeat(np.arange(8), 2)
    design = pd.get_dummies(subject, prefix="s").astype(float).assign(x=np.tile([1.0, -1], 8))
    within = prepare_test(design, "x", exchangeability=Exchangeability(blocks=subject))
    assert within.model.width == 1
    assert within.n_perm == 2**8
    assert prepare_test(design, "x").model.width == 1 + 7


def test_given_rearrangements_are_used_as_they_are():
    design, Y, given = frame(6), maps(6), np.array([[1, 2, 3, 4, 5, 6], [-2, 1, 3, -4, 6, 5], [6, 5, 4, 3, 2, 1]])
    test = prepare_test(design, "a", n_perm=2, exchangeability=Exchangeability(rearrangements=given), two_sided=False)
    assert test.n_perm == 3
    np.testing.assert_allclose(rearranged_stat(test, Y), refitted(design.to_numpy(), np.array([[0, 1.0, 0]]), Y, given))
    assert test.attrs["scheme"] == "given"
    assert test.attrs["p_method"] == "(b + 1) / (m + 1), m given rearrangements"


def correlated(rng: np.random.Generator, subject: np.ndarray) -> np.ndarray:
    """Null maps of 30 smooth voxels with heavy tails, alike within subjects."""
    noise = rng.standard_t(5, (len(subject), 34)) + 1.5 * rng.standard_t(5, (subject.max() + 1, 34))[subject]
    return np.lib.stride_tricks.sliding_window_view(noise, 5, axis=1).mean(axis=-1)


def designs() -> dict[str, tuple[pd.DataFrame, str, np.ndarray, dict]]:
    visits = np.repeat(np.arange(12), 2)
    paired = pd.get_dummies(visits, prefix="s").astype(float).assign(x=np.tile([1.0, -1], 12))
    between = pd.DataFrame(
        {
            "a": (visits < 6) * 1.0,
            "b": (visits >= 6) * 1.0,
            "age": np.repeat(np.random.default_rng(0).standard_normal(12), 2),
        }
    )
    sites = np.repeat(np.arange(3), [10, 8, 6])
    covariate = (
        pd.get_dummies(sites, prefix="site").astype(float).assign(age=np.random.default_rng(1).standard_normal(24))
    )
    return {
        "paired": (paired, "x", visits, {"within": visits}),
        "repeated": (between, "a - b", visits, {"whole": visits}),
        "sites": (covariate, "age", sites, {"within": sites}),
    }


def false_positives(case: str, n_sims: int, n_perm: int, *, ignored: bool = False) -> int:
    """Number of null data sets with any family-wise p <= 0.05."""
    design, contrast, subject, blocks = designs()[case]
    rng, found = np.random.default_rng(5), 0
    for seed in range(n_sims):
        Y = correlated(rng, subject)
        allowed = Exchangeability(scheme="permute", blocks=None if ignored else blocks)
        test = prepare_test(design, contrast, n_perm=n_perm, exchangeability=allowed, seed=seed)
        found += fwe_p(test, observed_stat(test, Y), null_max_stat(test, Y)).min() <= 0.05
    return found


def test_ignored_blocks_inflate_the_error():
    assert stats.binomtest(false_positives("repeated", 150, 100), 150, 0.05).pvalue > 0.001
    assert false_positives("repeated", 150, 100, ignored=True) > 0.2 * 150


@pytest.mark.slow
@pytest.mark.parametrize("case", ["paired", "repeated", "sites"])
def test_family_wise_error_with_blocks(case):
    found = false_positives(case, 3000, 500)
    assert stats.binomtest(found, 3000, 0.05).pvalue > 0.01, f"family-wise error {found / 3000:.4f}"


def test_bad_blocks_are_refused():
    design, group = frame(6), pd.DataFrame({"a": [1.0, 1, 1, 0, 0, 0], "b": [0.0, 0, 0, 1, 1, 1]})
    cases = [
        ({"blocks": [1, 2]}, "hold 2 labels, but there are 6 maps"),
        ({"blocks": [1, 2, None, 1, 2, 1]}, "no label for map 3"),
        ({"blocks": ["u", "v", "u", np.nan, "v", "u"]}, "no label for map 4"),
        ({"blocks": {"whole": [1, 1, 2, 2, 2, 3]}, "scheme": "permute"}, "3 blocks of 1, 2, 3 observations"),
        ({"blocks": [[1], [2]]}, r"is a matrix \(2, 1\)"),
        ({"blocks": [[1.5]] * 6}, "whole numbers"),
        ({"blocks": {"within": [1, 2, 1, 2, 1, 2], "whole": SUBJECT}}, "lies in several blocks of `within`"),
        ({"blocks": np.arange(6)}, "1 distinct rearrangement, .* smallest possible p is 1"),
        ({"rearrangements": [[1, 2, 3]]}, "rows hold 3 indices, but there are 6 data"),
        ({"rearrangements": [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 5]]}, "row 2 is no permutation of 1 to 6"),
        ({"rearrangements": [[0, 1, 2, 3, 4, 5]]}, "row 1 is no permutation"),
        ({"rearrangements": [[2, 1, 3, 4, 5, 6]]}, "the first is not the observed order"),
        ({"rearrangements": [1, 2]}, r"has shape \(2,\)"),
    ]
    for wanted, message in cases:
        with pytest.raises(InputError, match=message):
            prepare_test(design, "a", exchangeability=Exchangeability(**wanted))
    with pytest.raises(InputError, match="leave 1 distinct"):
        prepare_test(group, "a - b", exchangeability=Exchangeability(blocks=[1, 1, 1, 2, 2, 2]))
    with pytest.raises(InputError, match=r"keys \['between'\]"):
        Exchangeability(blocks={"between": [1]})
    with pytest.raises(InputError, match="'huh-jhun' combines maps across blocks"):
        prepare_test(design, "a", exchangeability=Exchangeability(blocks=SUBJECT), nuisance="huh-jhun")


@pytest.mark.parametrize("subject", [[1, 1, 2, 2, 2, 3], [1, 1, 1, 1, 2, 3], [2, 3, 1, 1, 1, 1]])
def test_unequal_blocks_may_still_change_sign(subject):
    allowed = Exchangeability(blocks={"whole": subject}, variance_groups="auto")
    test = prepare_test(pd.DataFrame({"m": np.ones(6)}), "m", exchangeability=allowed)
    assert test.n_perm == 2**3
    rows = test.rearrangements.draw(0, 8)
    np.testing.assert_array_equal(np.abs(rows), np.tile(np.arange(1, 7), (8, 1)))
    signs = {tuple(row) for row in np.sign(rows)}
    assert signs == {tuple(np.array(flips)[np.array(subject) - 1]) for flips in product([-1, 1], repeat=3)}
    Y = maps(6)
    stat = observed_stat(test, Y)
    whole, half = sweep(test, Y, stat), [sweep(test, Y, stat, start=i, stop=i + 4) for i in (0, 4)]
    np.testing.assert_array_equal(np.concatenate([part.maxima for part in half]), whole.maxima)
