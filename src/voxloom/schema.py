"""Dims, variables and units of every Dataset, the grid they live on, and how voxels are chunked.

A map is one value per voxel of the study's voxel axis; where a voxel lies in the volume is told by the
coordinate ``voxel`` (flat C-order index, the order of ``data[mask]``) and the scalar coordinate ``grid``,
whose attributes hold shape and affine. A scalar coordinate, as CF's grid mappings, survives selection
and arithmetic, where attributes of the Dataset would not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from voxloom.errors import GridError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Version of the store layout. A change that an older voxloom cannot read raises it.
SCHEMA_VERSION = 2

MiB = 2**20
#: Bytes that one task may use where nothing else is said.
MEMORY_BUDGET = 512 * MiB
#: Any task: Python objects, Zarr's threads, what the allocator keeps. Tasks of a few voxels take 0.2-1 MiB, those of
#: 40-260 MiB up to 7 MiB more than what is counted of their arrays.
TASK_OVERHEAD = 8 * MiB
#: Raw bytes of one chunk of BOLD, and of one shard: the unit of write, task and retry.
CHUNK_BYTES = 4 * MiB
SHARD_BYTES = 64 * MiB
#: Voxels of one shard of a map: the unit of the combine, group and infer stages.
MAP_SHARD_VOXELS = 65_536
MAP_CHUNK_VOXELS = 4_096
#: Maps in one chunk of the consolidated arrays that the group stage reads.
MAP_CHUNK_MAPS = 128

#: Affines equal within this many mm are the same grid (NIfTI keeps float32).
AFFINE_ATOL = 1e-3


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Shape and affine of a volume, and the name of its space.

    Parameters
    ----------
    shape : tuple of 3 int
    affine : tuple of 4 tuples of 4 float
        Voxel index to mm.
    space : str
        BIDS ``space`` entity; empty when unknown.
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    space: str = ""

    @classmethod
    def of(cls, shape: tuple[int, ...], affine: NDArray[Any], space: str = "") -> Grid:
        """Grid of a volume with this shape (first three axes count) and 4 x 4 affine."""
        i, j, k = (int(n) for n in shape[:3])
        rows = tuple(tuple(float(x) for x in row) for row in np.asarray(affine, dtype=float))
        return cls(shape=(i, j, k), affine=rows, space=space)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as a (4, 4) array."""
        return np.array(self.affine, dtype=float)

    @property
    def voxel_sizes(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel in mm."""
        i, j, k = np.sqrt((self.matrix[:3, :3] ** 2).sum(axis=0))
        return (float(i), float(j), float(k))

    def same_as(self, other: Grid) -> bool:
        """Whether shape and affine agree (affine within `AFFINE_ATOL` mm)."""
        return self.shape == other.shape and np.allclose(self.matrix, other.matrix, rtol=0, atol=AFFINE_ATOL)

    def require(self, other: Grid, where: str, remedy: str = "") -> None:
        """Raise `GridError` for the image `where` on grid `other` unless it is this grid."""
        if not self.same_as(other):
            raise GridError(
                where,
                f"grid of shape {other.shape}, voxels {np.round(other.voxel_sizes, 3).tolist()} mm and origin "
                f"{np.round(other.matrix[:3, 3], 3).tolist()}, but shape {self.shape}, voxels "
                f"{np.round(self.voxel_sizes, 3).tolist()} mm and origin "
                f"{np.round(self.matrix[:3, 3], 3).tolist()} is wanted.",
                remedy or "Resample the image to the wanted grid; voxloom never resamples silently.",
            )

    def to_attrs(self) -> dict[str, Any]:
        """JSON-able form, as kept in attributes."""
        return {
            "shape": list(self.shape),
            "affine": [list(row) for row in self.affine],
            "space": self.space,
        }

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> Grid:
        """Inverse of `to_attrs`."""
        return cls.of(tuple(attrs["shape"]), np.asarray(attrs["affine"], dtype=float), attrs.get("space", ""))


def voxel_coords(grid: Grid, voxel: NDArray[np.int64]) -> dict[str, Any]:
    """Coordinates every Dataset over voxels carries: ``voxel`` (flat C-order index) and ``grid``."""
    return {"voxel": ("voxel", voxel), "grid": xr.Variable((), np.int8(0), grid.to_attrs())}


def grid_of(data: xr.Dataset | xr.DataArray) -> Grid:
    """Grid of a Dataset or DataArray over voxels.

    Raises
    ------
    InputError
        Where the ``grid`` coordinate is missing.
    """
    if "grid" not in data.coords or "shape" not in data.coords["grid"].attrs:
        raise InputError(
            getattr(data, "name", None) or "Dataset",
            "has no `grid` coordinate, so its voxels have no place in a volume.",
            "Make it with voxloom.from_nifti or open it from a study.",
        )
    return Grid.from_attrs(data.coords["grid"].attrs)


@dataclass(frozen=True)
class Variable:
    """One variable of a schema: its dims, its unit, and whether it may be absent."""

    dims: tuple[str, ...]
    unit: str = ""
    optional: bool = False


SIGNAL, SIGNAL2 = "signal", "signal^2"
#: Every kind of Dataset that passes between the stages. `MAP` stands for the axis of maps: map, run, subject.
SCHEMAS: dict[str, dict[str, Variable]] = {
    "bold": {"bold": Variable(("voxel", "time"), SIGNAL)},
    "maps": {
        "effect": Variable(("map", "voxel"), SIGNAL),
        "variance": Variable(("map", "voxel"), SIGNAL2, optional=True),
    },
    "fit": {
        "beta": Variable(("regressor", "voxel"), SIGNAL),
        "sigma2": Variable(("voxel",), SIGNAL2),
        **{name: Variable(("voxel",), "1", optional=True) for name in ("rho", "ar", "ma")},
        **{f"phi_{k}": Variable(("voxel",), "1", optional=True) for k in range(1, 9)},
        "r_squared": Variable(("voxel",), "1", optional=True),
        "design": Variable(("time", "regressor")),
    },
    "group_fit": {
        "beta": Variable(("regressor", "voxel"), SIGNAL),
        "sigma2": Variable(("voxel",), SIGNAL2),
        "n": Variable(("voxel",), "maps"),
        "pattern": Variable(("voxel",)),
        "present": Variable(("pattern_id", "map")),
        "design": Variable(("map", "regressor")),
        "group": Variable(("map",), optional=True),
        "covariance": Variable(("regressor", "regressor_", "voxel"), SIGNAL2, optional=True),
        "variance_of_group": Variable(("variance_group", "voxel"), SIGNAL2, optional=True),
        "icc": Variable(("voxel",), "1", optional=True),
        "tau2": Variable(("voxel",), SIGNAL2, optional=True),
        "q": Variable(("voxel",), "1", optional=True),
        "dof": Variable(("voxel",), "1", optional=True),
    },
    "contrast": {
        "effect": Variable(("voxel",), SIGNAL, optional=True),
        "variance": Variable(("voxel",), SIGNAL2, optional=True),
        "stat": Variable(("voxel",), "1"),
        "z_score": Variable(("voxel",), "1"),
        "p_value": Variable(("voxel",), "1"),
        "dof": Variable(("voxel",), "1"),
    },
}


def validate(ds: xr.Dataset, kind: str, where: str = "Dataset") -> xr.Dataset:
    """Return `ds` when it is a Dataset of this kind.

    Parameters
    ----------
    ds : Dataset
    kind : str
        A key of `SCHEMAS`.
    where : str
        How the caller names it to the user.

    Raises
    ------
    InputError
        Names the first variable that is missing or has other dims.
    """
    for name, variable in SCHEMAS[kind].items():
        if name not in ds:
            if variable.optional:
                continue
            raise InputError(
                where,
                f"has no variable `{name}` ({', '.join(variable.dims)}); it has {sorted(map(str, ds.data_vars))}.",
                f"A Dataset of kind {kind!r} is wanted.",
            )
        if set(ds[name].dims) != set(variable.dims):
            raise InputError(
                where,
                f"`{name}` has dims {ds[name].dims}, but {variable.dims} is wanted.",
                "Rename or transpose it.",
            )
    return ds


@dataclass(frozen=True)
class ChunkRule:
    """Voxels per chunk and per shard of a BOLD array."""

    chunk: int
    shard: int


def bold_chunks(n_voxels: int, n_times: int, itemsize: int) -> ChunkRule:
    """Chunk = all of time x a power of two of voxels near 4 MiB; shard = up to 64 MiB raw.

    Measured on BOLD-like data: see docs/design/001-store.md.
    """
    row = max(1, n_times * itemsize)
    chunk = _power_of_two_below(CHUNK_BYTES / row)
    # a chunk never needs to be larger than the whole axis
    while chunk > 1 and chunk // 2 >= n_voxels:
        chunk //= 2
    per_shard = _power_of_two_below(SHARD_BYTES / (chunk * row))
    while per_shard > 1 and chunk * (per_shard // 2) >= n_voxels:
        per_shard //= 2
    return ChunkRule(chunk=chunk, shard=chunk * per_shard)


def _power_of_two_below(x: float) -> int:
    return int(2 ** np.floor(np.log2(x))) if x >= 1 else 1


def shard_slices(n_voxels: int, shard: int) -> list[slice]:
    """Slices that cut the voxel axis at shard edges, in order."""
    return [slice(start, min(start + shard, n_voxels)) for start in range(0, n_voxels, shard)]
