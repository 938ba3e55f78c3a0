"""What the header of an image says, whatever its format."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError, VoxloomWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.schema import Grid


@dataclass(frozen=True, kw_only=True)
class NiftiInfo:
    """What the header of a NIfTI or Analyze image says.

    Parameters
    ----------
    path : str
        Of the data, where header and data are two files.
    shape : tuple of int
        3-D or more; axes of length 1 past the third are dropped at the end.
    grid : Grid
    dtype : dtype
        Of the stored values, in the file's byte order.
    slope, inter : float
        Physical value = slope * stored + inter; 1 and 0 where the header gives none.
    t_r : float or None
        Repetition time in s; None where the header gives none.
    header_bytes : bytes
        Header and extensions: everything before the data, or the whole header file of a pair.
    pair_offset : int or None
        Bytes before the data in the image file of a pair; None where all is in one file.
    assumed : str
        What the header leaves open and how it was taken; empty where it says all.
    """

    path: str
    shape: tuple[int, ...]
    grid: Grid
    dtype: np.dtype[Any]
    slope: float
    inter: float
    t_r: float | None
    header_bytes: bytes
    pair_offset: int | None = None
    assumed: str = ""

    @property
    def n_volumes(self) -> int:
        """Volumes in the file."""
        return int(np.prod(self.shape[3:], dtype=int))

    @property
    def data_offset(self) -> int:
        """Bytes before the data, in the file that has them."""
        return len(self.header_bytes) if self.pair_offset is None else self.pair_offset

    @property
    def is_scaled(self) -> bool:
        """Whether stored values differ from physical ones."""
        return (self.slope, self.inter) != (1.0, 0.0)

    def physical(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """``slope * raw + inter`` in float64."""
        return scale(raw, self.slope, self.inter)

    def warn(self) -> None:
        """Give a `VoxloomWarning` that says what was assumed, if anything."""
        if self.assumed:
            warnings.warn(f"{self.path}: {self.assumed}", VoxloomWarning, stacklevel=3)

    def require_4d(self) -> None:
        """Raise `InputError` unless the file is one series of volumes."""
        if len(self.shape) != 4:
            raise InputError(
                self.path,
                f"has shape {self.shape}, but a 4-D series of volumes is wanted.",
                "Give the BOLD series; a list of 3-D files is read as maps.",
            )


def scale(raw: NDArray[Any], slope: float, inter: float) -> NDArray[np.float64]:
    """``slope * raw + inter`` in float64, exactly `raw` where they are 1 and 0."""
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and huge floats stay what they are
        values = raw.astype(np.float64)
        if slope != 1.0:
            values *= slope
        if inter != 0.0:
            values += inter
    return values
