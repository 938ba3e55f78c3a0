"""Images in and out: the voxels of a mask become the rows of a Dataset, and maps become images again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import nibabel as nib
import numpy as np
import xarray as xr

from voxloom.errors import InputError
from voxloom.io.nifti.images import from_nifti, to_nifti
from voxloom.io.nifti.write import make_image
from voxloom.schema import Grid, grid_of, voxel_coords

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

    Image = str | PathLike[str] | nib.nifti1.Nifti1Pair


def require_no_resampling(target_affine: Any, target_shape: Any) -> None:
    """Raise `InputError` where images are to be resampled."""
    if target_affine is not None or target_shape is not None:
        raise InputError(
            "target_affine, target_shape",
            "would resample images, which voxloom never does.",
            "Resample them before (nilearn.image.resample_img), and leave both out.",
        )


def mask_of(given: Any) -> Any:
    """The mask of a masker, ours or nilearn's; anything else as it is."""
    return getattr(given, "mask_img_", getattr(given, "mask_img", given))


class Masked:
    """What a fitted model says of its voxels."""

    masker_: Masker

    @property
    def mask_img_(self) -> Any:
        """The mask as an image."""
        return self.masker_.mask_img_

    @property
    def n_elements_(self) -> int:
        """Number of voxels in the mask."""
        return int(self.masker_.coords["voxel"][1].size)


class Masker:
    """Voxels of a mask: images in, values out, and back; the part of nilearn's NiftiMasker that results need.

    Parameters
    ----------
    mask_img : path or image, optional
        By default the voxels of the first images that are finite in all of them and not 0 in some.
    """

    def __init__(self, mask_img: Any = None) -> None:
        self.mask_img = mask_of(mask_img)
        self._coords: dict[str, Any] | None = None

    @property
    def mask_img_(self) -> Any:
        """The mask as an image."""
        coords = self.coords
        one = xr.DataArray(np.ones(coords["voxel"][1].size, np.uint8), dims="voxel", coords=coords)
        return to_nifti(one, dtype="uint8")

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of maps over the mask's voxels."""
        if self._coords is None:
            if self.mask_img is None:
                raise InputError("mask_img", "is not known before images are.", "Pass one, or fit first.")
            self.fit()
        return cast("dict[str, Any]", self._coords)

    def fit(self, imgs: Any = None) -> Masker:
        """Learn the voxels: of the mask, or where there is none, of images."""
        if self._coords is None:
            source = self.mask_img if self.mask_img is not None else imgs
            found = from_nifti(source if is_many(source) else [source], self._mask(), dim="map")
            self.adopt(found)
        return self

    def adopt(self, maps: xr.Dataset | xr.DataArray) -> None:
        """Take the voxels of maps for those of the mask."""
        self._coords = voxel_coords(grid_of(maps), np.asarray(maps["voxel"]))

    def maps(self, imgs: Any) -> xr.Dataset:
        """``effect(map, voxel)`` of images: a list of 3-D ones, or a 4-D one."""
        images = imgs if is_many(imgs) else [imgs]
        if not len(images):
            raise InputError("images", "the list is empty.", "Give at least one image.")
        found = from_nifti(images if len(images) > 1 else images[0], self._mask(), dim="map")
        self.adopt(found)
        return found

    def one(self, img: Any) -> xr.DataArray:
        """``(voxel)`` of one 3-D image.

        Raises
        ------
        InputError
            It has several volumes.
        """
        found = self.maps(img)["effect"]
        if found.sizes["map"] > 1:
            raise InputError("image", f"has {found.sizes['map']} volumes.", "One map is wanted, a 3-D image.")
        return found.isel(map=0, drop=True)

    def _mask(self) -> Any:
        if self._coords is None:
            return self.mask_img
        grid = Grid.from_attrs(self._coords["grid"].attrs)
        inside = np.zeros(int(np.prod(grid.shape)), np.uint8)
        inside[self._coords["voxel"][1]] = 1
        return make_image(inside.reshape(grid.shape), grid)

    def transform(self, imgs: Any) -> NDArray[Any]:
        """Values (voxels,) of a 3-D image, (images, voxels) of a 4-D one or a list."""
        values = self.maps(imgs)["effect"].to_numpy()
        one = not is_many(imgs) and len(load(imgs).shape) == 3
        return np.asarray(values[0] if one else values)

    fit_transform = transform

    def inverse_transform(self, values: ArrayLike) -> Any:
        """Image of values (voxels,), or (images, voxels) as a 4-D one."""
        values = np.asarray(values)
        dims = ("voxel",) if values.ndim == 1 else ("map", "voxel")
        return self.image(xr.DataArray(values, dims=dims))

    def image(self, data: xr.DataArray) -> Any:
        """Image of an array over the mask's voxels."""
        return to_nifti(data.drop_vars([name for name in data.coords if name != "map"]).assign_coords(self.coords))


def is_many(imgs: Any) -> bool:
    """Whether this is a sequence of images rather than one."""
    return isinstance(imgs, Sequence | np.ndarray) and not isinstance(imgs, str)


def load(img: Any) -> Any:
    """An image of a path or image.

    Raises
    ------
    InputError
        It is neither, or there is no such file.
    """
    if isinstance(img, str | Path):
        if not Path(img).is_file():
            raise InputError(str(img), "there is no such file.", "Check the path.")
        return nib.load(img)
    if hasattr(img, "dataobj") and hasattr(img, "affine"):
        return img
    raise InputError("image", f"is a {type(img).__name__}.", "Wanted: a path or a NIfTI image.")
