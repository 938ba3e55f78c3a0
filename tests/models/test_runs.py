"""Contrasts over runs: who answers, what is joined; conjunctions against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from test_first_level import bold, design

from voxloom.errors import ContrastError, InputError, VoxloomWarning
from voxloom.models.contrasts import combine_f, contrast, contrast_rows
from voxloom.models.first_level.fit import fit_first_level, fixed_effects
from voxloom.models.first_level.runs import conjunction, contrast_over_runs
from voxloom.schema import validate


def fits(n: int = 3, **options) -> dict[str, xr.Dataset]:
    return {f"r{i}": fit_first_level(bold(i), design(seed=i), **options) for i in range(n)}


def lacking(how: str) -> xr.Dataset:
    """A run without houses: no column, a column of zeros, or one that another column repeats."""
    X = design(seed=9)
    changed = {
        "no column": X.drop(columns="house"),
        "zeros": X.assign(house=0.0),
        "repeated": X.assign(again=X["house"]),
    }
    return fit_first_level(bold(9), changed[how])


@pytest.mark.parametrize("weighted", [False, True])
def test_t_over_runs_is_fixed_effects_of_each_runs_contrast(weighted):
    runs = fits()
    found = validate(contrast_over_runs(runs, "face - house", precision_weighted=weighted), "contrast")
    expected = fixed_effects([contrast(f, "face - house") for f in runs.values()], precision_weighted=weighted)
    xr.testing.assert_equal(found, expected)
    assert found.attrs["runs"] == ["r0", "r1", "r2"]


def test_f_over_runs_is_that_of_the_combined_rows():
    runs = fits()
    found = contrast_over_runs(list(runs.values()), ["face", "house"])
    xr.testing.assert_equal(found, combine_f([contrast_rows(f, ["face", "house"]) for f in runs.values()]))
    assert found.attrs["runs"] == ["run-1", "run-2", "run-3"]


@pytest.mark.parametrize("how", ["no column", "zeros", "repeated"])
@pytest.mark.parametrize(
    "question",
    [
        {"expression": "face - house"},
        {"expression": ["face", "house"]},
        {"expression": ["face", "house"], "stat_type": "conjunction"},
    ],
    ids=str,
)
def test_a_run_that_cannot_answer_is_left_out_by_name_and_changes_nothing(how, question):
    runs = fits()
    with pytest.warns(VoxloomWarning, match="r9 is left out: contrast .*house"):
        found = contrast_over_runs(runs | {"r9": lacking(how)}, **question)
    xr.testing.assert_identical(found, contrast_over_runs(runs, **question))
    with pytest.raises(ContrastError, match="house"):
        contrast_over_runs({"r9": lacking(how)}, **question)


def test_runs_that_lack_a_condition_still_answer_what_they_can():
    runs = fits() | {"r9": lacking("zeros")}
    found = contrast_over_runs(runs, "face")
    assert found.attrs["runs"] == list(runs)
    assert (found["n"] == 4).all()


def test_one_contrast_per_run():
    runs = fits()
    per_run = {"r0": "face", "r2": [0, 2, 0, 0]}
    found = contrast_over_runs(runs, per_run)
    expected = fixed_effects([contrast(runs["r0"], "face"), contrast(runs["r2"], "2 * house")])
    xr.testing.assert_equal(found, expected)
    assert found.attrs["runs"] == ["r0", "r2"]


def test_bad_questions_to_runs_are_told():
    runs = fits(2)
    with pytest.raises(InputError, match=r"\['r7'\] have no fit"):
        contrast_over_runs(runs, {"r7": "face"})
    with pytest.raises(InputError, match="there is none"):
        contrast_over_runs([], "face")
    with pytest.raises(InputError, match="F and t"):
        contrast_over_runs(runs, {"r0": "face", "r1": ["face", "house"]})
    with pytest.raises(ContrastError, match="2 weights, but the design has 4 columns"):
        contrast_over_runs(runs, [1, -1])
    with pytest.raises(InputError, match="voxels of the runs differ"):
        contrast_over_runs({"r0": runs["r0"], "r1": runs["r1"].isel(voxel=slice(0, 5))}, "face")


def test_conjunction_is_the_smallest_z_and_the_largest_p():
    runs = fits(1)["r0"]
    maps = [contrast(runs, text) for text in ("face", "house", "face + house")]
    maps.append(contrast(runs, ["face", "house"]))
    found = validate(conjunction(maps), "contrast")
    np.testing.assert_array_equal(found["z_score"], np.min([m["z_score"] for m in maps], axis=0))
    np.testing.assert_allclose(found["p_value"], np.max([m["p_value"] for m in maps], axis=0), rtol=1e-9)
    np.testing.assert_allclose(found["p_value"], stats.norm.sf(found["stat"]), rtol=1e-12)
    assert found.attrs["contrast"] == "face; house; face + house; face; house"
    assert np.isinf(found["dof"]).all()


def test_conjunction_handles_maps_of_unequal_degrees_of_freedom_through_z():
    few, many = (
        contrast(fit_first_level(bold(s).isel(time=slice(0, n)), design(seed=s).iloc[:n], noise_model="ols"), "face")
        for s, n in ((0, 8), (1, 60))
    )
    found = conjunction([few, many])
    p = np.maximum(stats.t.sf(few["stat"], 4), stats.t.sf(many["stat"], 56))
    np.testing.assert_allclose(found["p_value"], p, rtol=1e-9)


def test_conjunction_is_lazy_and_nan_where_any_contrast_is():
    fit = fits(1)["r0"]
    a, b = contrast(fit, "face"), contrast(fit, "house")
    a = a.where(np.arange(a.sizes["voxel"]) != 3)
    lazy = conjunction([a.chunk(voxel=50), b.chunk(voxel=50)])
    assert lazy["stat"].chunks
    found = conjunction([a, b])
    xr.testing.assert_identical(lazy.compute(), found)
    for name in found:
        assert np.flatnonzero(np.isnan(found[name])).tolist() == [3]


def test_conjunction_over_runs_is_that_of_the_fixed_effects():
    runs = fits()
    found = contrast_over_runs(runs, ["face", "house"], stat_type="conjunction")
    xr.testing.assert_equal(found, conjunction([contrast_over_runs(runs, text) for text in ("face", "house")]))


def test_p_of_a_conjunction_holds_its_level_when_one_effect_is_there_and_one_is_not():
    """The worst case of the conjunction null: one effect beyond doubt, the other absent."""
    rng = np.random.default_rng(0)
    z = np.stack([rng.standard_normal(200_000), rng.standard_normal(200_000) + 30])
    maps = [xr.Dataset({"z_score": ("voxel", row)}) for row in z]
    rate = float((conjunction(maps)["p_value"] < 0.05).mean())
    assert abs(rate - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 200_000)


def test_bad_conjunctions_are_told():
    fit = fits(1)["r0"]
    face = contrast(fit, "face")
    with pytest.raises(InputError, match="conjunction: is of 1 contrast"):
        conjunction([face])
    with pytest.raises(InputError, match="no `z_score`"):
        conjunction([face, contrast(fit, "house", tails=False)])
    with pytest.raises(InputError, match="voxels of the runs differ"):
        conjunction([face, face.isel(voxel=slice(1, None))])
    with pytest.raises(InputError, match="is of one contrast"):
        contrast_over_runs([fit], "face", stat_type="conjunction")
