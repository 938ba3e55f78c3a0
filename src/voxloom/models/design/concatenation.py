"""Runs joined end to end: one series and one design, in which what belongs to a run reaches no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.linalg import block_diag

from voxloom.errors import DesignError, InputError
from voxloom.models.first_level.fit import require_one_grid, signal_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class Concatenated(NamedTuple):
    """Runs end to end.

    Attributes
    ----------
    bold : Dataset
        ``bold(voxel, time)``: the volumes of all runs in turn.
    design : DataFrame
        A row for each of them.
    run_starts : list of int
        First row of every run, for ``fit_first_level(bold, design, run_starts=run_starts)``.
    """

    bold: xr.Dataset
    design: pd.DataFrame
    run_starts: list[int]


def concatenate_runs(
    bolds: Sequence[xr.Dataset | xr.DataArray],
    designs: Sequence[pd.DataFrame],
    *,
    shared: Sequence[str] = (),
    names: Sequence[str] | None = None,
    percent: bool = False,
) -> Concatenated:
    """Join runs into one series with one design.

    Parameters
    ----------
    bolds : sequence of Dataset or DataArray
        ``bold(voxel, time)`` of each run, on the same voxels, in memory or lazy.
    designs : sequence of DataFrame
        A row per volume of its run (`design_matrix`).
    shared : sequence of str
        Columns with one effect over all runs: conditions. A run that lacks one has zeros there. All other columns
        (confounds, drifts, the constant) become columns of their run alone, ``<column>_<name>``.
    names : sequence of str, optional
        Of the runs; ``run-1``, ``run-2``, ... when not given.
    percent : bool
        Make each run ``100 (y / mean - 1)`` first, by its own mean at each voxel, NaN where that is not positive:
        ``signal_scaling=0`` of the fit would take the mean over all runs.

    Returns
    -------
    Concatenated
        Without shared columns estimates equal those of separate fits, if the noise model estimates nothing; the
        variance is one for all runs, its degrees of freedom are the sum of theirs.

    Raises
    ------
    InputError
        No runs, or numbers or names of runs that do not fit.
    DesignError
        A design has not a row per volume, or no run has a shared column.
    GridError
        Grids that differ.
    """
    signals = [signal_of(bold) for bold in bolds]
    labels = [f"run-{i}" for i in range(1, len(signals) + 1)] if names is None else [str(name) for name in names]
    if not signals or not len(signals) == len(designs) == len(set(labels)) == len(labels):
        given = f"{len(signals)} runs, {len(designs)} designs and the names {labels}"
        raise InputError("runs", f"are {given}.", "One design, and one name that no other has, is wanted for each.")
    for label, signal, design in zip(labels, signals, designs, strict=True):
        if len(design) != signal.sizes["time"]:
            what = f"{signal.sizes['time']} volumes, but its design has {len(design)} rows."
            raise DesignError(label, what, "Give each run its own design.")
    return Concatenated(
        _end_to_end([_in_percent(signal) for signal in signals] if percent else signals),
        _one_design(designs, labels, list(shared)),
        np.cumsum([0, *(len(design) for design in designs[:-1])]).tolist(),
    )


def _in_percent(signal: xr.DataArray) -> xr.DataArray:
    mean = signal.mean("time", dtype=np.float64)
    return 100 * (signal / mean.where(mean > 0) - 1)


def _end_to_end(signals: Sequence[xr.DataArray]) -> xr.Dataset:
    """Volumes in turn; each run's own times are dropped, for they begin anew."""
    require_one_grid(signals, "bolds")
    bare = [signal.drop_vars("time", errors="ignore") for signal in signals]
    try:
        whole = xr.concat(bare, "time", join="exact", coords="minimal", compat="override", combine_attrs="override")
    except ValueError as error:
        raise InputError("bolds", "the voxels of the runs differ.", "Ingest them into one study.") from error
    return whole.transpose("voxel", "time").to_dataset(name="bold")


def _one_design(designs: Sequence[pd.DataFrame], names: Sequence[str], shared: Sequence[str]) -> pd.DataFrame:
    """Shared columns, then those of each run, zero elsewhere."""
    absent = [name for name in shared if not any(name in design for design in designs)]
    if absent:
        raise DesignError("shared", f"no run has the columns {absent}.", "Name columns of the designs.")
    own = [design.drop(columns=[c for c in shared if c in design]) for design in designs]
    common = [design.reindex(columns=list(shared), fill_value=0.0).to_numpy(dtype=float) for design in designs]
    matrix = np.hstack([np.vstack(common), block_diag(*(part.to_numpy(dtype=float) for part in own))])
    columns = [*shared, *(f"{column}_{name}" for name, part in zip(names, own, strict=True) for column in part)]
    return pd.DataFrame(matrix, columns=columns, index=pd.RangeIndex(len(matrix), name="volume"))
