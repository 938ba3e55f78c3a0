"""Quality of a stored run over its volumes, from one pass over its voxels, a chunk at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from voxloom.engine.worker import check_cancelled
from voxloom.io.store.arrays import open_array
from voxloom.io.store.regions import read_voxels
from voxloom.io.study.runs import read_bold, read_run
from voxloom.models.first_level.quality import DISPLACEMENT
from voxloom.schema import shard_slices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.io.store.objects import Objects
    from voxloom.pipeline.stored.fit import StoredDesign


def run_series(objects: Objects, run_id: str, design: StoredDesign) -> pd.DataFrame:
    """What `quality_series` tells of a run and its fit, a row per volume, in the memory of one chunk.

    Parameters
    ----------
    objects : Objects
        The store.
    run_id : str
        Of the run in the store.
    design : StoredDesign
        Says which volumes the fit kept.

    Returns
    -------
    DataFrame
        ``global_signal``, ``dvars``, ``kept``, and ``framewise_displacement`` where the confounds hold it.
    """
    run = read_run(objects, run_id)
    bold = open_array(objects, f"runs/{run_id}/bold")
    total, squares = np.zeros(run.n_volumes), np.zeros(run.n_volumes)
    n_values, n_changes = np.zeros(run.n_volumes), np.zeros(run.n_volumes)
    for voxels in shard_slices(run.n_voxels, bold.chunks[0]):
        check_cancelled()
        signal = signal_of(objects, run_id, voxels)
        total += np.nansum(signal, axis=0)
        n_values += np.isfinite(signal).sum(axis=0)
        change = np.diff(signal, axis=1)
        squares[1:] += np.nansum(change**2, axis=0)
        n_changes[1:] += np.isfinite(change).sum(axis=0)
    kept = run.sample_mask & np.isin(np.arange(run.n_volumes), design.kept)
    with np.errstate(invalid="ignore"):  # volume 0 has no change
        found = {"global_signal": total / n_values, "dvars": np.sqrt(squares / n_changes), "kept": kept}
    if run.confounds is not None and DISPLACEMENT in run.confounds:
        found[DISPLACEMENT] = run.confounds[DISPLACEMENT].to_numpy()
    return pd.DataFrame(found)


def signal_of(objects: Objects, run_id: str, voxels: slice) -> NDArray[np.float64]:
    """Signal of the voxels of a stretch that are in the run's mask; NaN where it is not finite."""
    in_mask = read_voxels(objects, f"runs/{run_id}/in_mask", voxels)
    signal = np.asarray(read_bold(objects, run_id, voxels)[in_mask], dtype=np.float64)
    signal[~np.isfinite(signal)] = np.nan
    return signal
