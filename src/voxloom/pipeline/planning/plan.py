"""What a run would do, and what is wrong with its inputs, without writing anything."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.engine.plan import Plan, Problem
from voxloom.errors import ContrastError, InputError, VoxloomWarning
from voxloom.io.bids.confounds import read_components, read_confounds, require_rows
from voxloom.io.bids.events import read_events
from voxloom.io.bids.run_table import resolve_t_r
from voxloom.io.bids.sites import find_runs
from voxloom.io.store.objects import Objects
from voxloom.io.study.open import is_study, open_study
from voxloom.pipeline.coverage import outside_note, planned_outside
from voxloom.pipeline.levels import has_columns, why_not
from voxloom.pipeline.line import recall, stages_of
from voxloom.pipeline.masks import require_mask, study_mask
from voxloom.pipeline.planning.effort import measured_rates, stage_seconds
from voxloom.pipeline.planning.sizes import Survey, stage_sizes
from voxloom.pipeline.planning.suspicions import suspicions
from voxloom.pipeline.prepare import check_grids, read_headers, study_grid
from voxloom.pipeline.running import as_analysis
from voxloom.pipeline.sources import check_sources
from voxloom.pipeline.stages import design, group, ingest
from voxloom.pipeline.stored.map_files import planned_files
from voxloom.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from voxloom.engine.ledger import Record
    from voxloom.engine.plan import StagePlan
    from voxloom.io.bids.run_table import RunFile
    from voxloom.spec import Analysis


def plan(spec: Analysis | str | Path | Mapping[str, Any], *, calibrate: bool = False) -> Plan:
    """Check every input of an analysis that can be checked cheaply, and count the work.

    Parameters
    ----------
    spec : Analysis, path of an analysis file, or mapping
    calibrate : bool
        Time the kernels on small made-up data (2 s), and estimate the CPU time of every stage from that.

    Returns
    -------
    Plan
        Tasks, bytes, peak memory and CPU time by stage; a `Problem` for each input that will be quarantined
        (error), or of which something was assumed or looks odd (warning).

    Raises
    ------
    InputError
        The analysis cannot be run at all: nothing is found, or no image can be read.
    """
    analysis = as_analysis(spec)
    survey = look(analysis)
    for run in survey.ws.runs:
        check_run(survey, run)
    require_answers(survey)
    report_censoring(survey)
    survey.problems += suspicions(survey)
    try:
        group.check(analysis, survey.ws.runs)
    except InputError as error:
        survey.problems.append(problem(error))
    recall_all(survey.ws)
    runs = [run for runs in survey.answered.values() for run in runs]
    stages = {size.name: size for size in stage_sizes(survey)}
    if calibrate:
        seconds = stage_seconds(survey, stages, measured_rates(survey))
        stages = {name: replace(size, cpu_seconds=seconds[name]) for name, size in stages.items()}
    return Plan(
        stages=tuple(still_to_do(size, survey.ws.done(name)) for name, size in stages.items()),
        problems=tuple(survey.problems),
        files=tuple(planned_files(survey.ws, runs, survey.tests)),
        workers=1 if analysis.cluster == "threads" else analysis.workers or os.cpu_count() or 1,
    )


def look(analysis: Analysis) -> Survey:
    """Headers, grid and voxels: from the store where it exists, else from the masks."""
    ws = Workspace(analysis, Objects(analysis.store.path), runs=find_runs(analysis.data))
    inputs = read_headers(tuple(ws.runs))
    if is_study(ws.objects):
        ws.study = open_study(ws.url)
        require_mask(ws, ws.study)
        check_grids(inputs, ws.study.grid)
        check_sources(ws, inputs)
        recall(ws, ingest.STAGE)
        grid, mask = ws.study.grid, ws.study.mask
    elif not inputs.headers:
        raise InputError(
            "data",
            "no image can be read:\n  " + "\n  ".join(map(str, inputs.problems.values())),
        )
    else:
        grid = study_grid(ws, inputs)
        mask = study_mask(ws, inputs, grid)
    left_out = outside_note(planned_outside(ws, inputs, grid, mask))
    ws.runs = [run for run in ws.runs if run.id in inputs.headers]
    problems = [problem(error) for error in inputs.problems.values()]
    problems += [noted(text) for text in (*ws.notes, *([left_out] if left_out else []))]
    return Survey(ws, inputs, int(mask.sum()), n_volume=mask.size, problems=problems)


def problem(error: InputError) -> Problem:
    """An error as a line of the plan."""
    return Problem(level="error", where=error.where, what=error.what, remedy=error.remedy)


def noted(text: str) -> Problem:
    """A note of a run as a line of the plan."""
    where, _, what = text.partition(": ")
    return Problem(level="warning", where=where, what=what)


def check_run(survey: Survey, run: RunFile) -> None:
    """Read events and confounds of a run and build its design; what is wrong becomes a problem."""
    started = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VoxloomWarning)
        survey.inputs.headers[run.id].warn()
        try:
            matrix = design_of(survey, run)
        except InputError as error:
            survey.problems.append(problem(error))
        else:
            survey.designs[run.id] = matrix
            check_estimable(survey, run, matrix)
    survey.design_seconds += time.process_time() - started
    survey.problems += [noted(str(caught_one.message)) for caught_one in caught]


def design_of(survey: Survey, run: RunFile) -> pd.DataFrame:
    """The design matrix a run will have, from its files; notes how many confounds will be kept with it.

    Raises
    ------
    InputError
        As ingest and design will.
    """
    analysis, info = survey.ws.analysis, survey.inputs.headers[run.id]
    t_r = analysis.data.datasets[run.site].t_r or resolve_t_r(run.t_r, info.t_r, str(run.bold))
    confounds, components = None, None
    if run.confounds is not None:
        confounds, components = read_confounds(run.confounds), read_components(run.confounds)
        require_rows(confounds, info.n_volumes, str(run.confounds))
    events = None if run.events is None else read_events(run.events)
    survey.n_confounds[run.id] = 0 if confounds is None else confounds.shape[1]
    desc, every = run.entities.get("desc", ""), np.ones(info.n_volumes, bool)
    tables = design.RunTables(run.id, info.n_volumes, t_r, desc, events, confounds, components, every)
    return design.build(tables, analysis.first_level).matrix


def check_estimable(survey: Survey, run: RunFile, matrix: pd.DataFrame) -> None:
    """Note which contrasts the run cannot answer, and name those that it has the columns for."""
    errors = {name: why_not(wanted, matrix) for name, wanted in survey.ws.analysis.first_level.contrasts.items()}
    lacking = {name: error for name, error in errors.items() if error is not None}
    survey.lacking[run.id] = set(lacking)
    for name, error in lacking.items():
        if has_columns(survey.ws.analysis.first_level.contrasts[name], list(matrix.columns)):
            what = f"contrast {name} {error.what} The run is left out of it."
            survey.problems.append(Problem(level="warning", where=run.id, what=what))


def require_answers(survey: Survey) -> None:
    """A contrast that no run can answer is an error of the analysis; that no run of a subject can, of the subject."""
    columns = {run_id: list(matrix.columns) for run_id, matrix in survey.designs.items()}
    if not columns:
        return
    try:
        notes = design.check_contrasts(survey.ws.analysis, columns)
    except ContrastError as error:
        survey.problems.append(problem(error))
        return
    survey.problems += [Problem(level="warning", where="first_level.contrasts", what=note) for note in notes]
    for subject, runs in survey.answered.items():
        for name, wanted in survey.ws.analysis.first_level.contrasts.items():
            if all(name in survey.lacking[run.id] for run in runs):
                survey.unanswered.add(subject)
                what = f"contrast {name} ({wanted.said}) is not estimable in any of its runs."
                remedy = "Leave the subject out with data.filters, or ask another question."
                survey.problems.append(Problem(level="error", where=subject, what=what, remedy=remedy))


def report_censoring(survey: Survey) -> None:
    """How many volumes scrubbing and the like leave out."""
    kept = {run.id: (len(survey.designs[run.id]), survey.n_volumes(run)) for run in survey.fitted}
    note = design.censoring_note(kept)
    if note is not None:
        survey.problems.append(Problem(level="warning", where="first_level.confounds", what=note))


def recall_all(ws: Workspace) -> None:
    """Take over what earlier runs have done."""
    for stage in stages_of(ws.analysis) if ws.study is not None else ():
        recall(ws, stage)


def still_to_do(size: StagePlan, done: Mapping[str, Record]) -> StagePlan:
    """A stage less what has been done; records count bytes as the plan does."""
    left = 1 - len(done) / max(1, size.n_tasks)
    if left <= 0:  # maps of batches that were done before are not written again
        size = replace(size, bytes_read=0, bytes_written=0)
    return replace(
        size,
        n_done=len(done),
        cpu_seconds=None if size.cpu_seconds is None else size.cpu_seconds * max(0.0, left),
        bytes_read=max(0, size.bytes_read - sum(record.bytes_read for record in done.values())),
        bytes_written=max(0, size.bytes_written - sum(record.bytes_written for record in done.values())),
    )
