"""Stage 3: the first-level model of every run, one task per run and shard of voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.store.objects import Objects
from voxloom.io.study.runs import read_bold, read_run
from voxloom.kernels.first_level.noise_models import NOISE_MODELS
from voxloom.models.first_level.fit import fit_segments
from voxloom.pipeline.planning.memory import fit_piece
from voxloom.pipeline.stored.fit import empty_fit, load_design, write_fit
from voxloom.pipeline.stored.noise import read_noise
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import bold_chunks, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from voxloom.io.bids.run_table import RunFile
    from voxloom.io.study.runs import Run
    from voxloom.pipeline.stored.fit import StoredDesign

NAME = "fit"


def tasks(ws: Workspace) -> list[Task]:
    """One task per run and shard; where noise is smoothed, of runs for which that has been done."""
    smooths, found = ws.analysis.first_level.noise_smoothing_fwhm is not None, []
    for run in ws.runs:
        path = ws.fit_path(run)
        smooth = ws.done("smooth").get(path)
        if smooth is not None:
            more, built_on = {"noise_path": path}, [smooth.digest]
            found += shard_tasks(ws, run, stage=NAME, function=fit_shard, key=path, more=more, built_on=built_on)
        elif not smooths:
            found += shard_tasks(ws, run, stage=NAME, function=fit_shard, key=path)
    return found


def shard_tasks(
    ws: Workspace,
    run: RunFile,
    *,
    stage: str,
    function: Callable[..., Output],
    key: str,
    more: Mapping[str, Any] | None = None,
    built_on: Sequence[str] = (),
) -> list[Task]:
    """A task for each shard of a run that has a design, with keys below `key`; it reads BOLD and design.

    Parameters
    ----------
    more : mapping, optional
        Further arguments of the function.
    built_on : sequence of str
        Digests of what else it reads.
    """
    design = ws.done("design").get(ws.fit_path(run))
    if design is None:
        return []
    run_id = ws.stored_id(run)
    kwargs = {
        "store": ws.url,
        "run_id": run_id,
        "fit_path": design.key,
        "signal_scaling": ws.analysis.first_level.signal_scaling,
        **(more or {}),
    }
    inputs = digest([design.digest, ws.done("ingest")[run_id].digest, *built_on])
    return [
        Task(
            stage=stage,
            key=f"{key}/{i:04d}",
            function=function,
            kwargs={**kwargs, "start": start, "stop": stop},
            inputs=inputs,
        )
        for i, (start, stop) in enumerate(design.details["shards"])
    ]


def fit_shard(
    *,
    store: str,
    run_id: str,
    fit_path: str,
    start: int,
    stop: int,
    signal_scaling: int | None,
    noise_path: str | None = None,
) -> Output:
    """Fit one shard of one run, with the noise that lies at `noise_path` if there is one, and write its estimates."""
    objects, run = Objects(store), read_run(Objects(store), run_id)
    design = load_design(objects, fit_path)
    fit = empty_fit(design.noise_model, design.matrix.shape[1], stop - start)
    for piece, found in fit_pieces(objects, run, design, slice(start, stop), signal_scaling, noise_path):
        for name, estimates in fit.items():
            estimates[..., piece] = found[name]
    given = 0 if noise_path is None else len(NOISE_MODELS[design.noise_model].parameters) * fit["sigma2"].nbytes
    written = write_fit(objects, fit_path, fit, slice(start, stop))
    rule = bold_chunks(run.n_voxels, run.n_volumes, run.itemsize)
    return Output(
        digest=content_digest(fit.values()),
        bytes_read=(stop - start) * run.n_volumes * run.itemsize + design.matrix.to_numpy().nbytes + given,
        bytes_written=written,
        wrote=[f"fits/{fit_path}/{name}/c/{'*/' * (name == 'beta')}{start // rule.shard}" for name in fit],
    )


def fit_pieces(
    objects: Objects,
    run: Run,
    design: StoredDesign,
    shard: slice,
    signal_scaling: int | None,
    noise_path: str | None = None,
) -> Iterator[tuple[slice, xr.Dataset]]:
    """Fit a shard piece by piece: which of its voxels, and what `fit_segments` finds of them."""
    step = fit_piece(run.n_voxels, run.n_volumes, run.itemsize, run.is_scaled)
    for piece in shard_slices(shard.stop - shard.start, step):
        check_cancelled()
        voxels = slice(shard.start + piece.start, shard.start + piece.stop)
        values = read_bold(objects, run.id, voxels, raw=not run.is_scaled, volumes=design.kept)
        signal = xr.DataArray(values, dims=("voxel", "time"))
        found = fit_segments(
            signal,
            design.matrix,
            scans=design.kept,
            noise_model=design.noise_model,
            noise=None if noise_path is None else stored_noise(objects, noise_path, design, voxels),
            signal_scaling=signal_scaling,
        )
        del values, signal  # before the next are read
        yield piece, found


def stored_noise(objects: Objects, path: str, design: StoredDesign, voxels: slice) -> xr.Dataset:
    """Noise parameters of a stretch of voxels, as `fit_segments` takes them."""
    parameters = NOISE_MODELS[design.noise_model].parameters
    values = read_noise(objects, path, parameters, voxels)
    return xr.Dataset({name: ("voxel", row) for name, row in zip(parameters, values)})


STAGE = Stage(NAME, tasks)
