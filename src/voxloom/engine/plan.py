"""What a run will do, before it does it: tasks, bytes, memory, and what is wrong with the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from voxloom.errors import MemoryBudgetError

if TYPE_CHECKING:
    from collections.abc import Sequence

MiB = 2**20
#: Files named in the rendered plan; the rest is counted.
LISTED_FILES = 12


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """Work of one stage.

    Parameters
    ----------
    name : str
    n_tasks, n_done : int
        All tasks, and those finished by earlier runs.
    bytes_read, bytes_written : int
        Of the tasks still to do, as their records will count them (`voxloom.engine.task.Output`).
    peak_memory : int
        Bytes one task needs at most, on top of the libraries.
    cpu_seconds : float or None
        CPU time of the tasks still to do, estimated; None when it was not.
    flops : float
        Operations of the matrix products, where these are most of the work.
    remark : str
        What else is to be known of the stage, for the user.
    """

    name: str
    n_tasks: int
    n_done: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    peak_memory: int = 0
    cpu_seconds: float | None = None
    flops: float = 0.0
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something the user should know before running.

    Parameters
    ----------
    level : {"error", "warning"}
        Error: the input will be quarantined, or the run refused. Warning: the result stands.
    where, what, remedy : str
        As in `voxloom.errors.InputError`.
    """

    level: Literal["error", "warning"]
    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.what}" + (f" {self.remedy}" if self.remedy else "")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before it starts.

    Parameters
    ----------
    stages : tuple of StagePlan
        In the order they run.
    problems : tuple of Problem
    files : tuple of str
        Files the run will write.
    workers : int
        Processes that will share the work.
    """

    stages: Sequence[StagePlan]
    problems: Sequence[Problem] = ()
    files: Sequence[str] = ()
    workers: int = 1

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems that keep some input out of the results."""
        return tuple(problem for problem in self.problems if problem.level == "error")

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time of all stages, estimated; None when it was not."""
        known = [stage.cpu_seconds for stage in self.stages if stage.cpu_seconds is not None]
        return sum(known) if known else None

    def require_fits(self, memory_budget: int) -> None:
        """Raise unless every task fits into the budget.

        Parameters
        ----------
        memory_budget : int
            Bytes one task may use.

        Raises
        ------
        MemoryBudgetError
            Names the neediest stage, what it needs, and the budget that would do.
        """
        for stage in sorted(self.stages, key=lambda stage: -stage.peak_memory)[:1]:
            if stage.peak_memory > memory_budget:
                enough = -(-stage.peak_memory // (64 * MiB)) * 64
                raise MemoryBudgetError(
                    f"stage {stage.name}",
                    f"a task needs {stage.peak_memory / MiB:.0f} MiB, but memory_budget is "
                    f"{memory_budget / MiB:.0f} MiB.",
                    f"Set memory_budget: {enough}MiB, or --memory-budget {enough}MiB.",
                )

    def render(self) -> str:
        """Return the plan as text: a table of stages, the files, the problems."""
        rows = [("stage", "tasks", "done", "reads", "writes", "memory per task", "CPU")]
        rows += [
            (
                s.name,
                str(s.n_tasks),
                str(s.n_done),
                size(s.bytes_read),
                size(s.bytes_written),
                size(s.peak_memory),
                duration(s.cpu_seconds),
            )
            for s in self.stages
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))])
            for row in rows
        ]
        if self.cpu_seconds:
            shared = f"; {duration(self.cpu_seconds / self.workers)} on {self.workers} workers"
            lines.append(f"about {duration(self.cpu_seconds)} of CPU time{shared if self.workers > 1 else ''}")
        lines += [f"{s.name}: {s.flops:.2g} operations" for s in self.stages if s.flops]
        lines += [f"{s.name}: {s.remark}" for s in self.stages if s.remark]
        if self.files:
            lines += [
                "",
                f"writes {len(self.files)} files:",
                *(f"  {name}" for name in self.files[:LISTED_FILES]),
            ]
        if len(self.files) > LISTED_FILES:
            lines.append(f"  ... and {len(self.files) - LISTED_FILES} more")
        if self.problems:
            lines += ["", *map(str, self.problems)]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()


def duration(seconds: float | None) -> str:
    """Seconds for people: ``0.4 s``, ``3.2 min``, ``5 h``; ``-`` for none."""
    if not seconds:
        return "-"
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"


def size(n_bytes: int) -> str:
    """Bytes for people: ``512 MiB``, ``1.5 GiB``; ``-`` for none."""
    if n_bytes <= 0:
        return "-"
    value, units = float(n_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.3g} {units[0]}"
