"""Volumes of a page: what a NIfTI reader gets back is the map, in its place, to three digits."""

from __future__ import annotations

import base64
import gzip

import nibabel as nib
import numpy as np
import pytest
import xarray as xr

from voxloom.report.volumes import step_of, volume_of
from voxloom.schema import Grid, voxel_coords


def a_map(codes: str = "RAS", shape=(9, 8, 7)) -> xr.DataArray:
    """Values over a ball, on a grid whose axes run as the codes say."""
    rng = np.random.default_rng(4)
    straight = nib.affines.from_matvec(np.diag([3.0, 2.0, 4.0]), [-12, 5, -30])
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    inside = sum((axis - n / 2) ** 2 for axis, n in zip(np.indices(shape), shape)) < 9
    values = np.where(inside, 3 * rng.standard_normal(shape), np.nan)
    turned = nib.orientations.apply_orientation(values, turn)
    grid = Grid.of(turned.shape, straight @ nib.orientations.inv_ornt_aff(turn, shape))
    voxel = np.flatnonzero(np.isfinite(turned))
    return xr.DataArray(turned.reshape(-1)[voxel], dims="voxel", coords=voxel_coords(grid, voxel), name="z")


def image_of(volume) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(volume.data)))


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PSR"])
def test_every_value_is_read_back_at_its_millimetres(codes):
    map = a_map(codes)
    image = image_of(volume_of("z", map))
    grid = Grid.from_attrs(map.coords["grid"].attrs)
    ijk = np.stack(np.unravel_index(map["voxel"].to_numpy(), grid.shape), axis=1)
    xyz = nib.affines.apply_affine(grid.matrix, ijk)
    there = np.rint(nib.affines.apply_affine(np.linalg.inv(image.affine), xyz)).astype(int)
    np.testing.assert_allclose(image.get_fdata()[tuple(there.T)], map, atol=np.abs(map).max() * 4e-5)
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    outside = np.ones(image.shape, bool)
    outside[tuple(there.T)] = False
    assert not image.get_fdata()[outside].any()


def test_any_voxel_order_gives_the_same_file():
    assert volume_of("z", a_map("LPI")).data == volume_of("z", a_map("RAS")).data


@pytest.mark.parametrize("largest", [1e-7, 0.003, 1.0, 8.02, 32767.0, 5e6])
def test_steps_reach_the_largest_value_and_tell_its_fourth_digit(largest):
    step = step_of(largest, 32767)
    assert largest <= 32767 * step * (1 + 1e-9)
    assert step < largest / 13_000
    assert f"{step:.0e}"[0] in "125"


def test_missing_values_are_as_outside():
    map = a_map()
    map[3] = np.nan
    map[4] = np.inf
    image = image_of(volume_of("z", map))
    assert np.count_nonzero(image.get_fdata()) == map.size - 2
    assert volume_of("z", map * np.nan).largest == 0
