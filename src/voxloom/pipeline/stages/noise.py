"""Stage `noise`, where noise is to be smoothed: its parameters at every voxel by itself, a task per run and shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.io.store.objects import Objects
from voxloom.io.study.runs import read_run
from voxloom.kernels.first_level.noise_models import NOISE_MODELS
from voxloom.pipeline.stages.fit import fit_pieces, shard_tasks
from voxloom.pipeline.stored.fit import load_design
from voxloom.pipeline.stored.noise import write_noise
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import bold_chunks

if TYPE_CHECKING:
    from voxloom.spec import Analysis

NAME = "noise"


def wanted(analysis: Analysis) -> bool:
    """Whether an analysis smooths the noise: then it fits, smooths, and fits again."""
    return analysis.first_level.noise_smoothing_fwhm is not None


def tasks(ws: Workspace) -> list[Task]:
    """One task per run and shard. They do not know how far is smoothed: another width does not do them again."""
    found = []
    for run in ws.runs if wanted(ws.analysis) else ():
        path = ws.noise_path(run)
        found += shard_tasks(ws, run, stage=NAME, function=fit_noise, key=path, more={"noise_path": path})
    return found


def fit_noise(
    *,
    store: str,
    run_id: str,
    fit_path: str,
    noise_path: str,
    start: int,
    stop: int,
    signal_scaling: int | None,
) -> Output:
    """Fit one shard of one run, and write what it says of the noise alone."""
    objects, run = Objects(store), read_run(Objects(store), run_id)
    design = load_design(objects, fit_path)
    parameters = NOISE_MODELS[design.noise_model].parameters
    noise = np.empty((len(parameters), stop - start))
    for piece, fit in fit_pieces(objects, run, design, slice(start, stop), signal_scaling):
        noise[:, piece] = [fit[name] for name in parameters]
    rule = bold_chunks(run.n_voxels, run.n_volumes, run.itemsize)
    return Output(
        digest=content_digest([noise]),
        bytes_read=(stop - start) * run.n_volumes * run.itemsize + design.matrix.to_numpy().nbytes,
        bytes_written=write_noise(objects, noise_path, parameters, noise, slice(start, stop)),
        wrote=[f"noise/{noise_path}/{name}/c/{start // rule.shard}" for name in parameters],
    )


STAGE = Stage(NAME, tasks, wanted=wanted)
