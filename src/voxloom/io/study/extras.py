"""What comes with a run besides its image: times, events, confounds, entities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from voxloom.errors import InputError
from voxloom.io.store.access import put_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from voxloom.io.nifti.info import NiftiInfo
    from voxloom.io.store.access import Objects


class Extras(NamedTuple):
    """What is kept with the voxels of a run, checked against its image."""

    t_r: float  # s
    n_volumes: int
    sample_mask: NDArray[np.bool_]  # (T,)
    events: dict[str, list[Any]] | None
    confounds: pd.DataFrame | None
    components: dict[str, str | None] | None
    entities: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """Columns of the confounds."""
        return [] if self.confounds is None else [str(name) for name in self.confounds.columns]

    @property
    def arrays(self) -> set[str]:
        """Arrays that `write_extras` makes."""
        return {"time", "sample_mask"} | ({"confounds", "name"} if self.confounds is not None else set())


def check_extras(
    info: NiftiInfo,
    t_r: float | None,
    events: pd.DataFrame | None,
    confounds: pd.DataFrame | None,
    components: Mapping[str, str | None] | None,
    entities: Mapping[str, Any] | None,
    sample_mask: NDArray[np.bool_] | None,
) -> Extras:
    """Check what comes with a run against its header, before the image is decoded.

    Raises
    ------
    InputError
        No repetition time, or confounds or sample mask of another length than the image.
    """
    t_r, n = info.t_r if t_r is None else float(t_r), info.n_volumes
    if t_r is None or not t_r > 0:
        raise InputError(
            info.path,
            "its header gives no repetition time.",
            "Give RepetitionTime in the sidecar, or t_r, in seconds.",
        )
    sample_mask = np.ones(n, bool) if sample_mask is None else np.asarray(sample_mask, bool)
    lengths = {"confounds": n if confounds is None else len(confounds), "sample mask": len(sample_mask)}
    for name, rows in lengths.items():
        if rows != n:
            raise InputError(info.path, f"has {n} volumes, but the {name} {rows} rows.", "Give one row per volume.")
    return Extras(
        t_r=t_r,
        n_volumes=n,
        sample_mask=sample_mask,
        events=None if events is None else _columns(events),
        confounds=None if confounds is None or confounds.shape[1] == 0 else confounds,
        components=None if components is None else dict(components),
        entities=dict(entities or {}),
    )


def _columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Turn a table into JSON-able columns; None where a value is missing."""
    return {
        str(name): [None if pd.isna(x) else x for x in table[name].astype(object).tolist()] for name in table.columns
    }


def write_extras(objects: Objects, path: str, extras: Extras) -> int:
    """Write the arrays of `extras` below a run's group; return the raw bytes of their numbers."""
    time = extras.t_r * np.arange(extras.n_volumes)
    written = put_array(objects, f"{path}/time", ["time"], time, attrs={"units": "s"})
    written += put_array(objects, f"{path}/sample_mask", ["time"], extras.sample_mask)
    if extras.confounds is not None:
        numbers = extras.confounds.to_numpy(dtype=np.float64)
        written += put_array(objects, f"{path}/confounds", ["time", "name"], numbers)
        written += put_array(objects, f"{path}/name", ["name"], extras.names)
    return written
