"""The xarray accessor ``.vx``."""

from __future__ import annotations

from typing import Any

import xarray as xr


@xr.register_dataarray_accessor("vx")  # type: ignore[no-untyped-call]
class VoxelAccessor:
    """Verbs of a DataArray over voxels, as ``stat.vx.to_nifti()``."""

    def __init__(self, data: xr.DataArray) -> None:
        self._data = data

    def to_nifti(self, *, fill: float = 0.0, dtype: Any = "float32") -> Any:
        """Image of this array; see `voxloom.to_nifti`."""
        # imported here because importing either of the two modules must register the accessor
        from voxloom.io.nifti.images import to_nifti

        return to_nifti(self._data, fill=fill, dtype=dtype)
