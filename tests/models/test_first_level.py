"""First-level models on Datasets: nilearn's numbers, the laws of blocks, what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import mean_scaling, run_glm

from voxloom.errors import DesignError, GridError, InputError
from voxloom.kernels.first_level.glm import fit_ar1
from voxloom.models.contrasts import contrast
from voxloom.models.first_level.fit import fit_first_level, fixed_effects
from voxloom.schema import Grid, grid_of, validate, voxel_coords

GRID = Grid.of((30, 30, 20), np.diag([3.0, 3, 3, 1]), "MNI")
#: One of each kind.
MODELS = ["ols", "ar1", "ar1-yule-walker", "ar2", "arma11"]
NAMES = ["face", "house", "drift", "constant"]


def bold(seed=0, V=300, T=60, dtype=np.float32):
    rng = np.random.default_rng(seed)
    Y = 800 + rng.standard_normal((V, T)).cumsum(axis=1) + 5 * rng.standard_normal((V, T))
    coords = {**voxel_coords(GRID, np.arange(V) * 7), "time": 2.0 * np.arange(T)}
    return xr.Dataset({"bold": (("voxel", "time"), Y.astype(dtype))}, coords=coords)


def design(T=60, seed=1):
    rng = np.random.default_rng(seed)
    columns = [rng.standard_normal(T), rng.standard_normal(T), np.linspace(-1, 1, T), np.ones(T)]
    return pd.DataFrame(np.column_stack(columns), columns=NAMES, index=2.0 * np.arange(T))


@pytest.mark.parametrize(("ours", "theirs"), [("ols", "ols"), ("ar1-yule-walker", "ar1")])
def test_nilearns_maps(ours, theirs):
    data, X = bold(dtype=np.float64), design()
    found = contrast(fit_first_level(data, X, noise_model=ours), "face - house")
    labels, results = run_glm(data["bold"].values.T, X.to_numpy(), noise_model=theirs)
    expected = compute_contrast(labels, results, np.array([1.0, -1, 0, 0]), "t")
    np.testing.assert_allclose(found["effect"], expected.effect_size(), rtol=1e-8)
    np.testing.assert_allclose(found["variance"], expected.effect_variance(), rtol=1e-8)
    np.testing.assert_allclose(found["stat"], expected.stat(), rtol=1e-8)
    np.testing.assert_allclose(found["z_score"], expected.z_score(), rtol=1e-7)
    np.testing.assert_allclose(found["p_value"], expected.p_value(), rtol=1e-7)
    assert (found["dof"] == 56).all()


def test_percent_signal_is_nilearns():
    data, X = bold(dtype=np.float64), design()
    scaled, _ = mean_scaling(data["bold"].values.T)
    fit = fit_first_level(data, X, noise_model="ols", signal_scaling=0)
    expected = np.linalg.lstsq(X.to_numpy(), scaled)[0]
    np.testing.assert_allclose(fit["beta"], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("noise_model", MODELS)
@settings(max_examples=8, deadline=None)
@given(chunk=st.integers(30, 300), time=st.integers(10, 60))
def test_chunks_do_not_matter(noise_model, chunk, time):
    data, X = bold(), design()
    whole = fit_first_level(data, X, noise_model=noise_model)
    lazy = fit_first_level(data.chunk(voxel=chunk, time=time), X, noise_model=noise_model)
    assert lazy["beta"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-12, atol=1e-12)
    found = contrast(lazy, "face").compute()
    xr.testing.assert_allclose(found, contrast(whole, "face"), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("noise_model", MODELS)
def test_chunks_at_multiples_of_4096_give_the_same_bits(noise_model):
    data, X = bold(V=9000), design()
    whole = fit_first_level(data, X, noise_model=noise_model)
    lazy = fit_first_level(data.chunk(voxel=4096), X, noise_model=noise_model)
    xr.testing.assert_identical(lazy.compute(), whole)
    xr.testing.assert_identical(contrast(lazy, "face - house").compute(), contrast(whole, "face - house"))


def test_a_lazy_fit_computes_nothing():
    def refuse(block):
        raise AssertionError("computed")

    data, X = bold().chunk(voxel=100), design()
    data["bold"] = data["bold"].copy(
        data=data["bold"].data.map_blocks(refuse, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    )
    fit = fit_first_level(data, X)
    found = contrast(fit, ["face", "house"])
    fixed_effects([contrast(fit, "face"), contrast(fit, "house")])
    with pytest.raises(AssertionError, match="computed"):
        found.compute()


@pytest.mark.parametrize("noise_model", MODELS)
@pytest.mark.parametrize("n_voxels", [0, 1])
def test_no_voxel_and_one_voxel(noise_model, n_voxels):
    data, X = bold().isel(voxel=slice(5, 5 + n_voxels)), design()
    whole = fit_first_level(bold(), X, noise_model=noise_model).isel(voxel=slice(5, 5 + n_voxels))
    for part in (data, data.chunk()):
        fit = fit_first_level(part, X, noise_model=noise_model)
        for expression in ("face", ["face", "house"]):
            xr.testing.assert_allclose(contrast(fit, expression).compute(), contrast(whole, expression), rtol=1e-9)


@pytest.mark.parametrize("noise_model", MODELS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), scale=st.sampled_from([1e-100, -3.0, 1e90]), chunk=st.integers(1, 60))
def test_t_and_f_do_not_depend_on_order_chunks_and_units(noise_model, seed, scale, chunk):
    data, X = bold(seed, V=60, dtype=np.float64), design()
    order = np.random.default_rng(seed).permutation(60)
    fit = fit_first_level(data, X, noise_model=noise_model)
    other = fit_first_level((scale * data).isel(voxel=order).chunk(voxel=chunk), X, noise_model=noise_model)
    for expression, sign in (("face - house", np.sign(scale)), (["face", "house"], 1)):
        expected = contrast(fit, expression).isel(voxel=order)
        found = contrast(other, expression).compute()
        np.testing.assert_allclose(found["stat"], sign * expected["stat"], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found["dof"], expected["dof"], rtol=1e-12)


@pytest.mark.parametrize("noise_model", MODELS)
def test_voxels_are_fitted_alone_and_keep_their_place(noise_model):
    data, X = bold(), design()
    order = np.random.default_rng(2).permutation(300)[:77]
    part = fit_first_level(data.isel(voxel=order), X, noise_model=noise_model)
    whole = fit_first_level(data, X, noise_model=noise_model)
    xr.testing.assert_allclose(part, whole.isel(voxel=order), rtol=1e-9)
    assert grid_of(part) == GRID
    assert grid_of(contrast(part, "face")) == GRID


def test_result_is_a_fit_and_dims_may_come_in_any_order():
    data, X = bold(), design()
    fit = validate(fit_first_level(data["bold"].transpose("time", "voxel"), X), "fit")
    xr.testing.assert_identical(fit, fit_first_level(data, X))
    assert fit["regressor"].values.tolist() == NAMES
    assert fit.attrs == {"noise_model": "ar1"}
    np.testing.assert_array_equal(fit.scan, np.arange(fit.sizes["time"]))
    assert "rho" not in fit_first_level(data, X, noise_model="ols")


def test_sample_mask_drops_rows_and_keeps_their_numbers():
    data, X = bold(), design()
    keep = np.array([i for i in range(60) if i not in (0, 20, 21, 40)])
    fit = fit_first_level(data, X, sample_mask=keep)
    np.testing.assert_array_equal(fit.scan, keep)
    expected = fit_ar1(X.to_numpy()[keep], data["bold"].values.T[keep], scans=keep)
    np.testing.assert_array_equal(fit["beta"], expected.beta)
    np.testing.assert_array_equal(fit["time"], 2.0 * keep)
    flags = np.zeros(60, dtype=bool)
    flags[keep] = True
    xr.testing.assert_identical(fit_first_level(data, X, sample_mask=flags), fit)
    xr.testing.assert_identical(fit_first_level(data.chunk(voxel=4096, time=7), X, sample_mask=keep).compute(), fit)


def test_rows_must_be_volumes():
    with pytest.raises(DesignError, match=r"60 volumes, but the design has 58 rows.*sample_mask"):
        fit_first_level(bold(), design(58))


def test_bad_arguments_are_told():
    data, X = bold(), design()
    with pytest.raises(InputError, match=r"'arma' is unknown.*ar1-yule-walker"):
        fit_first_level(data, X, noise_model="arma")
    with pytest.raises(InputError, match="signal_scaling"):
        fit_first_level(data, X, signal_scaling=1)
    for mask in (np.ones(59, dtype=bool), [3, 2], [0, 60], [], [[0, 1]], [0.5, 1.5]):
        with pytest.raises(InputError, match="sample_mask"):
            fit_first_level(data, X, sample_mask=mask)
    with pytest.raises(InputError, match="keeps no volume"):
        fit_first_level(data, X, sample_mask=np.zeros(60, dtype=bool))
    for dtype in (complex, str):
        with pytest.raises(InputError, match=r"holds values of type.*real numbers"):
            fit_first_level(data.astype(dtype), X)
    with pytest.raises(DesignError, match="'drift'"):
        fit_first_level(data, X.assign(drift=np.nan))
    twice = design().rename(columns=dict.fromkeys(design().columns[:2], "face"))
    with pytest.raises(DesignError, match=r"several columns of the name \['face'\]"):
        fit_first_level(bold(), twice)
    with pytest.raises(DesignError, match="rank 4, which leaves 0 degrees of freedom"):
        fit_first_level(data, X, sample_mask=[0, 1, 2, 3])
    with pytest.raises(InputError, match="no variable `bold`"):
        fit_first_level(data.rename(bold="signal"), X)


def runs(n=3):
    return [contrast(fit_first_level(bold(seed), design(seed=seed)), "face - house") for seed in range(n)]


def test_fixed_effects_of_runs():
    maps = runs()
    maps[1]["effect"][5] = np.nan
    found = validate(fixed_effects(maps), "contrast")
    effects = np.array([m["effect"] for m in maps])
    variances = np.array([m["variance"] for m in maps])
    np.testing.assert_allclose(found["effect"], np.nanmean(effects, axis=0))
    assert found["n"].values[4:7].tolist() == [3, 2, 3]
    np.testing.assert_allclose(found["variance"][6], variances[:, 6].sum() / 9)
    np.testing.assert_allclose(found["variance"][5], variances[[0, 2], 5].sum() / 4)
    np.testing.assert_allclose(found["dof"][6], sum(m["dof"].values[6] for m in maps))
    np.testing.assert_allclose(found["stat"], found["effect"] / np.sqrt(found["variance"]))
    assert found.attrs == {"stat_type": "t", "contrast": "face - house"}
    assert grid_of(found) == GRID


def test_precision_weights_are_inverse_variances():
    maps = runs()
    found = fixed_effects(maps, precision_weighted=True)
    w = 1 / np.array([m["variance"] for m in maps])
    np.testing.assert_allclose(found["effect"], (w * [m["effect"] for m in maps]).sum(axis=0) / w.sum(axis=0))
    np.testing.assert_allclose(found["variance"], 1 / w.sum(axis=0))


def test_one_dataset_of_runs_is_the_list_and_lazy_is_memory():
    maps = runs()
    stacked = xr.concat(maps, dim="run", combine_attrs="override")
    expected = fixed_effects(maps)
    xr.testing.assert_identical(fixed_effects(stacked), expected)
    xr.testing.assert_identical(fixed_effects(stacked.chunk(voxel=50, run=1)).compute(), expected)
    xr.testing.assert_allclose(fixed_effects([maps[0]]).drop_vars("n"), maps[0])


def test_runs_that_do_not_fit_together_are_told():
    a, b = runs(2)
    with pytest.raises(InputError, match="voxels of the runs differ"):
        fixed_effects([a, b.isel(voxel=slice(1, None))])
    with pytest.raises(InputError, match="no run"):
        fixed_effects([])
    F = contrast(fit_first_level(bold(), design()), ["face", "house"])
    with pytest.raises(InputError, match="combine_f"):
        fixed_effects([F])
    moved = b.drop_vars("grid").assign_coords(voxel_coords(Grid.of(GRID.shape, np.eye(4)), b["voxel"].values))
    with pytest.raises(GridError, match=r"contrasts\[1\]"):
        fixed_effects([a, moved])
    two = xr.concat([a, b], "contrast", combine_attrs="override")
    with pytest.raises(InputError, match="Select one contrast"):
        fixed_effects([two, two])
    with pytest.raises(InputError, match="Select one contrast"):
        fixed_effects(two)
