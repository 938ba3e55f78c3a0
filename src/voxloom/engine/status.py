"""How far a run is, from its ledger: for a person who looks in from another terminal, or the day after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxloom.engine.ledger import is_done

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from voxloom.engine.ledger import Record
    from voxloom.engine.lock import Holder
    from voxloom.engine.task import Task


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """How far one stage is.

    Parameters
    ----------
    name : str
    total, done : int
        Tasks, and those finished with the inputs as they are now.
    failed, quarantined : tuple of Record
        Tasks whose last attempt ended so.
    seconds : float
        Task time spent on the tasks done, summed.
    """

    name: str
    total: int
    done: int
    failed: tuple[Record, ...] = ()
    quarantined: tuple[Record, ...] = ()
    seconds: float = 0.0

    @classmethod
    def of(cls, name: str, tasks: Iterable[Task], records: Mapping[str, Record]) -> StageStatus:
        """Status of the tasks of a stage, from its records by key."""
        wanted = list(tasks)
        ended = [records[task.key] for task in wanted if task.key in records]
        done = [records[task.key] for task in wanted if is_done(task, records.get(task.key))]
        return cls(
            name=name,
            total=len(wanted),
            done=len(done),
            failed=tuple(record for record in ended if record.status == "failed"),
            quarantined=tuple(record for record in ended if record.status == "quarantined"),
            seconds=sum(record.seconds for record in done),
        )


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far an analysis is.

    Parameters
    ----------
    stages : sequence of StageStatus
        In the order they run.
    holder : Holder, optional
        The process that works on the store now, if any.
    notes : sequence of str
        What else the user should know.
    """

    stages: Sequence[StageStatus]
    holder: Holder | None = None
    notes: Sequence[str] = ()

    @property
    def complete(self) -> bool:
        """Whether every task of every stage is done."""
        return all(stage.done == stage.total for stage in self.stages)

    def render(self) -> str:
        """Return the status as text: a line per stage, then every task that is not well, and why."""
        width = max((len(stage.name) for stage in self.stages), default=0)
        lines = [
            f"{stage.name.ljust(width)}  {stage.done} of {stage.total} done ({stage.seconds:.1f} s)"
            + (f", {len(stage.failed)} failed" if stage.failed else "")
            + (f", {len(stage.quarantined)} quarantined" if stage.quarantined else "")
            for stage in self.stages
        ]
        lines += [
            f"{record.status}: {record.stage} {record.key} ({record.finished}): {record.reason}"
            for stage in self.stages
            for record in (*stage.failed, *stage.quarantined)
        ]
        lines += [f"note: {note}" for note in self.notes]
        if self.holder is not None:
            state = "running" if self.holder.is_alive() else "ended without finishing"
            lines.append(f"{state}: {self.holder}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()
