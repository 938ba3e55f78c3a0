"""Stage 3: the first-level model of every run, one task per run and shard of voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.objects import Objects
from voxloom.io.runs import read_bold, read_run
from voxloom.kernels.linalg import SUB_BLOCK
from voxloom.models.first_level import fit_segments
from voxloom.pipeline.memory import fit_piece
from voxloom.pipeline.stored_fit import empty_fit, load_design, write_fit
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import bold_chunks, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from voxloom.engine.ledger import Record

NAME = "fit"


def tasks(ws: Workspace) -> list[Task]:
    """One task per run and shard."""
    found = []
    for run in ws.runs:
        design = ws.done("design").get(ws.fit_path(run))
        if design is not None:
            found += [shard_task(ws, ws.stored_id(run), design, i) for i in range(design.details["n_shards"])]
    return found


def shard_task(ws: Workspace, run_id: str, design: Record, i: int) -> Task:
    """The task of shard `i` of one run."""
    start, stop = design.details["shards"][i]
    return Task(
        stage=NAME,
        key=f"{design.key}/{i:04d}",
        function=fit_shard,
        kwargs={
            "store": ws.url,
            "run_id": run_id,
            "fit_path": design.key,
            "start": start,
            "stop": stop,
            "signal_scaling": ws.analysis.first_level.signal_scaling,
        },
        inputs=digest([design.digest, ws.done("ingest")[run_id].digest]),
    )


def fit_shard(*, store: str, run_id: str, fit_path: str, start: int, stop: int, signal_scaling: int | None) -> Output:
    """Fit one shard of one run and write its estimates."""
    objects, run = Objects(store), read_run(Objects(store), run_id)
    design = load_design(objects, fit_path)
    rule = bold_chunks(run.n_voxels, run.n_volumes, run.itemsize)
    fit = empty_fit(design.noise_model, design.matrix.shape[1], stop - start)
    # the kernel takes any type, and twice as many voxels as they are stored take less than these in float64
    as_stored, step = not run.is_scaled, fit_piece(run.n_voxels, run.n_volumes, run.itemsize)
    if as_stored and run.itemsize <= 4 and step <= SUB_BLOCK:
        step *= 2
    for piece in shard_slices(stop - start, step):
        check_cancelled()
        voxels = slice(start + piece.start, start + piece.stop)
        values = read_bold(objects, run_id, voxels, raw=as_stored, volumes=design.kept)
        signal = xr.DataArray(values, dims=("voxel", "time"))
        found = fit_segments(
            signal,
            design.matrix,
            scans=design.kept,
            noise_model=design.noise_model,
            signal_scaling=signal_scaling,
        )
        del values, signal  # before the next are read
        for name, estimates in fit.items():
            estimates[..., piece] = found[name]
    written = write_fit(objects, fit_path, fit, slice(start, stop))
    return Output(
        digest=content_digest(fit.values()),
        bytes_read=(stop - start) * run.n_volumes * run.itemsize + design.matrix.to_numpy().nbytes,
        bytes_written=written,
        wrote=[f"fits/{fit_path}/{name}/c/{'*/' * (name == 'beta')}{start // rule.shard}" for name in fit],
    )


STAGE = Stage(NAME, tasks)
