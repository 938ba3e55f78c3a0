"""Quality of the data of a run, on demand: a map of tSNR, and series over its volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from voxloom.blocks import map_voxels
from voxloom.kernels.first_level import fitted as kernel
from voxloom.models.design.censoring import kept_rows
from voxloom.models.first_level.fit import signal_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Column of the confounds that is taken over, where it is there.
DISPLACEMENT = "framewise_displacement"


def tsnr(bold: xr.Dataset | xr.DataArray, *, sample_mask: ArrayLike | None = None) -> xr.DataArray:
    """Temporal signal-to-noise ratio: mean over standard deviation (divisor T), nothing taken out before.

    Parameters
    ----------
    bold : Dataset or DataArray
        ``bold(voxel, time)``, in memory or lazy; a lazy one gives a lazy map.
    sample_mask : array_like, optional
        Volumes to keep, as indices or bool per volume.

    Returns
    -------
    DataArray
        (voxel); NaN where the signal is constant or not finite.

    Raises
    ------
    InputError
        `bold` has other dims, or an unknown sample mask.
    """
    signal = signal_of(bold)
    if sample_mask is not None:
        signal = signal.isel(time=kept_rows(sample_mask, signal.sizes["time"]))
    return map_voxels(_tsnr_block, signal, outputs={"tsnr": ()})["tsnr"]


def _tsnr_block(Y: NDArray[Any]) -> tuple[NDArray[np.float64]]:
    return (kernel.tsnr(Y),)


def quality_series(run: xr.Dataset, fit: xr.Dataset | None = None) -> xr.Dataset:
    """Series over the volumes of a run that show what went wrong when.

    Parameters
    ----------
    run : Dataset
        Of `Study.run` or `from_nifti`: ``bold(voxel, time)``, and where they are there ``in_mask(voxel)``,
        ``confounds(time, name)`` and ``sample_mask(time)``. A lazy one gives lazy series, which hold one block of
        voxels at a time.
    fit : Dataset, optional
        A fit of the run: volumes that it left out count as censored, too.

    Returns
    -------
    Dataset
        ``global_signal(time)``: mean over the voxels of the run's mask. ``dvars(time)``: root of their mean squared
        difference from the volume before, in units of the signal, NaN for the first (Power 2012). ``kept(time)``:
        whether the volume is used, and ``n_censored``, how many are not. ``framewise_displacement(time)`` where the
        confounds hold it. Values that are not finite do not count.

    Raises
    ------
    InputError
        `run` has no ``bold(voxel, time)``.
    """
    signal = signal_of(run).astype(np.float64)
    signal = signal.where(np.isfinite(signal))
    if "in_mask" in run:
        signal = signal.where(run["in_mask"])
    change = (signal.diff("time", label="upper") ** 2).mean("voxel") ** 0.5
    series = {"global_signal": signal.mean("voxel"), "dvars": change.pad(time=(1, 0)), "kept": _kept(run, fit)}
    if "confounds" in run and DISPLACEMENT in run["name"]:
        series[DISPLACEMENT] = run["confounds"].sel(name=DISPLACEMENT, drop=True)
    times = {"time": run["time"]} if "time" in run.coords else {}
    found = xr.Dataset({name: ("time", one.data) for name, one in series.items()}, coords=times)
    return found.assign(n_censored=(~found["kept"]).sum())


def _kept(run: xr.Dataset, fit: xr.Dataset | None) -> xr.DataArray:
    kept = np.ones(run.sizes["time"], dtype=bool)
    if "sample_mask" in run:
        kept &= run["sample_mask"].to_numpy()
    if fit is not None:
        kept &= np.isin(np.arange(kept.size), fit["volume"].to_numpy())
    return xr.DataArray(kept, dims="time")
