"""Where a study's voxels lie in the volumes of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import GridError
from voxloom.io.nifti.volumes import read_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.io.nifti.stream import FilePath
    from voxloom.io.study.open import Study


class Selection(NamedTuple):
    """Where the study's voxels lie in a volume as it is in the file (Fortran order)."""

    in_mask: NDArray[np.bool_]  # (V,) of the study's voxels: inside the run's mask
    source: NDArray[np.uintp]  # (V,) positions of the study's voxels, ascending
    place: NDArray[np.uintp]  # (V,) their numbers on the study's axis
    outside: NDArray[np.intp]  # study voxels outside the run's mask
    run_voxels: NDArray[np.intp]  # positions of all of the run's own voxels
    n_outside: int  # voxels of the run's mask that the study does not have


def select_voxels(study: Study, mask: FilePath | NDArray[np.bool_] | None) -> Selection:
    """Match the study's voxel axis with a run's mask."""
    grid = study.grid
    if mask is None:
        chosen = study.mask
    elif isinstance(mask, np.ndarray):
        chosen = mask
        if mask.shape != grid.shape:
            raise GridError("mask", f"has shape {mask.shape}, but the study's grid has {grid.shape}.")
    else:
        chosen, mask_grid = read_mask(mask)
        grid.require(mask_grid, str(mask))
    in_mask = chosen.reshape(-1)[study.voxel]
    wanted, number = study.mask, np.empty(grid.shape, np.uintp)
    number.reshape(-1)[study.voxel] = np.arange(study.voxel.size)
    return Selection(
        in_mask=in_mask,
        source=np.flatnonzero(wanted.T).astype(np.uintp),
        place=number.T[wanted.T],
        outside=np.flatnonzero(~in_mask),
        run_voxels=np.flatnonzero(chosen.reshape(-1, order="F")),
        n_outside=int(np.count_nonzero(chosen)) - int(np.count_nonzero(in_mask)),
    )
