"""Where the voxels of a map lie in a volume, so that neighbours are found by a fixed step."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Neighbours that differ in at most so many of the three indices.
AXES_APART = {6: 1, 18: 2, 26: 3}


class Neighbourhood(NamedTuple):
    """Voxels of a map as cells of a box with one empty shell around them, which no step leaves.

    Attributes
    ----------
    cell : (V,) array of int32
        Place of each voxel in the flat box.
    steps : (6, 18 or 26,) array of int32
        From a cell to its neighbours.
    n_cells : int
    """

    cell: NDArray[np.int32]
    steps: NDArray[np.int32]
    n_cells: int


def neighbourhood(voxel: NDArray[np.integer], shape: Sequence[int], connectivity: int) -> Neighbourhood:
    """Lay the voxels of a map out for the search of neighbours.

    Parameters
    ----------
    voxel : (V,) array of int
        Flat C-order indices, each once, in any order.
    shape : 3 int
        Of the volume.
    connectivity : 6, 18 or 26
        Neighbours share a face; or an edge too; or a corner too.

    Notes
    -----
    The box is the smallest around the voxels, 4 bytes a cell. A table of neighbours, 24 bytes a voxel at 6 of them and
    104 at 26, made `component_tree.grow` a tenth slower.
    """
    ijk = np.stack(np.unravel_index(voxel, tuple(shape)))
    if not ijk.size:
        return Neighbourhood(np.empty(0, np.int32), np.empty(0, np.int32), 0)
    first = ijk.min(axis=1)
    box = ijk.max(axis=1) - first + 3
    stride = np.array([box[1] * box[2], box[2], 1])
    cell = stride @ (ijk - first[:, np.newaxis] + 1)
    offsets = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    apart = np.abs(offsets).sum(axis=1)
    steps = offsets[(apart > 0) & (apart <= AXES_APART[connectivity])] @ stride
    return Neighbourhood(cell.astype(np.int32), steps.astype(np.int32), int(box.prod()))
