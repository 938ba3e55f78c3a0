"""Images in, images out: every verb of the Python API in one chain, in memory and lazy."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import voxloom as vx
from voxloom.schema import Grid, grid_of

SHAPE, T, T_R = (7, 6, 5), 60, 2.0
AFFINE = np.array([[-3.0, 0, 0, 90], [0, 3, 0, -120], [0, 0, 3.5, -70], [0, 0, 0, 1]])
GRID = Grid.of(SHAPE, AFFINE)
SUBJECTS, RUNS = 8, 2
#: Voxels that respond to faces, beside the mask's first voxel.
ACTIVE = (slice(2, 5), slice(2, 4), slice(1, 4))
EVENTS = pd.DataFrame(
    {
        "onset": np.arange(4.0, 112, 12),
        "duration": 4.0,
        "trial_type": ["face", "house", "rest"] * 3,
    }
)


@pytest.fixture(scope="module")
def mask() -> nib.Nifti1Image:
    inside = np.ones(SHAPE, np.uint8)
    inside[0], inside[:, 0] = 0, 0
    return nib.Nifti1Image(inside, AFFINE)


@pytest.fixture(scope="module")
def design() -> pd.DataFrame:
    return vx.design_matrix(T_R * np.arange(T), EVENTS)


def run_image(seed: int, design: pd.DataFrame) -> nib.Nifti1Image:
    rng = np.random.default_rng(seed)
    signal = 1000 + 10 * rng.standard_normal((*SHAPE, T))
    signal[ACTIVE] += 60 * (design["face"] - design["house"]).to_numpy()
    image = nib.Nifti1Image(signal.astype(np.int16), AFFINE)
    image.header.set_zooms((3, 3, 3.5, T_R))
    image.header.set_xyzt_units("mm", "sec")
    return image


def placed(data: xr.Dataset | xr.DataArray, voxel: np.ndarray) -> xr.Dataset | xr.DataArray:
    """Return the data, which must know where their voxels lie."""
    np.testing.assert_array_equal(data["voxel"], voxel)
    assert grid_of(data) == GRID
    return data


def subject(number: int, design: pd.DataFrame, mask: nib.Nifti1Image, chunk: int | None) -> xr.Dataset:
    """Fixed effects of a subject's runs, every step of them on the mask's voxels."""
    voxel, runs = np.flatnonzero(np.asarray(mask.dataobj)), []
    for run in range(RUNS):
        bold = placed(vx.from_nifti(run_image(10 * number + run, design), mask), voxel)
        fit = placed(vx.fit_first_level(bold.chunk(voxel=chunk) if chunk else bold, design), voxel)
        runs.append(placed(vx.contrast(fit, "face - house"), voxel))
    assert set(runs[0]) == {"effect", "variance", "stat", "z_score", "p_value", "dof"}
    return placed(vx.fixed_effects(runs), voxel)


def group_maps(design: pd.DataFrame, mask: nib.Nifti1Image, chunk: int | None) -> xr.DataArray:
    subjects = [subject(number, design, mask, chunk)["effect"] for number in range(SUBJECTS)]
    return xr.concat(subjects, pd.Index([f"sub-{i}" for i in range(SUBJECTS)], name="map"), coords="minimal")


@pytest.fixture(scope="module")
def in_memory(design, mask) -> xr.DataArray:
    return group_maps(design, mask, None)


@pytest.mark.parametrize("chunk", [None, 37])
def test_from_images_to_images(design, mask, in_memory, chunk):
    maps, voxel = group_maps(design, mask, chunk), np.flatnonzero(np.asarray(mask.dataobj))
    assert (maps.chunks is not None) == bool(chunk)
    xr.testing.assert_allclose(maps.compute(), in_memory, rtol=1e-10)
    answer = placed(vx.contrast(vx.fit_group(maps), "intercept"), voxel)
    assert (answer["stat"].chunks is not None) == bool(chunk)
    test = placed(vx.permutation_test(maps, n_perm=2**SUBJECTS), voxel)
    assert set(test) == {"stat", "z_score", "n", "p_uncorrected", "p_max_stat", "null_max_stat"}
    np.testing.assert_array_equal(test["n"], SUBJECTS)
    assert test["null_max_stat"].dims == ("permutation",)
    np.testing.assert_allclose(test["stat"], answer["stat"], rtol=1e-9)
    inside = np.zeros(SHAPE, bool)
    inside[ACTIVE] = True
    kept = placed(vx.threshold(answer["z_score"], alpha=0.05, method="bonferroni"), voxel)
    for found in (kept, placed(vx.bonferroni(answer["z_score"]), voxel), placed(vx.fdr(answer["z_score"]), voxel)):
        image = vx.to_nifti(found)
        assert image.shape == SHAPE
        np.testing.assert_array_equal(image.affine, AFFINE)
        back = vx.from_nifti([image], mask)["effect"][0]
        np.testing.assert_array_equal(back, found.astype(np.float32))
    assert (vx.to_nifti(kept).get_fdata() != 0)[inside].mean() > 0.9
    # a flip and its mirror image: the least p that the 256 flips of eight maps allow
    significant = vx.to_nifti(test["p_max_stat"], fill=1).get_fdata() <= 2 / 2**SUBJECTS
    assert significant[inside].mean() > 0.5
    assert not significant[~inside].any()


def test_maps_from_images_are_the_maps(in_memory, mask):
    """4-D image of the maps and back: the group test reads images as well as results."""
    image = vx.to_nifti(in_memory, dtype=np.float64)
    again = vx.from_nifti(image, mask, dim="map")
    np.testing.assert_array_equal(again["effect"], in_memory)
    found, expected = (vx.permutation_test(maps, n_perm=50) for maps in (again, in_memory))
    xr.testing.assert_equal(found, expected)
    np.testing.assert_array_equal(vx.fit_group(again)["beta"], vx.fit_group(in_memory)["beta"])
    np.testing.assert_array_equal(in_memory[0].vx.to_nifti().get_fdata(), vx.to_nifti(in_memory[0]).get_fdata())
