"""Fits in the store as Datasets: new contrasts without the BOLD, residuals and quality series on demand."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import voxloom
from voxloom.errors import CorruptionError, InputError, StoreError
from voxloom.schema import validate

CONTRASTS = {"contrasts": {"faceVsHouse": "face - house"}}


@pytest.fixture(scope="module")
def scrubbed(pristine_study, analysis_of, tmp_path_factory):
    """A run with scrubbed volumes, percent signal change and frame times in the middle of scans."""
    first_level = {
        **CONTRASTS,
        "signal_scaling": 0,
        "slice_time_ref": 0.5,
        "confounds": {"strategy": ["motion", "scrub"], "fd_threshold": 0.2},
    }
    folder = tmp_path_factory.mktemp("scrubbed")
    result = voxloom.run(analysis_of(pristine_study, folder, first_level=first_level))
    assert result.ok, result
    return result


@pytest.fixture(params=["undisturbed_run", "scrubbed"])
def result(request):
    return request.getfixturevalue(request.param)


def test_contrasts_of_stored_fits_combine_to_the_subjects_maps(result):
    study = voxloom.open_study(result.store)
    subject = study.runs["sub"].iloc[0]
    runs = study.runs.query("sub == @subject").index
    fits = [study.fit(run) for run in runs]
    assert all(variable.chunks is not None for fit in fits for variable in (fit["beta"], fit["sigma2"]))
    found = voxloom.fixed_effects([voxloom.contrast(fit, "face - house") for fit in fits]).compute()
    expected = study.results(result.results_name).sel(subject=f"sub-{subject}", contrast="faceVsHouse")
    for name in ("effect", "variance", "dof"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-12)


def test_a_stored_fit_is_that_of_its_bold_and_leaves_its_residuals(result):
    study = voxloom.open_study(result.store)
    run_id = study.runs.index[0]
    run, fit = study.run(run_id), study.fit(run_id)
    validate(fit, "fit")
    kept = fit["volume"].to_numpy()
    rows = np.zeros((run.sizes["time"], fit.sizes["regressor"]))
    rows[kept] = fit["design"]
    again = voxloom.fit_first_level(
        run,
        pd.DataFrame(rows, columns=fit["regressor"].values),
        sample_mask=kept,
        signal_scaling=fit.attrs.get("signal_scaling"),
    )
    xr.testing.assert_allclose(fit.compute(), again.compute(), rtol=1e-9)
    assert fit.attrs == again.attrs
    left = voxloom.residuals(run, fit)
    xr.testing.assert_allclose(left.compute(), voxloom.residuals(run, again).compute(), rtol=1e-7, atol=1e-7)
    xr.testing.assert_allclose(voxloom.r_squared(run, fit).compute(), voxloom.r_squared(run, again).compute())
    np.testing.assert_array_equal(left["time"], run["time"][kept])
    assert voxloom.quality_series(run, fit)["n_censored"] == run.sizes["time"] - kept.size


def test_new_contrasts_do_not_touch_the_bold(result, tmp_path):
    store = shutil.copytree(result.store, tmp_path / "copy.zarr")
    run_id = voxloom.open_study(store).runs.index[0]
    shutil.rmtree(store / "runs" / run_id / "bold" / "c")
    study = voxloom.open_study(store)
    fit = study.fit(run_id)
    assert np.isfinite(voxloom.contrast(fit, "face + house")["stat"].compute()).any()
    assert np.isfinite(voxloom.predicted(fit).isel(voxel=slice(0, 5)).compute()).any()
    left = voxloom.residuals(study.run(run_id), fit)  # lazy: says so when it is computed
    with pytest.raises(CorruptionError):
        left.compute()


def test_quality_series_are_read_from_the_store(result):
    study = voxloom.open_study(result.store)
    run = study.run(study.runs.index[0])
    found = voxloom.quality_series(run)
    assert found["dvars"].chunks is not None
    inside = run["bold"].to_numpy().astype(float)[run["in_mask"].to_numpy()]
    np.testing.assert_allclose(found["global_signal"], inside.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found["dvars"][1:], np.sqrt((np.diff(inside) ** 2).mean(axis=0)), rtol=1e-9)
    np.testing.assert_array_equal(found["framewise_displacement"], run["confounds"].sel(name="framewise_displacement"))
    stored = run["tsnr"].to_numpy()
    mine = run["in_mask"].to_numpy()
    np.testing.assert_allclose(voxloom.tsnr(run).to_numpy()[mine], stored[mine], rtol=1e-6)


def test_which_fit_is_told_by_its_name(undisturbed_run, tmp_path):
    store = shutil.copytree(undisturbed_run.store, tmp_path / "copy.zarr")
    study = voxloom.open_study(store)
    run_id, name = study.runs.index[0], next((store / "fits").glob("*/")).name
    xr.testing.assert_identical(study.fit(run_id, name[:5]).compute(), study.fit(run_id).compute())
    with pytest.raises(StoreError, match="holds no fit of 'nobody'"):
        study.fit("nobody")
    with pytest.raises(StoreError, match=f"'zz' fits 0 models. Name one of: {name}"):
        study.fit(run_id, "zz")
    shutil.copytree(store / "fits" / name, store / "fits" / "0other")
    with pytest.raises(StoreError, match=f"was fitted with 2 models. Name one of: 0other, {name}"):
        study.fit(run_id)
    assert study.fit(run_id, "0").sizes == study.fit(run_id, name).sizes


def test_a_fit_that_is_not_done_is_not_read_as_one(undisturbed_run, tmp_path):
    store = shutil.copytree(undisturbed_run.store, tmp_path / "copy.zarr")
    study = voxloom.open_study(store)
    run_id, fits = study.runs.index[0], next((store / "fits").glob("*/"))
    shutil.rmtree(fits / run_id / "beta" / "c")
    with pytest.raises(CorruptionError):
        study.fit(run_id)["beta"].compute()
    shutil.rmtree(fits / run_id / "sigma2")
    with pytest.raises(InputError, match="no variable `sigma2`"):
        study.fit(run_id)
