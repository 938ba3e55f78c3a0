"""Axial slices of a head in any voxel order, and outlines of regions on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from voxloom.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.report.overview import GroupPicture

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

nib: Any = nibabel  # its functions carry no types

#: Axial slices of the montage, and its rows.
SLICES, ROWS = 18, 2


@dataclass(frozen=True, kw_only=True)
class View:
    """The maps in the order left to right, back to front, bottom to top, cut to the brain.

    Parameters
    ----------
    background, z : (I, J, K) array
    found, active : (I, J, K) bool array
        Significant voxels, and those active in truth where that is known.
    affine : (4, 4) array
        Voxel index of the cut volume to mm.
    slices : list of int
        Indices along the last axis to draw; those with less than a tenth of the largest area are left out.
    white : float
        Background value that is drawn white.
    """

    background: FloatArray
    z: FloatArray
    found: BoolArray
    active: BoolArray | None
    affine: FloatArray
    slices: list[int]
    white: float

    @classmethod
    def of(cls, picture: GroupPicture) -> View:
        """View of a picture's maps.

        Raises
        ------
        InputError
            The z map is empty.
        """
        turn = nib.orientations.io_orientation(picture.affine)

        def turned(array: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(nib.orientations.apply_orientation(array, turn))

        z, background = turned(picture.z), turned(picture.background)
        brain = np.isfinite(z)
        if not brain.any():
            raise InputError("overview", "the z map has no finite voxel.")
        cut = tuple(slice(max(0, low - 1), high + 2) for low, high in _extent(brain))
        affine = picture.affine @ nib.orientations.inv_ornt_aff(turn, picture.z.shape)
        affine = affine @ nib.affines.from_matvec(np.eye(3), [part.start for part in cut])
        brain = brain[cut]
        area = brain.sum(axis=(0, 1))
        shown = np.flatnonzero(area > area.max() / 10)
        step = -(-shown.size // SLICES)
        return cls(
            background=background[cut],
            z=z[cut],
            found=turned(np.nan_to_num(picture.p_fwe, nan=1.0) <= picture.alpha)[cut],
            active=None if picture.active is None else turned(picture.active)[cut],
            affine=affine,
            slices=shown[(shown.size - 1) % step // 2 :: step].tolist(),
            # mid grey under the overlay, so that pale colours still show
            white=1.8 * float(np.percentile(background[cut][brain], 90)),
        )

    @property
    def frame(self) -> dict[str, Any]:
        """Arguments of imshow: the slice plane in mm, so that voxels keep their proportions."""
        (i, j), (x, y, _) = self.z.shape[:2], nib.affines.voxel_sizes(self.affine)
        return {"origin": "lower", "interpolation": "nearest", "extent": (0, i * x, 0, j * y)}

    def height(self, k: int) -> float:
        """Millimetres of slice `k` at the middle of the plane."""
        i, j = (n / 2 for n in self.z.shape[:2])
        return float(nib.affines.apply_affine(self.affine, (i, j, k))[2])


def _extent(mask: BoolArray) -> list[tuple[int, int]]:
    """First and last index that the mask reaches, per axis."""
    reached = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [(int(index[0]), int(index[-1])) for index in reached]


def outline(axis: Any, mask: BoolArray, view: View, colour: str, width: float) -> None:
    """Draw the edges between voxels inside and outside, in the coordinates of `view.frame`."""
    from matplotlib.collections import LineCollection

    x, y, _ = nib.affines.voxel_sizes(view.affine)
    padded = np.pad(mask, 1)
    across = [((i, j), (i, j + 1)) for i, j in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])]
    along = [((i, j), (i + 1, j)) for i, j in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])]
    edges = np.array(across + along, dtype=float).reshape(-1, 2, 2) * (x, y)
    axis.add_collection(LineCollection(list(edges), colors=colour, linewidths=width, capstyle="round"))
