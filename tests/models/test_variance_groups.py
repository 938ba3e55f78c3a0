"""Aspin-Welch v and G against SciPy, the formula written out, and the tests they come down to."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from permutation_oracle import refitted_welch
from voxloom.errors import InputError
from voxloom.kernels.permutation.residuals import residuals
from voxloom.kernels.permutation.variance_groups import as_z, refit
from voxloom.kernels.tails import f_to_z, t_to_z
from voxloom.models.inference.exchangeability import Exchangeability
from voxloom.models.inference.permutation import (
    count_reached,
    null_max_stat,
    observed_stat,
    prepare_test,
    rearranged_stat,
    sweep,
    uncorrected_p,
)

SIDE = np.array([1.0] * 4 + [0.0] * 6)
GROUPS = pd.DataFrame({"a": SIDE, "b": 1 - SIDE})
APART = Exchangeability(scheme="permute", variance_groups=SIDE)
CONTRASTS = {"v": [[0.0, 1, -1, 0]], "G": [[0.0, 1, -1, 0], [0.0, 0, 0, 1]]}


def unequal(n_voxels: int, seed: int = 0, spread=SIDE) -> np.ndarray:
    """Maps whose first group has three times the spread."""
    return np.random.default_rng(seed).standard_normal((len(spread), n_voxels)) * np.where(spread > 0, 3, 1)[:, None]


def test_two_means_are_welchs_t():
    Y = unequal(60) + 2 * SIDE[:, None]
    test = prepare_test(GROUPS, "a - b", n_perm=500, exchangeability=APART, two_sided=False)
    welch = stats.ttest_ind(Y[:4], Y[4:], equal_var=False)
    stat = observed_stat(test, Y)
    np.testing.assert_allclose(stat, t_to_z(welch.statistic, welch.df), rtol=1e-10)
    np.testing.assert_allclose(stats.norm.sf(stat), stats.t.sf(welch.statistic, welch.df), rtol=1e-9)
    assert test.attrs["stat_type"] == "z"
    assert test.attrs["z_of"] == "Aspin-Welch v"
    null = []
    for chosen in combinations(range(10), 4):
        t = stats.ttest_ind(Y[list(chosen)], np.delete(Y, chosen, axis=0), equal_var=False)
        null.append(t_to_z(t.statistic, t.df))
    found = null_max_stat(test, Y)
    assert len(found) == 210
    np.testing.assert_allclose(np.sort(found), np.sort(np.max(null, axis=1)), rtol=1e-10)
    expected = (np.array(null) >= stat - 1e-9 * np.abs(stat)).sum(axis=0)
    np.testing.assert_array_equal(count_reached(test, Y, stat), expected)


def test_several_means_are_welchs_analysis_of_variance():
    labels = np.repeat(["x", "y", "z"], [4, 5, 6])
    design = pd.get_dummies(labels).astype(float)
    Y = unequal(40, spread=labels == "y")
    test = prepare_test(design, ["x - y", "y - z"], n_perm=40, exchangeability=Exchangeability(variance_groups=labels))
    welch = stats.f_oneway(*(Y[labels == k] for k in "xyz"), equal_var=False)
    np.testing.assert_allclose(stats.norm.sf(observed_stat(test, Y)), welch.pvalue, rtol=1e-9)
    assert test.attrs["z_of"] == "G"


@pytest.mark.parametrize("scheme", ["flip", "permute"])
@pytest.mark.parametrize("nuisance", ["freedman-lane", "ter-braak", "manly"])
@pytest.mark.parametrize("name", CONTRASTS)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32), two_sided=st.booleans())
def test_every_number_is_that_of_the_formula(scheme, nuisance, name, seed, two_sided):
    rng = np.random.default_rng(seed)
    design = pd.DataFrame(np.c_[np.ones(16), rng.standard_normal((16, 3))])
    group, C = np.arange(16) % 3 // 2, np.array(CONTRASTS[name])
    Y = unequal(12, seed, group) + 1
    Y[:, 2] = 5.0
    allowed = Exchangeability(scheme=scheme, variance_groups=group)
    arguments = {"n_perm": 15, "exchangeability": allowed, "nuisance": nuisance, "two_sided": two_sided, "seed": seed}
    test = prepare_test(design, C, **arguments)
    kept = np.delete(np.arange(12), 2)
    stat, dof = refitted_welch(design.to_numpy(), C, Y[:, kept], test.rearrangements.draw(0, 15), nuisance, group)
    expected = t_to_z(stat, dof) if name == "v" else f_to_z(stat, 2, dof)
    found = rearranged_stat(test, Y)
    np.testing.assert_allclose(found[:, kept], expected, rtol=1e-6, atol=1e-8)
    assert np.isnan(found[:, 2]).all()
    heights = np.abs(expected) if test.two_sided else expected
    np.testing.assert_allclose(null_max_stat(test, Y), heights.max(axis=1), rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(test.to_z(found), found)


def test_stretches_of_voxels_and_permutations_give_the_same_bits():
    Y = unequal(1100)
    test = prepare_test(GROUPS, "a - b", n_perm=150, exchangeability=APART)
    stat = observed_stat(test, Y)
    whole, maps = sweep(test, Y, stat), rearranged_stat(test, Y)
    parts = [sweep(test, Y[:, part], stat[part]) for part in (slice(0, 77), slice(77, 1100))]
    np.testing.assert_array_equal(np.maximum(parts[0].maxima, parts[1].maxima), whole.maxima)
    np.testing.assert_array_equal(np.concatenate([part.reached for part in parts]), whole.reached)
    np.testing.assert_allclose(np.abs(maps).max(axis=1), whole.maxima, rtol=1e-12)
    np.testing.assert_array_equal(rearranged_stat(test, Y[:, 1024:1100], start=45, stop=50), maps[45:50, 1024:])
    assert whole.maxima[0] == np.abs(stat).max()


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("name", CONTRASTS)
def test_maxima_and_counts_are_those_of_refits_one_by_one(name, two_sided):
    """To the last bit: also of voxels where a group is constant or nearly so, with few and many degrees of freedom."""
    rng = np.random.default_rng(4)
    design = pd.DataFrame(np.c_[np.ones(19), rng.standard_normal((19, 3))])
    group = np.repeat([0, 1, 2], [3, 6, 10])
    Y = unequal(1500, spread=group == 0)
    Y[group == 1, :4] = 1.0
    Y[group == 1, 4:8] = 1e-4 * Y[group == 1, 4:8]
    Y[2, 9] = np.nan
    allowed = Exchangeability(scheme="permute", variance_groups=group)
    test = prepare_test(design, CONTRASTS[name], n_perm=70, exchangeability=allowed, two_sided=two_sided)
    stat = observed_stat(test, Y)
    indices, sides = test.rearrangements.draw(0, 70), np.abs if test.two_sided else np.asarray
    e, kept = residuals(Y, test.model)
    p, v = (one.reshape(-1) for one in np.indices((70, int(kept.sum()))))
    z = sides(as_z(refit(e[kept], indices, p, v, test.groups), test.groups)).reshape(70, -1)
    swept = sweep(test, Y, stat)
    np.testing.assert_array_equal(swept.maxima, z.max(axis=1))
    bar = sides(stat[kept])
    np.testing.assert_array_equal(swept.reached[kept], (z >= bar - 1e-9 * np.abs(bar)).sum(axis=0))
    assert not swept.reached[9]
    np.testing.assert_allclose(sides(rearranged_stat(test, Y)[:, kept]), z, rtol=1e-9, atol=1e-9)


def test_one_group_is_no_group():
    test = prepare_test(GROUPS, "a - b", exchangeability=Exchangeability(variance_groups="auto"))
    assert test.groups is None
    assert test.stat_type == "t"


def test_groups_come_from_blocks():
    """Within blocks each is a group; of whole blocks those maps that stand at the same place."""
    design = pd.DataFrame({"one": np.ones(12), "x": np.random.default_rng(0).standard_normal(12)})
    site = np.repeat([1, 2], 6)
    within = prepare_test(design, "x", exchangeability=Exchangeability(blocks=site, variance_groups="auto"))
    np.testing.assert_array_equal(within.groups.group, site - 1)
    subject = np.repeat(np.arange(4), 3)
    whole = Exchangeability(blocks={"whole": subject}, variance_groups="auto", scheme="permute")
    np.testing.assert_array_equal(prepare_test(design, "x", exchangeability=whole).groups.group, np.tile([0, 1, 2], 4))


def test_v_keeps_its_promise_where_t_does_not():
    """A small group with the larger spread: p of t are far too small, those of v are not."""
    side = np.repeat([1.0, 0.0], [8, 24])
    design, Y, found = pd.DataFrame({"a": side, "b": 1 - side}), unequal(1500, spread=side), {}
    for name, groups in (("t", None), ("v", side)):
        allowed = Exchangeability(scheme="permute", variance_groups=groups)
        test = prepare_test(design, "a - b", n_perm=300, exchangeability=allowed)
        p = uncorrected_p(test, count_reached(test, Y, observed_stat(test, Y)))
        found[name] = int((p <= 0.05).sum())
    assert stats.binomtest(found["v"], 1500, 0.05).pvalue > 0.01, found
    assert found["t"] > 0.15 * 1500


def test_bad_groups_are_refused():
    with pytest.raises(InputError, match="'equal'"):
        Exchangeability(variance_groups="equal")
    with pytest.raises(InputError, match="'dekker' keeps no variance group apart"):
        prepare_test(GROUPS, "a - b", exchangeability=APART, nuisance="dekker")
    with pytest.raises(InputError, match="hold 3 labels, but there are 10 maps"):
        prepare_test(GROUPS, "a - b", exchangeability=Exchangeability(variance_groups=[1, 2, 3]))
    alone = GROUPS.assign(c=np.arange(10) == 0)
    with pytest.raises(InputError, match="group 1 has 1 maps, which the design fits exactly"):
        prepare_test(alone, "a - b", exchangeability=Exchangeability(variance_groups=["x"] + ["y"] * 9))
