"""Peaks of a cluster, by nilearn's rule: local maxima some distance apart, from the highest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


#: Decimals of a distance in voxels that tell one from another: ties are ties wherever the cluster lies.
DECIMALS = 6


def peaks(ijk: IntArray, height: FloatArray, affine: FloatArray, min_distance: float) -> IntArray:
    """Local maxima of a cluster, the highest first, each further than `min_distance` from those kept before it.

    Parameters
    ----------
    ijk : (n, 3) array of int
        Voxels of the cluster.
    height : (n,) array
        Positive.
    affine : (4, 4) array
        Voxel index to mm.
    min_distance : float
        In mm.

    Returns
    -------
    (m,) array of int
        Which of the voxels.
    """
    corner = ijk.min(axis=0) - 1
    box = np.zeros(ijk.max(axis=0) - corner + 2)
    place = tuple((ijk - corner).T)
    box[place] = height
    number = np.full(box.shape, -1)
    number[place] = np.arange(len(ijk))
    found = number[tuple(_local_maxima(box).T)]
    found = found[np.argsort(-height[found], kind="stable")]
    return _apart(found, ijk[found] @ affine[:3, :3].T, min_distance)


def _local_maxima(box: FloatArray) -> IntArray:
    """Voxels that none of 26 neighbours exceeds, (m, 3); of touching equal ones the one nearest to their centre."""
    is_peak = (box > 0) & (box == ndimage.maximum_filter(box, 3))
    inside = box[box > 0]
    if not np.isclose(inside.max(), inside.min()):
        is_peak &= box > ndimage.minimum_filter(box, 3)  # the inside of a plateau is no peak
    plateau, n = ndimage.label(is_peak)
    places = np.argwhere(is_peak)
    member = plateau[is_peak]
    centres = np.asarray(ndimage.center_of_mass(is_peak, plateau, np.arange(1, n + 1)))
    distance = np.linalg.norm(places - centres[member - 1], axis=1)
    order = np.lexsort([distance.round(DECIMALS), member])  # of equals the first voxel
    return np.asarray(places[order][np.unique(member[order], return_index=True)[1]])


def _apart(found: IntArray, xyz: FloatArray, min_distance: float) -> IntArray:
    kept: list[int] = []
    for i in range(len(found)):
        if np.all(np.linalg.norm(xyz[kept] - xyz[i], axis=1) > min_distance):
            kept.append(i)
    return np.asarray(found[kept])
