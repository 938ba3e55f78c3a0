"""How far an analysis is, and whether its store is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxloom.engine.lock import StoreLock
from voxloom.engine.status import StageStatus, Status
from voxloom.io.store import Objects
from voxloom.io.study import is_study, open_study
from voxloom.pipeline.running import STAGES, as_analysis, recall
from voxloom.pipeline.workspace import Workspace, find_runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from voxloom.spec import Analysis


def status(spec: Analysis | str | Path | Mapping[str, Any]) -> Status:
    """How far an analysis is: tasks done, failed and quarantined by stage, and who works on it now.

    A stage's tasks are known once the stages before it are done; until then it counts those it can see.
    """
    analysis = as_analysis(spec)
    ws = Workspace(analysis, Objects(analysis.store.path), find_runs(analysis))
    if not is_study(ws.objects):
        return Status(stages=())
    ws.study = open_study(ws.url)
    stages = []
    for stage in STAGES:
        stages.append(StageStatus.of(stage.name, stage.tasks(ws), ws.ledger.read(stage.name)))
        recall(ws, stage)
    return Status(stages=tuple(stages), holder=StoreLock(ws.objects).holder())
