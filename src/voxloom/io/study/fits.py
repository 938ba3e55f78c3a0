"""First-level fits in the store, ``fits/<digest>/<run>/``, as the Datasets that `fit_first_level` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.errors import StoreError
from voxloom.io.store.access import get_attrs, open_array, open_group_dataset
from voxloom.io.study.runs import members
from voxloom.schema import validate, voxel_coords

if TYPE_CHECKING:
    import xarray as xr

    from voxloom.io.store.objects import Objects
    from voxloom.io.study.open import Study


def open_fit(study: Study, run_id: str, name: str = "") -> xr.Dataset:
    """One fit of a run; estimates are read when they are used, and one that is missing raises then.

    Parameters
    ----------
    study : Study
    run_id : str
    name : str
        Digest of the model, or a part from its beginning that fits one only.

    Returns
    -------
    Dataset
        Of kind "fit"; its ``time`` and ``volume`` are those of the volumes that were kept.

    Raises
    ------
    StoreError
        None or several fit, or the fit is from before its scaling was kept with it.
    InputError
        Some of its arrays are not there: it is not done.
    """
    objects = study.objects
    path = f"fits/{_one_of(objects, run_id, name)}/{run_id}"
    ds = validate(open_group_dataset(objects, path), "fit", f"{study.url}/{path}")
    attrs = ds["design"].attrs
    if "signal_scaling" not in attrs:
        raise StoreError(f"{study.url}/{path}", "does not say how its data were scaled.", "Run the analysis again.")
    kept = np.asarray(attrs["kept"], dtype=np.int64)
    time = np.asarray(open_array(objects, f"runs/{run_id}/time")[...])[kept]
    ds.attrs = {"noise_model": attrs["noise_model"]}
    if attrs["signal_scaling"] == 0:
        ds.attrs["signal_scaling"] = 0
    if "noise_smoothing_fwhm" in attrs:
        ds.attrs["noise_smoothing_fwhm"] = attrs["noise_smoothing_fwhm"]
    ds["design"] = ds["design"].drop_attrs()
    coords = {"regressor": attrs["columns"], "time": time, "volume": ("time", kept), "scan": ("time", kept)}
    return ds.assign_coords(coords | voxel_coords(study.grid, study.voxel))


def _one_of(objects: Objects, run_id: str, name: str) -> str:
    """The digest that fits, of those that the run was fitted with."""
    there = [one for one in members(objects, "fits") if get_attrs(objects, f"fits/{one}/{run_id}/design") is not None]
    fitting = [one for one in there if one.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    if not there:
        raise StoreError(objects.url, f"holds no fit of {run_id!r}.", "Run the analysis; `runs` has names of runs.")
    what = f"{name!r} fits {len(fitting)} models" if name else f"{run_id!r} was fitted with {len(there)} models"
    raise StoreError(objects.url, f"{what}.", f"Name one of: {', '.join(there)}.")
