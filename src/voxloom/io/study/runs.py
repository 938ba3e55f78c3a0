"""A run in the store: what is kept with it, and its voxels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from voxloom.errors import StoreError
from voxloom.io.nifti.info import scale
from voxloom.io.store.access import get_attrs, open_array, read_voxels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.io.store.access import Objects

#: Key of voxloom's own attributes in a group; its presence says that the group is complete.
ATTRS = "voxloom"
#: What parts the name of a smoothed or rounded version from the name of its run.
_MADE = re.compile("_(?:smooth|error)-")


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What is kept with a run besides its voxels.

    Parameters
    ----------
    id : str
    attrs : dict
        As `voxloom.io.study.ingest.write_run` left them.
    confounds : DataFrame or None
        One row per volume.
    sample_mask : (T,) bool array
        Volumes to use.
    """

    id: str
    attrs: dict[str, Any]
    confounds: pd.DataFrame | None
    sample_mask: NDArray[np.bool_]

    @property
    def n_volumes(self) -> int:
        """Volumes."""
        return int(self.attrs["n_volumes"])

    @property
    def n_voxels(self) -> int:
        """Voxels of the study's axis."""
        return int(self.attrs["n_voxels"])

    @property
    def itemsize(self) -> int:
        """Bytes of a stored value."""
        return int(np.dtype(self.attrs["dtype"]).itemsize)

    @property
    def is_scaled(self) -> bool:
        """Whether stored values differ from physical ones."""
        return (self.attrs["slope"], self.attrs["inter"]) != (1.0, 0.0)

    @property
    def t_r(self) -> float:
        """Repetition time in s."""
        return float(self.attrs["t_r"])

    @property
    def entities(self) -> dict[str, Any]:
        """BIDS entities."""
        return dict(self.attrs["entities"])

    @property
    def components(self) -> dict[str, str | None] | None:
        """CompCor components of the confounds with their masks; None where the table had no sidecar."""
        found = self.attrs.get("components")
        return None if found is None else dict(found)

    @property
    def digest(self) -> str:
        """Digest of the run's voxels and of all that is kept with them."""
        return str(self.attrs["digest"])

    @property
    def events(self) -> pd.DataFrame | None:
        """Events, as they were given."""
        columns = self.attrs["events"]
        if columns is None:
            return None
        # None, where a number is missing, becomes NaN; text stays text
        return pd.DataFrame(columns).infer_objects()


def raw_bytes(n_voxels: int, n_volumes: int, itemsize: int, n_confounds: int) -> int:
    """Bytes of the numbers of a run's arrays, uncompressed: what `voxloom.io.study.ingest.write_run` writes.

    ``bold``, ``mean`` and ``tsnr`` (float32) and ``in_mask`` over voxels; ``time``, ``sample_mask`` and
    ``confounds`` over volumes.
    """
    return n_voxels * (n_volumes * itemsize + 4 + 4 + 1) + n_volumes * (8 + 1 + 8 * n_confounds)


def stored_name(run: str, *, smooth: float | None, error: float | None) -> str:
    """Name of a version of a run: smoothed, rounded, both, or as it is."""
    made = {"smooth": smooth, "error": error}
    return run + "".join(f"_{how}-{x:g}".replace(".", "p") for how, x in made.items() if x)


def run_of(stored: str) -> str:
    """Name of the run that `stored` is a version of; undoes `stored_name`."""
    return _MADE.split(stored, maxsplit=1)[0]


def members(objects: Objects, group: str) -> list[str]:
    """Names of the groups and arrays right below a group."""
    return [name for name in objects.children(group) if name != "zarr.json"]


def run_attrs(objects: Objects, run_id: str) -> dict[str, Any]:
    """Read the attributes of a complete run.

    Raises
    ------
    StoreError
        There is none of this name; the message gives the nearest.
    """
    attrs = (get_attrs(objects, f"runs/{run_id}") or {}).get(ATTRS)
    if attrs is None:
        near = get_close_matches(run_id, members(objects, "runs"), n=3)
        raise StoreError(
            objects.url,
            f"holds no complete run {run_id!r}.",
            f"Nearest: {', '.join(near)}." if near else "Ingest it first.",
        )
    return dict(attrs)


def read_run(objects: Objects, run_id: str) -> Run:
    """Read what is kept with a run besides its voxels.

    Raises
    ------
    StoreError
        There is no such run.
    """
    attrs, confounds = run_attrs(objects, run_id), None
    if attrs["confounds"]:
        values = np.asarray(open_array(objects, f"runs/{run_id}/confounds")[...])
        confounds = pd.DataFrame(values, columns=list(attrs["confounds"]))
    sample_mask = np.asarray(open_array(objects, f"runs/{run_id}/sample_mask")[...])
    return Run(id=run_id, attrs=attrs, confounds=confounds, sample_mask=sample_mask)


def read_bold(
    objects: Objects, run_id: str, voxels: slice, *, raw: bool = False, volumes: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """Read a stretch of a run's voxels: (voxel, time).

    Parameters
    ----------
    voxels : slice
        Of the study's voxel axis; whole shards are read fastest.
    raw : bool
        The stored values in their own data type instead of ``slope * stored + inter`` in float64.
    volumes : array of int, optional
        Volumes to return; all of them are read, for a chunk holds all times.

    Raises
    ------
    CorruptionError
        A shard is missing or does not match its checksums.
    """
    stored = read_voxels(objects, f"runs/{run_id}/bold", voxels)
    if volumes is not None and len(volumes) < stored.shape[1]:
        stored = stored[:, volumes]
    if raw:
        return stored
    attrs = run_attrs(objects, run_id)
    return scale(stored, attrs["slope"], attrs["inter"])
