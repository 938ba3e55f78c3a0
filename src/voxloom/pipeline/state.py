"""How far an analysis is, and whether its store is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxloom.engine.events import StageFinished, StageStarted, TaskFinished, ignore
from voxloom.engine.ledger import Record
from voxloom.engine.lock import StoreLock
from voxloom.engine.status import StageStatus, Status
from voxloom.io.objects import Objects
from voxloom.io.regions import damaged_shards
from voxloom.io.sites import find_runs
from voxloom.io.study import is_study, open_study
from voxloom.pipeline.coverage import outside, outside_note
from voxloom.pipeline.running import PREPARE, STAGES, as_analysis, recall
from voxloom.pipeline.sources import stale_notes
from voxloom.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from pathlib import Path

    from voxloom.engine.events import OnEvent
    from voxloom.spec import Analysis


def status(spec: Analysis | str | Path | Mapping[str, Any]) -> Status:
    """How far an analysis is: tasks done, failed and quarantined by stage, and who works on it now.

    A stage's tasks are known once the stages before it are done; until then it counts those it can see.
    """
    analysis = as_analysis(spec)
    ws = Workspace(analysis, Objects(analysis.store.path), find_runs(analysis.data))
    if not is_study(ws.objects):
        return Status(stages=())
    ws.study = open_study(ws.url)
    stages, notes = [unusable(ws)], stale_notes(ws)
    for stage in STAGES:
        stages.append(StageStatus.of(stage.name, stage.tasks(ws), ws.ledger.read(stage.name)))
        recall(ws, stage)
    left_out = outside_note(outside(ws))
    notes += [left_out] if left_out else []
    return Status(stages=tuple(stages), holder=StoreLock(ws.objects).holder(), notes=tuple(notes))


def unusable(ws: Workspace) -> StageStatus:
    """Runs that were set aside before the first stage, as a stage of its own."""
    known = ws.ledger.read(PREPARE)
    found = tuple(known[run.id] for run in ws.runs if run.id in known)
    return StageStatus(name=PREPARE, total=len(ws.runs), done=len(ws.runs) - len(found), quarantined=found)


def verify(store: str | PathLike[str], *, on_event: OnEvent | None = None) -> list[str]:
    """Read every shard of a store again and check it against its checksums.

    Parameters
    ----------
    store : path-like or str
    on_event : callable, optional
        Receives an event per array.

    Returns
    -------
    list of str
        A line for each shard that is damaged or missing; none for a sound store. Arrays of which nothing has
        been written yet, as an interrupted run leaves them, are no problem.

    Raises
    ------
    StoreError
        There is no study.
    """
    objects, emit = open_study(store).objects, on_event or ignore
    arrays = written_arrays(objects)
    emit(StageStarted("verify", total=len(arrays), done=0))
    problems: list[str] = []
    for path in arrays:
        found = [str(damage) for damage in damaged_shards(objects, path)]
        problems += found
        emit(TaskFinished("verify", Record(stage="verify", key=path, status="failed" if found else "done", inputs="")))
    emit(StageFinished("verify", len(arrays) - len(problems), len(problems), 0, 0.0))
    return problems


def written_arrays(objects: Objects) -> list[str]:
    """Paths of the arrays that hold data; those of complete runs whether they do or not."""
    keys = objects.list("")
    paths = [key.removesuffix("/zarr.json") for key in keys if key.endswith("/zarr.json")]
    holding = {key.partition("/c/")[0] for key in keys if "/c/" in key}
    runs = {path for path in paths if path.startswith("runs/") and path.count("/") == 2}
    return [path for path in paths if path in holding | runs]
