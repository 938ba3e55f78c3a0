"""A run's fit in the store, ``fits/<fit digest>/<run>/``: make room for it, write a shard, read it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.engine.ledger import Ledger
from voxloom.io.arrays import create_array, open_array
from voxloom.io.regions import read_voxels, write_region, write_voxels
from voxloom.schema import bold_chunks, shard_slices

if TYPE_CHECKING:
    from voxloom.io.objects import Objects

#: Per-voxel estimates beside ``beta``, by noise model.
PER_VOXEL = {"ols": ("sigma2",), "ar1": ("sigma2", "rho"), "ar1-yule-walker": ("sigma2", "rho")}


def make_room(
    objects: Objects, fit_path: str, design: pd.DataFrame, n_voxels: int, itemsize: int, noise_model: str
) -> list[slice]:
    """Write the design and create the arrays of a fit, cut at the shards of the run's BOLD; return the cuts.

    Where a fit of another shape is replaced, the records of its shards go first: a later return to that shape
    must not find them.
    """

    def forget() -> None:
        Ledger(objects).forget_all("fit", fit_path)

    n_times, n_regressors = design.shape
    rule = bold_chunks(n_voxels, n_times, itemsize)
    create_array(
        objects,
        f"fits/{fit_path}/design",
        dims=("time", "regressor"),
        shape=design.shape,
        chunks=design.shape,
        attrs={
            "columns": list(design.columns),
            "frame_times": [float(t) for t in design.index],
            "noise_model": noise_model,
        },
    )
    write_region(objects, f"fits/{fit_path}/design", [slice(0, n) for n in design.shape], design.to_numpy(dtype=float))
    create_array(
        objects,
        f"fits/{fit_path}/beta",
        dims=("regressor", "voxel"),
        shape=(n_regressors, n_voxels),
        chunks=(n_regressors, rule.chunk),
        shards=(n_regressors, rule.shard),
        on_replace=forget,
    )
    for name in PER_VOXEL[noise_model]:
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


def load_design(objects: Objects, fit_path: str) -> tuple[pd.DataFrame, str]:
    """The design of a run and the noise model it is fitted with."""
    array = open_array(objects, f"fits/{fit_path}/design")
    attrs: dict[str, Any] = dict(array.attrs)
    index = pd.Index(attrs["frame_times"], name="time")
    design = pd.DataFrame(np.asarray(array[...]), index=index, columns=attrs["columns"])
    return design, attrs["noise_model"]


def write_fit(objects: Objects, fit_path: str, fit: xr.Dataset, voxels: slice) -> int:
    """Write one shard of a fit; return its raw bytes."""
    names = ("beta", *PER_VOXEL[fit.attrs["noise_model"]])
    for name in names:
        write_voxels(objects, f"fits/{fit_path}/{name}", voxels, fit[name].to_numpy())
    return sum(fit[name].nbytes for name in names)


def load_fit(objects: Objects, fit_path: str, voxels: slice) -> xr.Dataset:
    """Read a stretch of voxels of a stored fit as the Dataset that `fit_first_level` returned."""
    design, noise_model = load_design(objects, fit_path)
    variables = {
        name: (
            ("regressor", "voxel") if name == "beta" else ("voxel",),
            read_voxels(objects, f"fits/{fit_path}/{name}", voxels),
        )
        for name in ("beta", *PER_VOXEL[noise_model])
    }
    variables["design"] = (("time", "regressor"), design.to_numpy())
    return xr.Dataset(
        variables,
        coords={"regressor": list(design.columns), "time": design.index.to_numpy()},
        attrs={"noise_model": noise_model, "segments": [0]},
    )
