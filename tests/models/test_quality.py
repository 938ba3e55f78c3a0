"""tSNR and series over the volumes of a run, against the formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from voxloom.errors import InputError
from voxloom.models.first_level.quality import quality_series, tsnr

V, T = 30, 25


def run(seed=0):
    """A run as a study gives it: uint16 counts, some voxels outside its mask, confounds, a sample mask."""
    rng = np.random.default_rng(seed)
    displacement = np.append(np.nan, rng.uniform(0, 1, T - 1))
    return xr.Dataset(
        {
            "bold": (("voxel", "time"), rng.integers(400, 600, (V, T)).astype(np.uint16)),
            "in_mask": ("voxel", np.arange(V) >= 4),
            "sample_mask": ("time", np.arange(T) >= 2),
            "confounds": (("time", "name"), np.column_stack([np.zeros(T), displacement])),
        },
        coords={"voxel": np.arange(V), "time": 2.0 * np.arange(T), "name": ["trans_x", "framewise_displacement"]},
    )


def test_tsnr_is_mean_over_sd_of_the_volumes_kept():
    data = run()
    Y = data["bold"].values.astype(float)
    np.testing.assert_allclose(tsnr(data), Y.mean(axis=1) / Y.std(axis=1), rtol=1e-12)
    kept = tsnr(data, sample_mask=data["sample_mask"])
    np.testing.assert_allclose(kept, Y[:, 2:].mean(axis=1) / Y[:, 2:].std(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(tsnr(data.chunk(voxel=7, time=5)).compute(), tsnr(data))


@pytest.mark.parametrize("value", [0.1, np.nan, np.inf])
def test_a_voxel_that_is_constant_or_not_finite_has_no_tsnr(value):
    data = run().astype(float)
    data["bold"][3] = 0.1
    data["bold"][3, 4] = value
    assert list(np.flatnonzero(np.isnan(tsnr(data)))) == [3]


@pytest.mark.parametrize("lazy", [False, True])
def test_series_are_those_of_the_runs_voxels(lazy):
    data = run()
    found = quality_series(data.chunk(voxel=7) if lazy else data)
    assert (found["dvars"].chunks is not None) == lazy
    Y = data["bold"].values[4:].astype(float)
    np.testing.assert_allclose(found["global_signal"], Y.mean(axis=0), rtol=1e-12)
    assert np.isnan(found["dvars"][0])
    np.testing.assert_allclose(found["dvars"][1:], np.sqrt((np.diff(Y) ** 2).mean(axis=0)), rtol=1e-12)
    np.testing.assert_array_equal(found["framewise_displacement"], data["confounds"][:, 1])
    np.testing.assert_array_equal(found["kept"], data["sample_mask"])
    np.testing.assert_array_equal(found["time"], data["time"])
    assert found["n_censored"] == 2
    assert all(variable.dims == ("time",) for name, variable in found.items() if name != "n_censored")


def test_volumes_that_a_fit_left_out_count_as_censored():
    fit = xr.Dataset(coords={"volume": ("time", [0, 1, 2, 5, 6])})
    found = quality_series(run(), fit)
    assert list(np.flatnonzero(found["kept"])) == [2, 5, 6]
    assert found["n_censored"] == T - 3


def test_values_that_are_not_finite_do_not_count_and_bold_alone_is_enough():
    data = run().astype(float)[["bold"]].drop_vars("time")
    data["bold"][2, 3], data["bold"][6, 3] = np.nan, np.inf
    found = quality_series(data)
    rest = np.delete(data["bold"].values, [2, 6], axis=0)
    np.testing.assert_allclose(found["global_signal"][3], rest[:, 3].mean(), rtol=1e-12)
    np.testing.assert_allclose(found["dvars"][4], np.sqrt(((rest[:, 4] - rest[:, 3]) ** 2).mean()), rtol=1e-12)
    assert set(found.data_vars) == {"global_signal", "dvars", "kept", "n_censored"}
    assert found["n_censored"] == 0
    with pytest.raises(InputError, match="no variable `bold`"):
        quality_series(run().drop_vars("bold"))
