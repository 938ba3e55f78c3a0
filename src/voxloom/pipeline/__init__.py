"""The straight line, stage by stage: ingest, design, fit, combine, consolidate, group, infer, correct, export.

Every stage is a module with a `NAME` and a function ``tasks(workspace) -> list of Task``; the task's function
runs on a worker. A task's ``inputs`` is a digest over its settings and the digests of what it reads, so a
changed input redoes exactly what depends on it, and nothing else.
"""

from __future__ import annotations

from voxloom.engine.status import Status
from voxloom.pipeline.line import RunResult
from voxloom.pipeline.planning.plan import plan
from voxloom.pipeline.removal import remove_run
from voxloom.pipeline.running import export, run
from voxloom.pipeline.state import status
from voxloom.pipeline.verification import repair, verify, verify_sources

__all__ = [
    "RunResult",
    "Status",
    "export",
    "plan",
    "remove_run",
    "repair",
    "run",
    "status",
    "verify",
    "verify_sources",
]
