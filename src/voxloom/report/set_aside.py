"""Who is not in a result, and why: from the records of the tasks that ended without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from voxloom.engine.ledger import Ledger
from voxloom.pipeline.line import stages_of
from voxloom.pipeline.running import PREPARE
from voxloom.pipeline.stages.group import NAME as GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxloom.engine.ledger import Record
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.pipeline.workspace import Workspace

#: Stages of single runs and subjects, after which there are maps.
UNTIL = "combine"


class SetAside(NamedTuple):
    """One thing that was not used."""

    subject: str
    stage: str
    what: str
    reason: str


def set_aside(ws: Workspace) -> list[SetAside]:
    """Runs and subjects of this analysis that were quarantined or failed, in order of the subjects."""
    found = {(one.what, one.reason): one for record in unwell(ws) for one in of_subjects(ws.planned, record)}
    return sorted(found.values())


def dropped(subjects: Sequence[str], test: GroupTest) -> list[SetAside]:
    """Subjects who have maps, but no row in the design of a model that drops such people."""
    reason = "has no row in the table of the model, or lacks a covariate of it (missing: drop)"
    return [SetAside(one, GROUP, test.name, reason) for one in subjects if one not in set(test.subjects)]


def unwell(ws: Workspace) -> Iterator[Record]:
    """Records of the tasks of this analysis that have no result."""
    ledger = Ledger(ws.objects)
    yield from (record for record in ledger.read(PREPARE).values() if record.status != "done")
    for stage in stages_of(ws.analysis, UNTIL):
        known = ledger.read(stage.name)
        yield from (
            known[task.key] for task in stage.tasks(ws) if task.key in known and known[task.key].status != "done"
        )


def of_subjects(subjects: tuple[str, ...], record: Record) -> Iterator[SetAside]:
    """The subject that a record is of, told from the parts of its key: ``<digest>/sub-01_task-x_run-1/0003``."""
    for part in record.key.split("/"):
        for subject in subjects:
            if part == subject or part.startswith(f"{subject}_"):
                yield SetAside(subject, record.stage, part, record.reason)
