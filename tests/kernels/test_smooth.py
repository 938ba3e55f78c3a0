"""Oracle: nilearn's smooth_img."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nilearn.image import smooth_img

from voxloom.kernels.volumes.smooth import smooth_volume


@pytest.fixture
def volume() -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.normal(100, 20, (14, 11, 9))


@pytest.mark.parametrize("fwhm", [4.0, 7.5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_equals_nilearn(volume: np.ndarray, fwhm: float, order: str) -> None:
    affine = np.array([[2, 0.3, 0, 0], [0, 2.5, 0, 0], [0.4, 0, 4, 0], [0, 0, 0, 1.0]])
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    wanted = smooth_img(nib.Nifti1Image(volume, affine), fwhm).get_fdata()
    ours = smooth_volume(np.asarray(volume, order=order), fwhm, sizes)
    np.testing.assert_array_equal(ours, wanted)
    assert ours.flags.c_contiguous == (order == "C")


def test_integers_equal_nilearn_to_its_float32(volume: np.ndarray) -> None:
    stored = volume.astype(np.int16)
    wanted = smooth_img(nib.Nifti1Image(stored, np.diag([3, 3, 3, 1.0])), 6).get_fdata()
    np.testing.assert_allclose(smooth_volume(stored, 6, (3, 3, 3)), wanted, rtol=1e-6)


def test_non_finite_counts_as_zero_and_input_is_kept(volume: np.ndarray) -> None:
    volume[3, 4, 5], volume[0, 0, 0] = np.nan, np.inf
    before = volume.copy()
    zeroed = np.where(np.isfinite(volume), volume, 0)
    np.testing.assert_array_equal(smooth_volume(volume, 5, (2, 2, 2)), smooth_volume(zeroed, 5, (2, 2, 2)))
    np.testing.assert_array_equal(volume, before)
    np.testing.assert_array_equal(smooth_volume(volume, 0, (2, 2, 2)), zeroed)
