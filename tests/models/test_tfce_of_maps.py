"""TFCE as users call it: volumes and maps give the same scores, and what is no map is refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import voxloom
from voxloom.errors import InputError
from voxloom.kernels.maps.neighbours import neighbourhood
from voxloom.kernels.maps.tfce import tfce_scores
from voxloom.schema import Grid, voxel_coords

RNG = np.random.default_rng(0)
VOLUME = 4 * ndimage.gaussian_filter(RNG.standard_normal((9, 8, 7)), 1)
MASK = RNG.random(VOLUME.shape) < 0.8


def maps(*, dims=("map", "voxel"), dtype=np.float64):
    grid = Grid.of(VOLUME.shape, np.eye(4))
    values = np.stack([VOLUME[MASK], -VOLUME[MASK]]).astype(dtype)
    array = xr.DataArray(values, dims=("map", "voxel"), coords=voxel_coords(grid, np.flatnonzero(MASK)), name="z_score")
    return array.transpose(*dims)


@pytest.mark.parametrize("options", [{}, {"two_sided": True, "connectivity": 26}, {"steps": 100, "E": 1.0, "H": 1.0}])
def test_volumes_and_maps_have_the_kernels_scores(options):
    around = neighbourhood(np.flatnonzero(MASK), VOLUME.shape, options.get("connectivity", 6))
    parameters = {name: value for name, value in options.items() if name != "connectivity"}
    wanted = tfce_scores(VOLUME[MASK][np.newaxis], around, **parameters)[0]
    of_volume = voxloom.tfce(VOLUME, mask=MASK, **options)
    assert np.array_equal(of_volume[MASK], wanted)
    assert not of_volume[~MASK].any()
    of_map = voxloom.tfce(maps()[0], **options)
    assert np.array_equal(of_map, wanted)
    assert of_map.name == "tfce"


@pytest.mark.parametrize("dims", [("map", "voxel"), ("voxel", "map")])
def test_each_of_several_maps_is_enhanced_alone_and_keeps_its_place(dims):
    several = voxloom.tfce(maps(dims=dims))
    assert several.dims == dims
    for m in range(2):
        assert np.array_equal(several.isel(map=m), voxloom.tfce(maps()[m]))
    assert several.coords["grid"].attrs["shape"] == list(VOLUME.shape)


def test_lazy_maps_and_float32_maps_are_taken_as_they_are():
    lazy = voxloom.tfce(maps().chunk(voxel=50))
    assert np.array_equal(lazy, voxloom.tfce(maps()))
    single = maps(dtype=np.float32)
    assert np.array_equal(voxloom.tfce(single), voxloom.tfce(single.astype(np.float64)))


def test_a_mask_over_voxels_is_a_selection_of_them():
    kept = RNG.random(MASK.sum()) < 0.7
    masked = voxloom.tfce(maps(), mask=kept)
    assert np.array_equal(masked[:, kept], voxloom.tfce(maps()[:, kept]))
    assert not masked[:, ~kept].any()


def test_nan_stay_nan():
    holes = maps()
    holes[0, :5] = np.nan
    scores = voxloom.tfce(holes)
    assert np.isnan(scores[0, :5]).all()
    assert np.isfinite(scores[0, 5:]).all()


def test_an_image_goes_in_and_out_through_its_maps(tmp_path):
    voxloom.to_nifti(maps()[0]).to_filename(tmp_path / "z.nii.gz")
    read = voxloom.from_nifti([tmp_path / "z.nii.gz"], mask=MASK)["effect"]
    scores = voxloom.tfce(read)[0]
    back = voxloom.to_nifti(scores).get_fdata()
    np.testing.assert_allclose(back[MASK], scores, rtol=1e-6)


REFUSED = {
    "no volume": (lambda: voxloom.tfce(VOLUME[0]), r"volume: has shape \(8, 7\). Three dimensions"),
    "another mask": (lambda: voxloom.tfce(VOLUME, mask=MASK[:-1]), r"mask: has shape \(8, 8, 7\)"),
    "no grid": (lambda: voxloom.tfce(maps().drop_vars("grid")), "has no `grid` coordinate"),
    "no voxels": (lambda: voxloom.tfce(maps().drop_vars("voxel")), "has no `voxel` coordinate"),
    "connectivity": (lambda: voxloom.tfce(VOLUME, connectivity=8), "tfce.connectivity: is 8"),
    "exponent": (lambda: voxloom.tfce(VOLUME, E=-1), "tfce.E: is -1"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_map_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
