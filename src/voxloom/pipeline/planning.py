"""What a run would do, and what is wrong with its inputs, without writing anything."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from voxloom.engine.plan import Plan, Problem
from voxloom.errors import ContrastError, InputError, VoxloomWarning
from voxloom.io.bids import resolve_t_r
from voxloom.io.confounds import read_confounds, require_rows
from voxloom.io.events import read_events
from voxloom.io.objects import Objects
from voxloom.io.sites import find_runs
from voxloom.io.study import is_study, open_study
from voxloom.kernels.expression import contrast_matrix
from voxloom.kernels.linalg import is_estimable, reduce_design
from voxloom.pipeline import design, group
from voxloom.pipeline.prepare import check_grids, read_headers, require_mask, study_grid, study_mask
from voxloom.pipeline.running import STAGES, as_analysis, recall
from voxloom.pipeline.sizes import Survey, planned_tests, stage_sizes
from voxloom.pipeline.workspace import Workspace
from voxloom.pipeline.write import planned_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from voxloom.io.bids import RunFile
    from voxloom.io.nifti import NiftiInfo
    from voxloom.spec import Analysis


def plan(spec: Analysis | str | Path | Mapping[str, Any]) -> Plan:
    """Check every input of an analysis that can be checked cheaply, and count the work.

    Parameters
    ----------
    spec : Analysis, path of an analysis file, or mapping

    Returns
    -------
    Plan
        Tasks, bytes and peak memory by stage; a `Problem` for each input that will be quarantined (error) or of
        which something was assumed (warning).

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
    try:
        group.check(analysis, survey.ws.runs)
    except InputError as error:
        survey.problems.append(problem(error))
    done = done_tasks(survey.ws)
    stages = [replace(size, n_done=done.get(size.name, 0)) for size in stage_sizes(survey)]
    return Plan(
        stages=tuple(stages),
        problems=tuple(survey.problems),
        files=tuple(planned_files(survey.ws, survey.runs, planned_tests(survey))),
    )


def look(analysis: Analysis) -> Survey:
    """Headers, grid and voxels: from the store where it exists, else from the masks."""
    ws = Workspace(analysis, Objects(analysis.store.path), find_runs(analysis.data))
    inputs = read_headers(tuple(ws.runs))
    if is_study(ws.objects):
        ws.study = open_study(ws.url)
        require_mask(ws.study, analysis.data.mask)
        check_grids(inputs, ws.study.grid)
        n_voxels = len(ws.voxel)
    elif not inputs.headers:
        raise InputError(
            "data",
            "no image can be read:\n  " + "\n  ".join(map(str, inputs.problems.values())),
        )
    else:
        grid = study_grid(analysis, inputs)
        n_voxels = int(study_mask(ws, inputs, grid).sum())
    ws.runs = [run for run in ws.runs if run.id in inputs.headers]
    return Survey(ws, inputs, n_voxels, problems=[problem(e) for e in inputs.problems.values()])


def problem(error: InputError) -> Problem:
    """An error as a line of the plan."""
    return Problem(level="error", where=error.where, what=error.what, remedy=error.remedy)


def check_run(survey: Survey, run: RunFile) -> None:
    """Read events and confounds of a run and build its design; what is wrong becomes a problem."""
    analysis = survey.ws.analysis
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VoxloomWarning)
        try:
            matrix = design_of(analysis, run, survey.inputs.headers[run.id])
            check_estimable(analysis, run.id, matrix)
            survey.designs[run.id] = matrix
        except InputError as error:
            survey.problems.append(problem(error))
    for caught_one in caught:
        where, _, what = str(caught_one.message).partition(": ")
        survey.problems.append(Problem(level="warning", where=where, what=what))


def design_of(analysis: Analysis, run: RunFile, info: NiftiInfo) -> pd.DataFrame:
    """The design matrix a run will have, from its files."""
    t_r = analysis.data.datasets[run.site].t_r or resolve_t_r(run.t_r, info.t_r, str(run.bold))
    confounds = None
    if run.confounds is not None and analysis.first_level.confounds:
        confounds = read_confounds(run.confounds)
        require_rows(confounds, info.n_volumes, str(run.confounds))
    events = None if run.events is None else read_events(run.events)
    return design.build(info.n_volumes, t_r, events, confounds, analysis.first_level, run.id)


def check_estimable(analysis: Analysis, where: str, matrix: pd.DataFrame) -> None:
    """Raise `ContrastError` for a contrast whose columns are there but which the design cannot estimate."""
    basis = reduce_design(matrix.to_numpy(dtype=float))
    for name, wanted in analysis.first_level.contrasts.items():
        try:
            rows = contrast_matrix(wanted.expression, list(matrix.columns))
        except ContrastError:
            continue  # a condition that this run lacks; judged over all runs
        if not is_estimable(rows, basis).all():
            raise ContrastError(
                where,
                f"contrast {name} ({wanted.expression}) is not estimable: the design is rank deficient.",
                "Take the dependent columns out of the model, or ask another question.",
            )


def require_answers(survey: Survey) -> None:
    """A contrast that no run can answer is an error of the analysis."""
    columns = {run_id: list(matrix.columns) for run_id, matrix in survey.designs.items()}
    if not columns:
        return
    try:
        notes = design.check_contrasts(survey.ws.analysis, columns)
    except ContrastError as error:
        survey.problems.append(problem(error))
    else:
        survey.problems += [Problem(level="warning", where="first_level.contrasts", what=note) for note in notes]


def done_tasks(ws: Workspace) -> dict[str, int]:
    """Tasks that earlier runs have finished, by stage."""
    if ws.study is None:
        return {}
    for stage in STAGES:
        recall(ws, stage)
    return {stage.name: len(ws.done(stage.name)) for stage in STAGES}
