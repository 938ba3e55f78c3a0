"""Maps as a page carries them: cut to their voxels, turned left to right, a gzipped NIfTI in base64."""

from __future__ import annotations

import base64
import gzip
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from voxloom.schema import grid_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import DTypeLike, NDArray

nib: Any = nibabel  # its functions carry no types
#: Bytes of a NIfTI-1 header with its four of no extension; where the values begin.
OFFSET = 352
#: Voxels of air around the brain, so that no slice touches the edge of its picture.
MARGIN = 1


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One map for the page.

    Counts are kept as they are. Other values are integers times `step`, at most half a step off: of the 32,767 steps of
    an int16 the largest value has at least 13,000, so 3 digits are right down to a twentieth of it. Compressed that
    takes 1.9 bytes a voxel, where float32 takes 3.8.

    Parameters
    ----------
    id : str
        Of its element on the page.
    shape : tuple of 3 int
        After the cut; axes run to the right, the front and the top.
    affine : list of 4 lists of 4 float
        Voxel index to mm.
    step : float
    largest : float
        Largest absolute value; 0 where there is none.
    data : str
        The file, in base64.
    """

    id: str
    shape: tuple[int, int, int]
    affine: list[list[float]]
    step: float
    largest: float
    data: str

    @property
    def facts(self) -> dict[str, Any]:
        """All but the data."""
        return {"id": self.id, "shape": self.shape, "affine": self.affine, "step": self.step, "largest": self.largest}


def volume_of(id: str, map: xr.DataArray, dtype: DTypeLike = np.int16) -> Volume:
    """Pack a map.

    Parameters
    ----------
    id : str
    map : DataArray
        ``(voxel)`` with a grid; NaN becomes 0, as outside.
    dtype : dtype
        Integers to keep it in.

    Raises
    ------
    InputError
        The map has no grid.
    """
    values = np.nan_to_num(np.asarray(map.to_numpy(), dtype=np.float64), posinf=0.0, neginf=0.0)
    largest = float(np.abs(values).max(initial=0.0))
    steps = np.iinfo(np.dtype(dtype)).max
    is_count = largest <= steps and bool((values == np.rint(values)).all())
    step = 1.0 if is_count else step_of(largest, steps)
    cut, affine = cut_of(map, np.rint(values / step).astype(dtype))
    return Volume(
        id=id,
        shape=(cut.shape[0], cut.shape[1], cut.shape[2]),
        affine=affine.tolist(),
        step=step,
        largest=largest,
        data=base64.b64encode(nifti_bytes(cut, affine, step)).decode(),
    )


def step_of(largest: float, steps: int) -> float:
    """Smallest of 1, 2, 5 times a power of ten of which so many steps reach the largest value."""
    power = 10.0 ** math.floor(math.log10(largest / steps))
    return float(next(f"{digit * power:.6g}" for digit in (1, 2, 5, 10) if digit * power * steps >= largest))


def cut_of(map: xr.DataArray, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The box around the voxels of a map, in the order left to right, back to front, bottom to top; and its affine."""
    grid, voxel = grid_of(map), map["voxel"].to_numpy()
    ijk = np.stack(np.unravel_index(voxel, grid.shape))
    low, high = np.maximum(ijk.min(axis=1) - MARGIN, 0), np.minimum(ijk.max(axis=1) + MARGIN + 1, grid.shape)
    box = np.zeros(high - low, values.dtype)
    box[tuple(ijk - low[:, np.newaxis])] = values
    affine = grid.matrix @ nib.affines.from_matvec(np.eye(3), low)
    turn = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(box, turn)
    return np.asarray(turned), np.asarray(affine @ nib.orientations.inv_ornt_aff(turn, box.shape))


def nifti_bytes(values: NDArray[Any], affine: NDArray[np.float64], step: float) -> bytes:
    """A gzipped NIfTI-1 of integers times a step; the same bytes for the same map."""
    header = nib.Nifti1Header()
    header.set_data_shape(values.shape)
    header.set_data_dtype(values.dtype)
    header.set_sform(affine, code="aligned")
    header.set_qform(affine, code="aligned", strip_shears=True)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = step, 0
    header["vox_offset"], header["magic"] = OFFSET, b"n+1"
    raw = header.binaryblock + bytes(OFFSET - len(header.binaryblock)) + values.tobytes(order="F")
    return gzip.compress(raw, 9, mtime=0)
