"""A prepared permutation test against full refits by every treatment of the nuisance, and its laws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.mass_univariate import permuted_ols

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

CONTRASTS = {"t": [[0.0, 1, -1, 0]], "F": [[0.0, 1, -1, 0], [0.0, 0, 0, 1]]}


def frame(n: int, seed: int = 0) -> pd.DataFrame:
    """A constant and three covariates."""
    columns = np.c_[np.ones(n), np.random.default_rng(seed).standard_normal((n, 3))]
    return pd.DataFrame(columns, columns=["one", "a", "b", "c"])


def maps(n: int, n_voxels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + 100).standard_normal((n, n_voxels)) + 3


def height(test, stat: np.ndarray) -> np.ndarray:
    return np.abs(stat) if test.two_sided else stat


@pytest.mark.parametrize("stat_type", ["t", "F"])
@pytest.mark.parametrize("scheme", ["flip", "permute"])
@pytest.mark.parametrize("nuisance", NUISANCE)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32), two_sided=st.booleans())
def test_every_number_is_that_of_refits(stat_type, scheme, nuisance, seed, two_sided):
    design, Y, C = frame(13, seed), maps(13, 40, seed), np.array(CONTRASTS[stat_type])
    Y[:, 3], Y[:, 5] = 2.0, np.nan
    kept = np.delete(np.arange(40), [3, 5])
    test = prepare_test(
        design,
        C,
        n_perm=37,
        exchangeability=Exchangeability(scheme=scheme),
        nuisance=nuisance,
        two_sided=two_sided,
        seed=seed,
    )
    expected = refitted(design.to_numpy(), C, Y[:, kept], test.rearrangements.draw(0, 37), nuisance)
    found = rearranged_stat(test, Y)
    np.testing.assert_allclose(found[:, kept], expected, rtol=1e-6, atol=1e-8)
    assert np.isnan(found[:, [3, 5]]).all()
    observed = observed_stat(test, Y)
    np.testing.assert_allclose(observed[kept], expected[0], rtol=1e-8)
    np.testing.assert_allclose(null_max_stat(test, Y), height(test, expected).max(axis=1), rtol=1e-6, atol=1e-8)
    # what is reached in a third of the rearrangements, and the observed with its tie
    for stat in (np.quantile(height(test, np.nan_to_num(found)), 0.7, axis=0), observed):
        reached = (height(test, expected) >= height(test, stat[kept]) - 1e-9 * np.abs(stat[kept])).sum(axis=0)
        counted = count_reached(test, Y, stat)
        assert np.abs(counted[kept] - reached).max() <= (stat is not observed)  # a quantile is one of the values
        assert (counted[[3, 5]] == 0).all()
    assert (uncorrected_p(test, counted)[kept] >= 1 / 37).all()


@pytest.mark.parametrize("stat_type", ["t", "F"])
@pytest.mark.parametrize("two_sided", [True, False])
def test_all_flips_by_half_of_them(stat_type, two_sided):
    """The other half is mirrored; stretches that do not begin at 0 or do not end at the last are not."""
    design, Y, C = frame(8), maps(8, 30), np.array(CONTRASTS[stat_type])
    flips = Exchangeability(scheme="flip")
    test = prepare_test(design, C, n_perm=256, exchangeability=flips, two_sided=two_sided)
    stat = observed_stat(test, Y)
    whole = sweep(test, Y, stat)
    parts = [sweep(test, Y, stat, start=i, stop=i + 64) for i in range(0, 256, 64)]
    np.testing.assert_array_equal(np.concatenate([part.maxima for part in parts]), whole.maxima)
    np.testing.assert_array_equal(sum(part.reached for part in parts), whole.reached)
    null = height(test, rearranged_stat(test, Y))
    expected = (null >= height(test, stat) - 1e-9 * np.abs(stat)).sum(axis=0)
    np.testing.assert_array_equal(whole.reached, expected)
    np.testing.assert_allclose(whole.maxima, null.max(axis=1), rtol=1e-10)


@pytest.mark.parametrize("nuisance", ["freedman-lane", "dekker", "ter-braak"])
def test_statistic_maps_do_not_depend_on_the_batch(nuisance):
    design, Y = frame(20), maps(20, 3000)
    test = prepare_test(design, "a", n_perm=100, nuisance=nuisance)
    whole = rearranged_stat(test, Y)
    for start, stop in [(0, 1), (0, 33), (31, 65), (70, 71), (64, 100)]:
        np.testing.assert_array_equal(rearranged_stat(test, Y, start=start, stop=stop), whole[start:stop])
    np.testing.assert_array_equal(rearranged_stat(test, Y[:, 1024:2100], start=3, stop=5), whole[3:5, 1024:2100])


def test_counts_and_maxima_do_not_depend_on_the_batch():
    design, Y = frame(20), maps(20, 1500)
    test = prepare_test(design, CONTRASTS["F"], n_perm=200)
    stat = observed_stat(test, Y)
    whole = sweep(test, Y, stat)
    halves = [sweep(test, Y[:, part], stat[part]) for part in (slice(0, 333), slice(333, 1500))]
    np.testing.assert_array_equal(np.maximum(halves[0].maxima, halves[1].maxima), whole.maxima)
    np.testing.assert_array_equal(np.concatenate([half.reached for half in halves]), whole.reached)
    assert whole.maxima[0] == stat.max()


def test_f_of_one_row_twice_is_t_squared():
    design, Y = frame(15), maps(15, 50)
    t, F = (prepare_test(design, C, n_perm=40) for C in ([0, 1, 0, 0], [[0, 1, 0, 0], [0, 2, 0, 0]]))
    assert (t.stat_type, F.stat_type) == ("t", "F")
    np.testing.assert_allclose(rearranged_stat(F, Y), rearranged_stat(t, Y) ** 2, rtol=1e-9)
    np.testing.assert_allclose(null_max_stat(F, Y), null_max_stat(t, Y) ** 2, rtol=1e-9)
    assert not F.two_sided


def test_p_of_f_counts_maxima_that_reach_it():
    design, Y = frame(12), maps(12, 60)
    test = prepare_test(design, CONTRASTS["F"], n_perm=50)
    stat, null = observed_stat(test, Y), null_max_stat(test, Y)
    np.testing.assert_allclose(fwe_p(test, stat, null), (null[:, None] >= stat * (1 - 1e-9)).mean(axis=0))
    assert test.attrs["stat_type"] == "F"
    z = test.to_z(stat)
    assert (np.argsort(z) == np.argsort(stat)).all()


@pytest.mark.parametrize("nuisance", NUISANCE)
@pytest.mark.parametrize("contrast", ["a - b", ["a - b", "age"]])
def test_every_treatment_keeps_its_promise(nuisance, contrast):
    """Nuisance with an effect, unlike between two small groups. Voxels share rearrangements, so the bound is wide."""
    rng = np.random.default_rng(0)
    side = np.repeat([1.0, 0.0], [6, 8])
    design = pd.DataFrame(
        {"a": side, "b": 1 - side, "age": rng.standard_normal(14) + side, "w": rng.standard_normal(14)}
    )
    Y = (
        rng.standard_normal((14, 4000))
        + 2 * design[["w"]].to_numpy()
        + (3 if contrast == "a - b" else 0) * design[["age"]].to_numpy()
    )
    test = prepare_test(design, contrast, n_perm=500, nuisance=nuisance)
    p = uncorrected_p(test, count_reached(test, Y, observed_stat(test, Y)))
    assert 0.035 < (p <= 0.05).mean() < 0.06


def test_unknown_nuisance_is_refused():
    with pytest.raises(InputError, match="'freedman' is unknown"):
        prepare_test(frame(10), "a", nuisance="freedman")


def nilearn_rearrangements(n: int, n_perm: int, *, flip: bool) -> np.ndarray:
    """What `permuted_ols` with random_state 0 and one job draws: each upon the one before."""
    rng = np.random.RandomState(np.random.RandomState(0).randint(1, np.iinfo(np.int32).max - 1))
    rows = [np.arange(1, n + 1)]
    for _ in range(n_perm):
        rows.append(rows[-1] * (rng.randint(2, size=n) * 2 - 1) if flip else rows[-1][rng.permutation(n)])
    return np.stack(rows)


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("case", ["one sample", "covariate", "covariate beside another"])
def test_null_of_nilearn_is_reproduced(case, two_sided):
    n, n_perm, Y, design = 17, 60, maps(17, 80), frame(17)
    flip, columns = case == "one sample", {"covariate": ["one", "a"], "covariate beside another": ["one", "a", "b"]}
    design = design[columns.get(case, ["one"])]
    tested, others = design[["one" if flip else "a"]].to_numpy(), design[["b"]].to_numpy() if "b" in design else None
    oracle = permuted_ols(
        tested,
        Y,
        others,
        model_intercept=not flip,
        n_perm=n_perm,
        two_sided_test=two_sided,
        random_state=0,
        n_jobs=1,
        output_type="dict",
    )
    replay = Exchangeability(rearrangements=nilearn_rearrangements(n, n_perm, flip=flip))
    test = prepare_test(design, "one" if flip else "a", exchangeability=replay, two_sided=two_sided)
    null = null_max_stat(test, Y)
    np.testing.assert_allclose(np.sort(null[1:]), np.sort(oracle["h0_max_t"][0]), rtol=1e-9)
    p = fwe_p(test, observed_stat(test, Y), null)
    np.testing.assert_allclose(p, 10.0 ** -oracle["logp_max_t"][0], rtol=1e-9)
