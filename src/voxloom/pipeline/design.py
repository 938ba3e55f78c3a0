"""Stage 2: a design matrix per run, from the events and confounds kept with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxloom.engine.runner import Output, Task
from voxloom.errors import ContrastError, InputError
from voxloom.io.confounds import select_confounds
from voxloom.io.objects import Objects
from voxloom.io.runs import read_run
from voxloom.kernels.expression import contrast_matrix
from voxloom.models.design import design_matrix, frame_times
from voxloom.pipeline.stored_fit import make_room
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from voxloom.spec import Analysis, FirstLevel

NAME = "design"


def tasks(ws: Workspace) -> list[Task]:
    """One task per ingested run."""
    ingested = ws.done("ingest")
    return [
        Task(
            stage=NAME,
            key=ws.fit_path(run),
            function=make_design,
            kwargs={
                "store": ws.url,
                "run_id": ws.stored_id(run),
                "fit_path": ws.fit_path(run),
                "first_level": ws.analysis.first_level,
            },
            inputs=digest([ws.analysis.fit_digest, ingested[ws.stored_id(run)].digest]),
        )
        for run in ws.runs
        if ws.stored_id(run) in ingested
    ]


def build(
    n_volumes: int,
    t_r: float,
    events: pd.DataFrame | None,
    confounds: pd.DataFrame | None,
    first_level: FirstLevel,
    where: str,
) -> pd.DataFrame:
    """The design matrix of one run as the analysis wants it.

    Raises
    ------
    InputError
        Events or confounds are missing or not as wanted.
    """
    if events is None:
        raise InputError(
            where,
            "no events file was found.",
            "Put *_events.tsv beside the raw image (or above it), or leave the run out with data.filters.",
        )
    chosen = None
    if first_level.confounds:
        if confounds is None:
            raise InputError(where, "no confounds table was found, but first_level.confounds names columns.")
        chosen = select_confounds(confounds, first_level.confounds, where)
    return design_matrix(
        frame_times(n_volumes, t_r, first_level.slice_time_ref),
        events,
        hrf_model=first_level.hrf_model,
        drift_model=first_level.drift_model,
        high_pass=first_level.high_pass,
        drift_order=first_level.drift_order,
        fir_delays=first_level.fir_delays,
        add_regs=chosen,
        modulation=first_level.modulation,
        where=where,
    )


def make_design(*, store: str, run_id: str, fit_path: str, first_level: FirstLevel) -> Output:
    """Write the design of one run and make room for its fit."""
    objects = Objects(store)
    run = read_run(objects, run_id)
    design = build(run.n_volumes, run.t_r, run.events, run.confounds, first_level, run_id)
    shards = make_room(objects, fit_path, design, run.n_voxels, run.itemsize, first_level.noise_model)
    values = design.to_numpy(dtype=float)
    return Output(
        digest=content_digest([values], list(design.columns)),
        bytes_read=run.sample_mask.nbytes + (0 if run.confounds is None else run.confounds.to_numpy().nbytes),
        bytes_written=values.nbytes,
        details={
            "n_shards": len(shards),
            "shards": [[s.start, s.stop] for s in shards],
            "columns": list(design.columns),
            "n_volumes": run.n_volumes,
            "itemsize": run.itemsize,
        },
    )


def check_contrasts(analysis: Analysis, columns: Mapping[str, list[str]]) -> list[str]:
    """Refuse contrasts that no run can answer; return a note for each that some runs cannot.

    Parameters
    ----------
    columns : mapping of str to list of str
        Regressors of each run.

    Raises
    ------
    ContrastError
        A contrast names columns that no run has; the message lists the columns.
    """
    notes = []
    for name, wanted in analysis.first_level.contrasts.items():
        errors: dict[str, ContrastError] = {}
        for run_id, names in columns.items():
            try:
                contrast_matrix(wanted.expression, names)
            except ContrastError as error:
                errors[run_id] = error
        if errors and len(errors) == len(columns):
            first = next(iter(errors.values()))
            raise ContrastError(f"first_level.contrasts.{name}", str(first))
        if errors:
            notes.append(
                f"contrast {name}: not in {len(errors)} of {len(columns)} runs ({', '.join(list(errors)[:3])}...)"
            )
    return notes


STAGE = Stage(NAME, tasks)
