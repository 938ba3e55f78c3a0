"""Runs the tasks of one stage and remembers how each ended."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxloom.engine import one_thread
from voxloom.engine.events import Note, StageFinished, StageStarted, TaskFinished, ignore
from voxloom.engine.ledger import is_done
from voxloom.engine.signals import stop_on_signal
from voxloom.engine.task import Output, Task
from voxloom.engine.turns import Turns
from voxloom.engine.worker import CANCELLED_TEXT, execute
from voxloom.errors import Cancelled, StageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from threading import Event

    from distributed import Client

    from voxloom.engine.events import OnEvent
    from voxloom.engine.ledger import Ledger, Record

__all__ = ["Output", "StageResult", "Task", "run_stage"]

#: Reasons spelled out in the message of a failed stage.
LISTED_REASONS = 10


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """How a stage ended.

    Parameters
    ----------
    stage : str
    records : dict of str to Record
        Of every task that ended, in the tasks' order, those done by earlier runs included.
    done_before, done_now : int
        Tasks finished by earlier runs, and by this one.
    failed, quarantined : tuple of Record
    seconds : float
        Wall time of this run.
    """

    stage: str
    records: dict[str, Record]
    done_before: int
    done_now: int
    failed: tuple[Record, ...]
    quarantined: tuple[Record, ...]
    seconds: float

    def require_complete(self) -> None:
        """Raise `StageError` with the list when a task failed or was quarantined."""
        bad = [*self.failed, *self.quarantined]
        if not bad:
            return
        head = f"{self.stage}: {len(self.failed)} tasks failed, {len(self.quarantined)} were"
        lines = [f"  {record.key}: {record.reason}" for record in bad[:LISTED_REASONS]]
        more = [f"  ... and {len(bad) - LISTED_REASONS} more"] if len(bad) > LISTED_REASONS else []
        raise StageError("\n".join([f"{head} quarantined, of {len(self.records)}:", *lines, *more]))


def run_stage(
    stage: str,
    tasks: Iterable[Task],
    *,
    ledger: Ledger,
    client: Client | None = None,
    on_event: OnEvent | None = None,
    on_done: Callable[[Record], None] | None = None,
    window: int = 2,
    retries: int = 2,
) -> StageResult:
    """Run the tasks that are not done yet; go on after failures, but for what comes after a task that failed.

    Parameters
    ----------
    stage : str
    tasks : iterable of Task
        Their keys are unique.
    ledger : Ledger
        Says what is done already; the process that runs a task writes its record, right after its data.
    client : distributed.Client, optional
        Where to run; in this process, one after the other, when not given.
    on_event : callable, optional
        Called in this thread with each event.
    on_done : callable, optional
        Called in this thread with the record of each task that is done, before those that come after it begin.
    window : int
        Tasks in flight per thread of the cluster: one that runs, one that waits beside it.
    retries : int
        Further attempts after a transient input/output error.

    Returns
    -------
    StageResult
        Failures and quarantines are in it, not raised.

    Raises
    ------
    Cancelled
        SIGINT or SIGTERM arrived; finished tasks are kept.
    StageError
        The disk is full, records cannot be written, or the scheduler went away; finished tasks are kept.
    """
    emit, started = on_event or ignore, time.perf_counter()
    wanted = _by_key(stage, tasks)
    before = ledger.read(stage)
    records = {key: before[key] for key, task in wanted.items() if is_done(task, before.get(key))}
    turns = Turns([task for key, task in wanted.items() if key not in records])
    done_before = len(records)
    emit(StageStarted(stage, total=len(wanted), done=done_before))
    with (
        stop_on_signal() as stop,
        closing(_finished(turns, ledger, client, window, retries, stop, emit)) as finished,
    ):
        for record in finished:
            records[record.key] = record
            _announce(record, emit)
            if record.status == "done":
                if on_done is not None:
                    on_done(record)
                turns.done(record.key)
        if stop.is_set():  # it came with the last task
            raise Cancelled(CANCELLED_TEXT)
    ordered = {key: records[key] for key in wanted if key in records}
    result = _result(stage, ordered, done_before, time.perf_counter() - started)
    emit(
        StageFinished(
            stage,
            done=result.done_before + result.done_now,
            failed=len(result.failed),
            quarantined=len(result.quarantined),
            seconds=result.seconds,
        )
    )
    return result


def _finished(
    turns: Turns,
    ledger: Ledger,
    client: Client | None,
    window: int,
    retries: int,
    stop: Event,
    emit: OnEvent,
) -> Generator[Record]:
    if client is None:
        yield from _run_here(turns, ledger=ledger, retries=retries, stop=stop)
    else:
        from voxloom.engine.window import Window  # with distributed, 0.5 s

        flight = Window(client, ledger=ledger, retries=retries, width=window, stop=stop, emit=emit)
        yield from flight.run(turns)


def _run_here(turns: Turns, *, ledger: Ledger, retries: int, stop: Event) -> Generator[Record]:
    """Run the tasks in this process, one after the other; yield each record.

    Raises
    ------
    Cancelled
        `stop` was set.
    """
    with one_thread.lifted_at_end():
        while (task := turns.take()) is not None:
            if stop.is_set():
                raise Cancelled(CANCELLED_TEXT)
            yield execute(task, ledger, retries=retries, is_stopped=stop.is_set)


def _by_key(stage: str, tasks: Iterable[Task]) -> dict[str, Task]:
    wanted: dict[str, Task] = {}
    for task in tasks:
        if task.stage != stage or task.key in wanted:
            raise ValueError(f"task {task.stage}/{task.key} is of another stage than {stage}, or is given twice")
        wanted[task.key] = task
    return wanted


def _announce(record: Record, emit: OnEvent) -> None:
    for text in record.details.get("warnings", ()):
        emit(Note(text))
    emit(TaskFinished(record.stage, record))


def _result(stage: str, records: dict[str, Record], done_before: int, seconds: float) -> StageResult:
    def of(status: str) -> tuple[Record, ...]:
        return tuple(record for record in records.values() if record.status == status)

    return StageResult(
        stage=stage,
        records=records,
        done_before=done_before,
        done_now=len(of("done")) - done_before,
        failed=of("failed"),
        quarantined=of("quarantined"),
        seconds=seconds,
    )
