"""A head with tissues, and where in it the conditions act: the truth that analyses are held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

CONDITIONS = ("face", "house")

#: Field of view, brain centre and brain half axes in mm, near those of the MNI template.
FIELD_OF_VIEW = (169.0, 195.0, 156.0)
CENTRE = (0.0, -18.0, 8.0)
HALF_AXES = (68.0, 86.0, 62.0)
#: T2*-weighted signal of the tissues in scanner units, fMRIPrep's usual range.
CSF, GREY, WHITE = 1, 2, 3
INTENSITY = {CSF: 11_000.0, GREY: 9_200.0, WHITE: 7_800.0}


@dataclass(frozen=True)
class Blob:
    """A ball of activation: flat core, cosine edge, exactly zero outside.

    Parameters
    ----------
    name : str
    centre : tuple of 3 float
        MNI mm.
    radius : float
        Distance at which the effect has fallen to one half, mm.
    percent : tuple of float
        Percent signal change in the core, one per condition of `CONDITIONS`.
    """

    name: str
    centre: tuple[float, float, float]
    radius: float
    percent: tuple[float, ...]


#: One region where face - house is positive, one where it is negative, one where both conditions act alike.
BLOBS = (
    Blob("right fusiform", (38.0, -52.0, -14.0), 20.0, (1.8, 0.4)),
    Blob("left parahippocampal", (-28.0, -44.0, -4.0), 20.0, (0.3, 1.7)),
    Blob("occipital pole", (2.0, -84.0, 6.0), 22.0, (1.2, 1.2)),
)


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """Anatomy on a grid.

    Parameters
    ----------
    affine : (4, 4) array
        Voxel index to mm.
    tissue : (I, J, K) int array
        0 outside, else `CSF`, `GREY`, `WHITE`.
    mean : (I, J, K) array
        Signal at rest; zero outside the brain.
    """

    affine: FloatArray
    tissue: NDArray[np.int8]
    mean: FloatArray

    @property
    def brain(self) -> NDArray[np.bool_]:
        """Voxels inside the brain."""
        return self.tissue > 0

    @property
    def millimetres(self) -> FloatArray:
        """Position of every voxel, (3, I, J, K)."""
        return _millimetres(self.tissue.shape, self.affine)


def head(shape: Sequence[int] = (26, 30, 24)) -> Phantom:
    """Brain of MNI size on an isotropic grid of this shape.

    Parameters
    ----------
    shape : sequence of 3 int
        The voxel size follows from it: the default gives 6.5 mm.
    """
    i, j, k = (int(n) for n in shape)
    size = max(fov / n for fov, n in zip(FIELD_OF_VIEW, (i, j, k)))
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = np.array(CENTRE) - size * (np.array([i, j, k]) - 1) / 2
    where = _millimetres((i, j, k), affine)
    tissue = _tissue(where)
    contrast = sum(value * (tissue == kind) for kind, value in INTENSITY.items())
    # coils receive less from the middle of the head; partial volume blurs the tissue edges
    coil = 1.0 + 0.15 * (_radius(where, CENTRE, HALF_AXES) - 0.5)
    blurred = gaussian_filter(contrast * coil, 0.6) / np.maximum(gaussian_filter((tissue > 0).astype(float), 0.6), 1e-6)
    return Phantom(affine=affine, tissue=tissue, mean=np.where(tissue > 0, blurred, 0.0))


def effect_maps(phantom: Phantom, blobs: Sequence[Blob] = BLOBS) -> FloatArray:
    """Percent signal change of every condition, (condition, I, J, K); blobs add where they overlap."""
    maps = np.zeros((len(CONDITIONS), *phantom.tissue.shape))
    for blob in blobs:
        offset = phantom.millimetres - np.reshape(blob.centre, (3, 1, 1, 1))
        distance = np.sqrt((offset**2).sum(axis=0)) / blob.radius
        # 1 up to 0.7 radii, 1/2 at the radius, 0 from 1.3 radii on
        edge = np.cos(np.pi / 2 * np.clip((distance - 0.7) / 0.6, 0.0, 1.0)) ** 2
        maps += np.multiply.outer(np.array(blob.percent), np.where(distance < 1.3, edge, 0.0))
    return np.where(phantom.brain, maps, 0.0)


def active(effect: FloatArray) -> NDArray[np.bool_]:
    """Voxels with at least half of the map's largest absolute effect; what a good analysis should find."""
    size = np.abs(effect)
    peak = size.max(initial=0.0)
    return np.asarray((size >= peak / 2) & (peak > 0))


def _tissue(where: FloatArray) -> NDArray[np.int8]:
    radius = _radius(where, CENTRE, HALF_AXES)
    x, y, z = where
    # folds: the inner surface of the cortex is wavy, about 25 mm from crest to crest
    folds = 0.05 * (np.sin(x / 4) + np.sin(y / 4) + np.sin(z / 4))
    tissue = np.where(radius > 0.80 + folds, GREY, WHITE)
    for side in (-13.0, 13.0):
        tissue[_radius(where, (side, -20.0, 16.0), (9.0, 30.0, 11.0)) < 1] = CSF
        tissue[_radius(where, (2 * side, -4.0, 4.0), (8.0, 14.0, 10.0)) < 1] = GREY
    tissue[radius > 1] = 0
    return tissue.astype(np.int8)


def _radius(where: FloatArray, centre: Sequence[float], half_axes: Sequence[float]) -> FloatArray:
    scaled = (where - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(half_axes, (3, 1, 1, 1))
    return np.asarray(np.sqrt((scaled**2).sum(axis=0)))


def _millimetres(shape: Sequence[int], affine: FloatArray) -> FloatArray:
    index = np.indices(tuple(shape), dtype=float)
    return np.asarray(np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1))
