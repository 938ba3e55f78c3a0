"""Permutation tests of voxels that some maps lack: those of each voxel alone, under the rearrangement of all people."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from permutation_oracle import refitted, refitted_partial
from voxloom.errors import InputError, VoxloomWarning
from voxloom.kernels.tails import f_to_z, t_to_z
from voxloom.models.inference.exchangeability import Exchangeability
from voxloom.models.inference.permutation import observed_stat, prepare_test, rearranged_stat, sweep
from voxloom.models.inference.permutation_test import permutation_test
from voxloom.models.inference.sequential import count_until
from voxloom.models.inference.tfce import tfce
from voxloom.schema import Grid, voxel_coords

CONTRASTS = {"t": [[0.0, 1, -1, 0]], "F": [[0.0, 1, -1, 0], [0.0, 0, 0, 1]]}
METHODS = ("freedman-lane", "dekker", "ter-braak", "manly")


def frame(n: int, seed: int = 0) -> pd.DataFrame:
    """A constant and three covariates."""
    columns = np.c_[np.ones(n), np.random.default_rng(seed).standard_normal((n, 3))]
    return pd.DataFrame(columns, columns=["one", "a", "b", "c"])


def holed(n: int, n_voxels: int, seed: int = 0) -> np.ndarray:
    """Maps: the first third of the voxels in all, others lack up to half of them, some the same."""
    rng = np.random.default_rng(seed + 100)
    Y = rng.standard_normal((n, n_voxels)) + 3
    for v in range(n_voxels // 3, n_voxels):
        Y[rng.choice(n, rng.integers(1, n // 2), replace=False), v] = np.nan
    Y[:, -1] = np.where(np.isnan(Y[:, -2]), np.nan, rng.standard_normal(n))
    return Y


def z_of(stat: np.ndarray, dof: np.ndarray, r: int) -> np.ndarray:
    return t_to_z(stat, dof) if r == 1 else f_to_z(stat, r, dof)


@pytest.mark.parametrize("stat_type", ["t", "F"])
@pytest.mark.parametrize("scheme", ["flip", "permute", "both"])
@pytest.mark.parametrize("nuisance", METHODS)
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32), two_sided=st.booleans())
def test_every_number_is_that_of_the_voxel_alone(stat_type, scheme, nuisance, seed, two_sided):
    design, Y, C = frame(13, seed), holed(13, 12, seed), np.array(CONTRASTS[stat_type])
    how = Exchangeability(scheme=scheme)
    test = prepare_test(design, C, n_perm=24, exchangeability=how, nuisance=nuisance, two_sided=two_sided, seed=seed)
    expected = z_of(*refitted_partial(design.to_numpy(), C, Y, test.rearrangements.draw(0, 24), nuisance), len(C))
    found = rearranged_stat(test, Y)
    # an F of rounding alone, where a draw changes nothing, has a z far below 0
    np.testing.assert_allclose(np.maximum(test.to_z(found), -5), np.maximum(expected, -5), rtol=1e-6, atol=1e-7)
    observed = observed_stat(test, Y)
    np.testing.assert_allclose(test.to_z(observed), expected[0], rtol=1e-7, atol=1e-8)
    swept, height = sweep(test, Y, observed), np.abs(found) if test.two_sided else found
    np.testing.assert_allclose(swept.maxima, np.nanmax(height, axis=1), rtol=1e-6)
    bar = np.abs(observed) if test.two_sided else observed
    np.testing.assert_array_equal(swept.reached, (height >= bar - 1e-9 * np.abs(bar)).sum(axis=0))


def test_the_rows_of_complete_voxels_are_those_of_the_usual_oracle():
    design, Y, C = frame(11), holed(11, 9)[:, :3], np.array(CONTRASTS["t"])
    indices = prepare_test(design, C, n_perm=20).rearrangements.draw(0, 20)
    for method in METHODS:
        found, dof = refitted_partial(design.to_numpy(), C, Y, indices, method)
        np.testing.assert_allclose(found, refitted(design.to_numpy(), C, Y, indices, method), rtol=1e-8)
        assert (dof == 7).all()


def test_a_paired_design_lacks_a_map_and_its_pair_tells_nothing():
    """Exchange within subjects, whose means stay: what is left of a pair goes into its subject's mean."""
    rng, subject = np.random.default_rng(3), np.repeat(np.arange(8), 2)
    design = pd.get_dummies(subject, prefix="s").astype(float).assign(x=np.tile([1.0, -1], 8))
    Y = rng.standard_normal((16, 5))
    Y[[2, 9], 1:] = np.nan
    test = prepare_test(design, "x", n_perm=256, exchangeability=Exchangeability(blocks=subject))
    assert test.n_perm == 256
    assert test.model.still.shape[1] == 8
    differences = np.delete(Y[::2] - Y[1::2], [1, 4], axis=0)[:, 1:]
    np.testing.assert_allclose(
        test.to_z(observed_stat(test, Y)[1:]), t_to_z(stats.ttest_1samp(differences, 0).statistic, 5), rtol=1e-8
    )
    signs = np.unique(np.round(test.to_z(rearranged_stat(test, Y))[:, 1:], 8), axis=0)
    assert len(signs) == 2**6


def test_a_level_of_a_factor_that_no_map_of_a_voxel_has():
    site = np.repeat([0.0, 1, 2], 5)
    design = pd.DataFrame({f"s{i}": (site == i) * 1.0 for i in range(3)})
    design["age"] = np.random.default_rng(0).standard_normal(15)
    Y = np.random.default_rng(1).standard_normal((15, 3))
    Y[10:, 1], Y[3:, 2] = np.nan, np.nan
    for blocks in (None, site):
        test = prepare_test(design, "age", n_perm=30, exchangeability=Exchangeability(blocks=blocks))
        C = np.array([[0.0, 0, 0, 1]])
        stat, dof = refitted_partial(design.to_numpy(), C, Y, test.rearrangements.draw(0, 30))
        np.testing.assert_allclose(test.to_z(rearranged_stat(test, Y)), t_to_z(stat, dof), rtol=1e-6, atol=1e-8)
        assert dof[0, 1] == 10 - 3
        assert (np.ptp(dof[:, 1]) > 0) == (blocks is None)


def test_no_number_depends_on_other_voxels_or_rearrangements():
    design, Y = frame(20), holed(20, 1500)
    test = prepare_test(design, "a", n_perm=600)
    stat = observed_stat(test, Y)
    whole = sweep(test, Y, stat)
    halves = [sweep(test, Y[:, part], stat[part]) for part in (slice(0, 777), slice(777, 1500))]
    np.testing.assert_array_equal(np.maximum(halves[0].maxima, halves[1].maxima), whole.maxima)
    np.testing.assert_array_equal(np.concatenate([half.reached for half in halves]), whole.reached)
    parts = [sweep(test, Y, stat, start=i, stop=i + 200) for i in range(0, 600, 200)]
    np.testing.assert_array_equal(np.concatenate([part.maxima for part in parts]), whole.maxima)
    np.testing.assert_array_equal(sum(part.reached for part in parts), whole.reached)
    lacking = np.flatnonzero(np.isnan(Y).any(axis=0))
    maps = rearranged_stat(test, Y[:, lacking[::-1]], start=37, stop=41)
    np.testing.assert_array_equal(maps, rearranged_stat(test, Y)[37:41, lacking[::-1]])
    alone = count_until(test, Y[:, lacking[:50]], stat[lacking[:50]], 5)
    np.testing.assert_array_equal(alone.reached, count_until(test, Y, stat, 5).reached[lacking[:50]])


def test_voxels_with_too_few_maps_are_left_out_and_counted():
    Y = np.random.default_rng(0).standard_normal((12, 40))
    for v in range(8):
        Y[: 4 + v, v] = np.nan
    maps = xr.DataArray(Y, dims=("map", "voxel"), coords={"map": list("abcdefghijkl")})
    with pytest.warns(VoxloomWarning, match="5 of 40 voxels lack variance, or have too few maps"):
        found = permutation_test(maps, frame(12), "a", n_perm=50, min_n=6)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found["stat"])), np.arange(3, 8))
    np.testing.assert_array_equal(found["n"][:9], [8, 7, 6, 5, 4, 3, 2, 1, 12])
    with pytest.raises(InputError, match="min_n: is 13, but there are 12 maps"):
        permutation_test(maps, frame(12), "a", min_n=13)


def test_spatial_statistics_take_every_voxel_that_can_be_tested():
    grid = Grid.of((6, 6, 4), np.eye(4))
    Y = holed(14, 144)
    maps = xr.DataArray(
        Y, dims=("map", "voxel"), coords={"map": [f"m{i}" for i in range(14)], **voxel_coords(grid, np.arange(144))}
    )
    found = permutation_test(maps, n_perm=64, statistics=["max_stat", "tfce", "cluster_size"])
    assert np.isfinite(found["p_tfce"]).all()
    np.testing.assert_allclose(found["tfce"], tfce(found["z_score"], two_sided=True), rtol=1e-9)
    np.testing.assert_allclose(found["null_tfce"][0], abs(found["tfce"]).max(), rtol=1e-9)
    np.testing.assert_array_equal(found["n"], np.isfinite(Y).sum(axis=0))


@pytest.mark.parametrize(
    "more", [{"nuisance": "huh-jhun"}, {"exchangeability": Exchangeability(variance_groups=[0] * 7 + [1] * 7)}]
)
def test_where_maps_are_combined_or_grouped_partial_voxels_are_left_out(more):
    maps = xr.DataArray(holed(14, 30), dims=("map", "voxel"), coords={"map": [f"m{i}" for i in range(14)]})
    with pytest.warns(VoxloomWarning, match="20 of 30 voxels"):
        permutation_test(maps, frame(14), "a", n_perm=20, **more)


@pytest.mark.parametrize("scheme", ["flip", "permute"])
def test_family_wise_errors_where_maps_are_missing_by_chance(scheme):
    """200 small studies; 3.2 standard errors."""
    rng, false = np.random.default_rng(0), 0
    design = pd.DataFrame({"one": np.ones(12), "x": rng.standard_normal(12)})
    for seed in range(200):
        Y = rng.standard_normal((12, 20))
        Y[rng.random(Y.shape) < 0.2] = np.nan
        test = prepare_test(design, "one" if scheme == "flip" else "x", n_perm=60, seed=seed)
        null = sweep(test, Y).maxima
        false += (null >= null[0]).mean() <= 0.1
    assert abs(false / 200 - 0.1) < 3.2 * np.sqrt(0.1 * 0.9 / 200)
