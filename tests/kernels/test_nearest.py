"""Nearest neighbour between grids: against nilearn, and where it must not depend on rounding."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from nilearn.image import resample_img

from voxloom.kernels.volumes.nearest import nearest


def affine(*sizes: float, origin: tuple[float, ...] = (0, 0, 0), turn: float = 0.0) -> np.ndarray:
    c, s = np.cos(turn), np.sin(turn)
    found = np.eye(4)
    found[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(sizes)
    found[:3, 3] = origin
    return found


@pytest.mark.parametrize(
    ("onto", "shape"),
    [
        (affine(3.1, 2.9, 3.3, origin=(-13.37, -11.11, -4.04)), (9, 10, 7)),
        (affine(-1.7, 1.7, 1.7, origin=(12.3, -9.9, -3.3)), (14, 11, 9)),
        (affine(2.3, 2.3, 4.1, origin=(-9.7, -12.1, -2.9), turn=0.3), (10, 12, 5)),
    ],
    ids=["coarser", "flipped", "turned"],
)
def test_agrees_with_nilearn_inside_the_volume(onto, shape):
    volume = np.random.default_rng(0).integers(1, 1000, (12, 13, 8)).astype(np.int16)
    own = affine(2, 2, 2.5, origin=(-12, -12, -5))
    found = nearest(volume, own, shape, onto)
    image = nibabel.Nifti1Image(volume, own)
    theirs = resample_img(
        image, onto, shape, interpolation="nearest", force_resample=True, copy_header=True
    ).get_fdata()
    # theirs drops the outer half of the outermost voxels
    assert (theirs > 0).sum() > 50
    np.testing.assert_array_equal(found[theirs > 0], theirs[theirs > 0])


def test_whole_of_every_voxel_counts_and_nothing_beyond():
    volume = np.arange(1, 9).reshape(2, 2, 2)
    fine = nearest(volume, np.eye(4), (8, 8, 8), affine(0.5, 0.5, 0.5, origin=(-1.25, -1.25, -1.25)))
    wanted = np.zeros((8, 8, 8), int)
    wanted[2:6, 2:6, 2:6] = volume.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(fine, wanted)


@pytest.mark.parametrize("shift", [0.0, 3e-8, -3e-8])
def test_a_centre_on_an_edge_falls_to_the_same_side_whatever_the_rounding(shift):
    volume = np.arange(1, 5).reshape(4, 1, 1)
    found = nearest(volume, np.eye(4), (3, 1, 1), affine(1, 1, 1, origin=(0.5 + shift, 0, 0)))
    assert found.ravel().tolist() == [2, 3, 4]


def test_same_grid_gives_the_same_volume():
    volume = np.random.default_rng(1).random((5, 6, 7)) < 0.5
    own = affine(-2, 2, 3.5, origin=(90, -126, -72), turn=0.2)
    np.testing.assert_array_equal(nearest(volume, own, volume.shape, own), volume)
