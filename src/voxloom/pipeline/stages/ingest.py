"""Stage 1: every run's image becomes a voxel-major array; one task per run, one decode per task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.bids.confounds import read_components, read_confounds, require_rows
from voxloom.io.bids.events import read_events
from voxloom.io.bids.run_table import resolve_t_r
from voxloom.io.nifti.volumes import read_header
from voxloom.io.store.objects import Objects
from voxloom.io.study.ingest import write_run
from voxloom.io.study.open import open_study
from voxloom.io.study.runs import members
from voxloom.pipeline.coverage import outside, outside_note, still, still_note, update_coverage
from voxloom.pipeline.masks import own_mask
from voxloom.pipeline.sources import source_bytes, sources_of
from voxloom.pipeline.workspace import Stage, Workspace
from voxloom.spec import MASK_RULES, digest

if TYPE_CHECKING:
    from voxloom.io.bids.run_table import RunFile
    from voxloom.pipeline.sources import Fingerprint
    from voxloom.spec import Template

NAME = "ingest"


def tasks(ws: Workspace) -> list[Task]:
    """One task per run; its inputs are the files, by name, size and time of change."""
    return [task_of(ws, run) for run in ws.runs]


def task_of(ws: Workspace, run: RunFile) -> Task:
    """The ingest task of one run."""
    assert ws.study is not None, "the study is made before the first stage"
    rule, t_r = ws.analysis.data.mask, ws.analysis.data.datasets[run.site].t_r
    level, sources = ws.analysis.first_level, sources_of(run)
    computed = run.mask is None and rule in MASK_RULES
    return Task(
        stage=NAME,
        key=ws.stored_id(run),
        function=ingest_run,
        kwargs={
            "store": ws.url,
            "run_id": ws.stored_id(run),
            "run": run,
            "rule": rule,
            "sources": sources,
            "t_r": t_r,
            "smoothing_fwhm": level.smoothing_fwhm,
            "max_error_sd": ws.analysis.data.max_error_sd,
            "memory_budget": ws.analysis.memory_budget,
        },
        inputs=digest(
            [
                sources,
                run.t_r,
                t_r,
                level.smoothing_fwhm,
                *ws.analysis.data.rounding.values(),
                ws.study.digest,
                *(["computed mask"] if computed else []),
            ]
        ),
    )


def ingest_run(
    *,
    store: str,
    run_id: str,
    run: RunFile,
    rule: str | Template,
    sources: list[Fingerprint],
    t_r: float | None,
    smoothing_fwhm: float | None,
    max_error_sd: float | None,
    memory_budget: int,
    into: Objects | None = None,
) -> Output:
    """Write one run into the store, with its events and confounds; or into what is given for the store.

    Raises
    ------
    InputError
        The image, events, confounds or mask are not as wanted; the message names the file.
    """
    objects, info = into or Objects(store), read_header(run.bold)
    confounds, components = None, None
    if run.confounds is not None:
        confounds, components = read_confounds(run.confounds), read_components(run.confounds)
        require_rows(confounds, info.n_volumes, str(run.confounds))
    summary = write_run(
        objects,
        run_id,
        run.bold,
        mask=own_mask(run, open_study(store).grid, rule),
        t_r=t_r if t_r is not None else resolve_t_r(run.t_r, info.t_r, str(run.bold)),
        events=None if run.events is None else read_events(run.events),
        confounds=confounds,
        components=components,
        entities=run.entities,
        smoothing_fwhm=smoothing_fwhm,
        max_error_sd=max_error_sd,
        memory_budget=memory_budget,
        checkpoint=check_cancelled,
    )
    return Output(
        digest=summary.digest,
        bytes_read=source_bytes(run),
        bytes_written=summary.bytes_written,
        details={
            "n_volumes": summary.n_volumes,
            "n_outside": summary.n_outside,
            "n_nonfinite": summary.n_nonfinite,
            "n_still": summary.n_still,
            "sources": sources,
        },
        wrote=[f"runs/{run_id}", *(f"runs/{run_id}/{name}" for name in members(objects, f"runs/{run_id}"))],
    )


def finish(ws: Workspace) -> None:
    """Count which voxels the runs cover, and say how many lie outside the study's or have no signal."""
    for note in (update_coverage(ws.objects, ws.ledger), outside_note(outside(ws)), still_note(still(ws))):
        if note is not None:
            ws.note(note)


STAGE = Stage(NAME, tasks, finish=finish)
