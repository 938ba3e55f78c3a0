"""Stage `smooth`, where wanted: noise parameters over the whole map of a run become smooth; one task per run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.study.open import open_study
from voxloom.kernels.first_level.noise_models import NOISE_MODELS
from voxloom.models.first_level.noise import smooth_noise
from voxloom.pipeline.stages import noise
from voxloom.pipeline.stored.noise import cut_of, make_noise_room, read_noise, write_noise
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import voxel_coords
from voxloom.spec import digest

if TYPE_CHECKING:
    from voxloom.io.bids.run_table import RunFile

NAME = "smooth"


def tasks(ws: Workspace) -> list[Task]:
    """One task per run whose noise is known at every voxel."""
    if not noise.wanted(ws.analysis):
        return []
    known = ((run, ws.shard_digests(noise.NAME, run, ws.noise_path(run))) for run in ws.runs)
    return [smooth_task(ws, run, found) for run, found in known if found is not None]


def smooth_task(ws: Workspace, run: RunFile, found: list[str]) -> Task:
    """The task of one run, from the digests of its shards."""
    level = ws.analysis.first_level
    return Task(
        stage=NAME,
        key=ws.fit_path(run),
        function=smooth_run,
        kwargs={
            "store": ws.url,
            "noise_path": ws.noise_path(run),
            "smooth_path": ws.fit_path(run),
            "noise_model": level.noise_model,
            "fwhm": level.noise_smoothing_fwhm,
        },
        inputs=digest([level.noise_smoothing_fwhm, *found]),
    )


def smooth_run(*, store: str, noise_path: str, smooth_path: str, noise_model: str, fwhm: float) -> Output:
    """Smooth the parameters of one run within its voxels, and write them."""
    study, parameters = open_study(store), NOISE_MODELS[noise_model].parameters
    everywhere = slice(0, study.voxel.size)
    values = read_noise(study.objects, noise_path, parameters, everywhere)
    check_cancelled()
    alone = xr.Dataset(
        {name: ("voxel", row) for name, row in zip(parameters, values)},
        coords=voxel_coords(study.grid, study.voxel),
        attrs={"noise_model": noise_model},
    )
    smooth = smooth_noise(alone, fwhm)
    values = np.array([smooth[name] for name in parameters])
    make_noise_room(
        study.objects, smooth_path, parameters, everywhere.stop, cut_of(study.objects, noise_path, parameters)
    )
    return Output(
        digest=content_digest([values]),
        bytes_read=values.nbytes,
        bytes_written=write_noise(study.objects, smooth_path, parameters, values, everywhere),
        wrote=[f"noise/{smooth_path}/{name}" for name in parameters],
    )


STAGE = Stage(NAME, tasks, wanted=noise.wanted)
