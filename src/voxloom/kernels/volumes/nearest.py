"""Nearest neighbour: a volume's values at the voxels of another grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Decimals kept of a voxel index before it is rounded: a centre on an edge falls to the same side on every machine.
DECIMALS = 6


def nearest(
    volume: NDArray[Any], affine: NDArray[np.float64], shape: tuple[int, int, int], onto: NDArray[np.float64]
) -> NDArray[Any]:
    """Value of the voxel of `volume` that the centre of each voxel of another grid lies in.

    Parameters
    ----------
    volume : (I, J, K) array
    affine : (4, 4) array
        Voxel index of `volume` to mm.
    shape : tuple of 3 int
        Of the other grid.
    onto : (4, 4) array
        Voxel index of the other grid to mm.

    Returns
    -------
    array of `shape`
        In the type of `volume`; 0 where the centre lies in none of its voxels. A centre on an edge between two
        voxels takes the one with the higher index.
    """
    across = np.linalg.inv(affine) @ onto
    jk = np.indices(shape[1:]).reshape(2, -1)
    found = np.zeros((shape[0], jk.shape[1]), volume.dtype)
    for i, row in enumerate(found):  # a slab at a time: indices of a whole volume would take 24 bytes a voxel
        centres = across[:3, 1:3] @ jk + (across[:3, :1] * i + across[:3, 3:])
        index = np.floor(np.round(centres, DECIMALS) + 0.5).astype(np.intp)
        inside = ((index >= 0) & (index < np.array(volume.shape)[:, None])).all(axis=0)
        row[inside] = volume[tuple(index[:, inside])]
    return found.reshape(shape)
