"""How far an analysis is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxloom.engine.lock import StoreLock
from voxloom.engine.status import StageStatus, Status
from voxloom.io.bids.sites import find_runs
from voxloom.io.store.objects import Objects
from voxloom.io.study.open import is_study, open_study
from voxloom.pipeline.coverage import outside, outside_note
from voxloom.pipeline.line import recall, stages_of
from voxloom.pipeline.running import PREPARE, as_analysis
from voxloom.pipeline.sources import stale_notes
from voxloom.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from voxloom.spec import Analysis


def status(spec: Analysis | str | Path | Mapping[str, Any]) -> Status:
    """How far an analysis is: tasks done, failed and quarantined by stage, and who works on it now.

    A stage's tasks are known once the stages before it are done; until then it counts those it can see.
    """
    analysis = as_analysis(spec)
    ws = Workspace(analysis, Objects(analysis.store.path), runs=find_runs(analysis.data))
    if not is_study(ws.objects):
        return Status(stages=())
    ws.study = open_study(ws.url)
    stages, notes = [unusable(ws)], stale_notes(ws)
    for stage in stages_of(analysis):
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
