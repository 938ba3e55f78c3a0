"""Oracle: nilearn's masker order and nibabel's arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from nilearn.masking import apply_mask, unmask

from voxloom.errors import GridError, InputError
from voxloom.io.nifti.images import from_nifti, to_nifti, write_nifti
from voxloom.schema import Grid, grid_of, validate, voxel_coords

if TYPE_CHECKING:
    from pathlib import Path

AFFINE = np.array([[-2, 0, 0, 30], [0, 2.5, 0, -40], [0, 0, 3, 12], [0, 0, 0, 1.0]])
SHAPE = (6, 5, 4)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def series(rng: np.random.Generator) -> nib.Nifti1Image:
    image = nib.Nifti1Image(rng.normal(100, 9, (*SHAPE, 8)).astype(np.float32), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 1.5
    return image


@pytest.fixture
def mask(rng: np.random.Generator) -> nib.Nifti1Image:
    return nib.Nifti1Image((rng.random(SHAPE) < 0.5).astype(np.uint8), AFFINE)


def test_voxel_order_is_the_masker_order(tmp_path: Path, series: nib.Nifti1Image, mask: nib.Nifti1Image) -> None:
    wanted = apply_mask(series, mask).T
    series.to_filename(tmp_path / "bold.nii.gz")
    mask.to_filename(tmp_path / "mask.nii")
    array = np.asarray(mask.dataobj).astype(bool)
    for imgs in (series, tmp_path / "bold.nii.gz"):
        for chosen in (mask, tmp_path / "mask.nii", array):
            ds = validate(from_nifti(imgs, chosen), "bold")
            np.testing.assert_array_equal(ds["bold"], wanted)
            np.testing.assert_array_equal(ds["voxel"], np.flatnonzero(array))
            np.testing.assert_allclose(ds["time"], 1.5 * np.arange(8))
            assert grid_of(ds).same_as(Grid.of(SHAPE, AFFINE))
    back = ds["bold"].vx.to_nifti()
    np.testing.assert_array_equal(back.get_fdata(), unmask(wanted.T, mask).get_fdata())
    assert back.header.get_zooms()[3] == 1.5
    assert back.header.get_xyzt_units() == ("mm", "sec")


def test_without_a_mask_dead_voxels_are_left_out(rng: np.random.Generator) -> None:
    data = rng.normal(size=(*SHAPE, 5))
    data[0, 0, 0], data[1, 1, 1, 3], data[2, 2, 2, 1:] = 0, np.nan, 0
    ds = from_nifti(nib.Nifti1Image(data, AFFINE), t_r=2)
    left_out = np.setdiff1d(np.arange(np.prod(SHAPE)), ds["voxel"])
    np.testing.assert_array_equal(left_out, np.ravel_multi_index(([0, 1], [0, 1], [0, 1]), SHAPE))


def test_maps_from_files_images_and_one_stack(tmp_path: Path, rng: np.random.Generator) -> None:
    data = rng.normal(size=(*SHAPE, 3))
    images = [nib.Nifti1Image(data[..., i], AFFINE) for i in range(3)]
    paths = [write_nifti(image, tmp_path / f"sub-0{i}_z.nii.gz") for i, image in enumerate(images)]
    from_paths, from_images = validate(from_nifti(paths), "maps"), from_nifti(images)
    stack = from_nifti(nib.Nifti1Image(data, AFFINE), dim="map")
    assert list(from_paths["map"].values) == ["sub-00_z", "sub-01_z", "sub-02_z"]
    assert list(from_images["map"].values) == ["0", "1", "2"]
    for ds in (from_paths, from_images, stack):
        np.testing.assert_array_equal(ds["effect"], data.reshape(-1, 3).T)
    volume = to_nifti(stack["effect"].isel(map=1), dtype="float64")
    np.testing.assert_array_equal(volume.get_fdata(), data[..., 1])


@pytest.mark.parametrize(
    ("dtype", "slope", "wanted"),
    [("int16", None, "int16"), ("uint8", 0.5, "float32"), ("int32", 0.25, "float64"), ("float64", None, "float64")],
)
def test_data_type(tmp_path: Path, rng: np.random.Generator, dtype: str, slope: float | None, wanted: str) -> None:
    data = rng.integers(1, 99, (*SHAPE, 4)).astype(dtype)
    path = write_nifti(nib.Nifti1Image(data, AFFINE, dtype=dtype), tmp_path / "a.nii")
    if slope is not None:
        header = bytearray(path.read_bytes())
        header[112:116] = np.float32(slope).tobytes()
        path.write_bytes(header)
    ds = from_nifti(path, t_r=1)
    assert ds["bold"].dtype == wanted
    np.testing.assert_allclose(ds["bold"], (data * (slope or 1)).reshape(-1, 4))


def test_to_nifti_fills_and_says_where_it_is() -> None:
    grid = Grid.of(SHAPE, AFFINE, "MNI152NLin2009cAsym")
    stat = xr.DataArray([1.0, np.nan, 3.0], dims="voxel", coords=voxel_coords(grid, np.array([4, 7, 119])))
    image = to_nifti(stat, fill=-1)
    flat = image.get_fdata().ravel()
    np.testing.assert_array_equal(flat[[4, 7, 119, 0]], [1, np.nan, 3, -1])
    assert (image.header["sform_code"], image.header["qform_code"]) == (4, 4)
    np.testing.assert_allclose(image.get_qform(), AFFINE, atol=1e-5)
    native = to_nifti(stat.assign_coords(grid=voxel_coords(Grid.of(SHAPE, AFFINE), stat.voxel)["grid"]))
    assert native.header["sform_code"] == 2
    assert np.count_nonzero(native.get_fdata()) == 3  # 0 outside, NaN kept
    with pytest.raises(InputError, match="voxel"):
        to_nifti(stat.expand_dims(a=2, b=2))


def test_bad_input_names_the_image(tmp_path: Path, series: nib.Nifti1Image, mask: nib.Nifti1Image) -> None:
    other = nib.Nifti1Image(np.ones(SHAPE), np.diag([3, 3, 3, 1.0]))
    path = write_nifti(other, tmp_path / "other.nii.gz")
    with pytest.raises(GridError, match=r"other\.nii\.gz"):
        from_nifti([mask, path])
    with pytest.raises(GridError, match=r"other\.nii\.gz"):
        from_nifti(series, path)
    with pytest.raises(GridError, match="shape"):
        from_nifti(series, np.ones((2, 2, 2), bool))
    with pytest.raises(InputError, match="list of 3-D"):
        from_nifti(path)
    with pytest.raises(InputError, match="several volumes"):
        from_nifti([series, series])
    with pytest.raises(InputError, match="repetition time"):
        from_nifti(_without_t_r())
    with pytest.raises(InputError, match="empty"):
        from_nifti(series, np.zeros(SHAPE, bool))
    with pytest.raises(InputError, match="no images"):
        from_nifti([])


def _without_t_r() -> nib.Nifti1Image:
    image = nib.Nifti1Image(np.ones((*SHAPE, 3)), AFFINE)
    image.header["pixdim"][4] = 0
    return image
