"""A run's fit in the store, ``fits/<fit digest>/<run>/``: make room for it, write a shard, read it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.engine.ledger import Ledger
from voxloom.io.store.arrays import create_array, open_array
from voxloom.io.store.regions import read_voxels, write_region, write_voxels
from voxloom.kernels.first_level.noise_models import NOISE_MODELS
from voxloom.schema import bold_chunks, shard_slices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from voxloom.io.store.objects import Objects
    from voxloom.pipeline.stages.design import RunDesign
    from voxloom.spec import FirstLevel

#: Per-voxel estimates beside ``beta``, by noise model.
PER_VOXEL = {name: ("sigma2", *model.parameters) for name, model in NOISE_MODELS.items()}


#: Share of the variance that a fit explains: kept beside the estimates, which do not need it.
EXPLAINED = "r_squared"


class StoredDesign(NamedTuple):
    """The design of a run: its rows are the kept volumes of `n_volumes`."""

    matrix: pd.DataFrame
    noise_model: str
    kept: NDArray[np.int64]
    n_volumes: int

    @property
    def left_out(self) -> list[int]:
        """Volumes that are not kept."""
        return sorted(set(range(self.n_volumes)) - set(self.kept.tolist()))


def make_room(
    objects: Objects, fit_path: str, design: RunDesign, n_voxels: int, itemsize: int, first_level: FirstLevel
) -> list[slice]:
    """Write the design and create the arrays of a fit, cut at the shards of the run's BOLD; return the cuts.

    Where a fit of another shape is replaced, the records of its shards go first: a later return to that shape
    must not find them.
    """

    def forget() -> None:
        Ledger(objects).forget_all("fit", fit_path)

    matrix, n_regressors = design.matrix, design.matrix.shape[1]
    rule = bold_chunks(n_voxels, design.n_volumes, itemsize)
    create_array(
        objects,
        f"fits/{fit_path}/design",
        dims=("time", "regressor"),
        shape=matrix.shape,
        chunks=matrix.shape,
        attrs={
            "columns": list(matrix.columns),
            "frame_times": [float(t) for t in matrix.index],
            "noise_model": first_level.noise_model,
            "signal_scaling": first_level.signal_scaling,
            "n_volumes": design.n_volumes,
            "kept": design.kept.tolist(),
            **({"noise_smoothing_fwhm": fwhm} if (fwhm := first_level.noise_smoothing_fwhm) else {}),
        },
    )
    write_region(objects, f"fits/{fit_path}/design", [slice(0, n) for n in matrix.shape], matrix.to_numpy(dtype=float))
    create_array(
        objects,
        f"fits/{fit_path}/beta",
        dims=("regressor", "voxel"),
        shape=(n_regressors, n_voxels),
        chunks=(n_regressors, rule.chunk),
        shards=(n_regressors, rule.shard),
        on_replace=forget,
    )
    for name in (*PER_VOXEL[first_level.noise_model], EXPLAINED):
        create_array(
            objects,
            f"fits/{fit_path}/{name}",
            dims=("voxel",),
            shape=(n_voxels,),
            chunks=(rule.chunk,),
            shards=(rule.shard,),
            on_replace=forget,
        )
    return shard_slices(n_voxels, rule.shard)


def load_design(objects: Objects, fit_path: str) -> StoredDesign:
    """The design of a run, the volumes it is of, and the noise model it is fitted with."""
    array = open_array(objects, f"fits/{fit_path}/design")
    attrs: dict[str, Any] = dict(array.attrs)
    index = pd.Index(attrs["frame_times"], name="time")
    return StoredDesign(
        pd.DataFrame(np.asarray(array[...]), index=index, columns=attrs["columns"]),
        attrs["noise_model"],
        # a store written before volumes could be left out has all of them
        np.asarray(attrs.get("kept", range(len(index))), dtype=np.int64),
        attrs.get("n_volumes", len(index)),
    )


def empty_fit(noise_model: str, n_regressors: int, n_voxels: int) -> dict[str, NDArray[np.float64]]:
    """Arrays for the estimates of a shard, to be filled piece by piece."""
    beta = np.empty((n_regressors, n_voxels))
    return {"beta": beta, **{name: np.empty(n_voxels) for name in (*PER_VOXEL[noise_model], EXPLAINED)}}


def write_fit(objects: Objects, fit_path: str, fit: Mapping[str, NDArray[np.float64]], voxels: slice) -> int:
    """Write one shard of a fit; return its raw bytes."""
    for name, values in fit.items():
        write_voxels(objects, f"fits/{fit_path}/{name}", voxels, values)
    return sum(values.nbytes for values in fit.values())


def load_fit(objects: Objects, fit_path: str, voxels: slice) -> xr.Dataset:
    """Read a stretch of voxels of a stored fit as the Dataset that `fit_segments` returned, without `EXPLAINED`."""
    design = load_design(objects, fit_path)
    variables = {
        name: (
            ("regressor", "voxel") if name == "beta" else ("voxel",),
            read_voxels(objects, f"fits/{fit_path}/{name}", voxels),
        )
        for name in ("beta", *PER_VOXEL[design.noise_model])
    }
    variables["design"] = (("time", "regressor"), design.matrix.to_numpy())
    return xr.Dataset(
        variables,
        coords={
            "regressor": list(design.matrix.columns),
            "time": design.matrix.index.to_numpy(),
            "scan": ("time", design.kept),
        },
        attrs={"noise_model": design.noise_model},
    )
