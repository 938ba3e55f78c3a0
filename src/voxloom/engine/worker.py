"""Runs one task, wherever that is: attempts, one BLAS thread, the record written after the data."""

from __future__ import annotations

import errno
import gc
import signal
import socket
import time
import traceback
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import dask

from voxloom.engine import one_thread
from voxloom.engine.ledger import Record, is_done
from voxloom.errors import Cancelled, InputError, StageError, VoxloomWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from voxloom.engine.ledger import Ledger
    from voxloom.engine.task import Job, Task

T = TypeVar("T")

#: Wait before the second attempt, seconds; doubled for each further one.
BACKOFF_SECONDS = 0.5
#: Asking the scheduler costs about 1 ms; a task that asks more often is answered from memory.
ASK_EVERY_SECONDS = 0.5
CANCELLED_TEXT = "stopped; run the same command again to go on"

#: Another attempt mends none of these.
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_is_stopped: ContextVar[Callable[[], bool]] = ContextVar("is_stopped")


def check_cancelled() -> None:
    """Raise `Cancelled` when the run was asked to stop; long tasks call it between sub-blocks."""
    if _is_stopped.get(_never)():
        raise Cancelled(CANCELLED_TEXT)


def execute_job(job: Job) -> Record:
    """Run a job on a Dask worker; see `execute`."""
    return execute(job.task, job.ledger, retries=job.retries, is_stopped=_SchedulerFlag(job.stop), attempt=job.attempt)


def execute(task: Task, ledger: Ledger, *, retries: int, is_stopped: Callable[[], bool], attempt: int = 1) -> Record:
    """Run a task, write its record, return it; one that is done is not run.

    A task may be done already: its worker died after it wrote the record and before it told the scheduler, which
    then gives it to another. An earlier record goes before the data do: a task killed between its data and its
    record, whose inputs are then set back to what they were, would else count as done with data that are not its
    own.

    Lazy arrays that a task computes are computed in its own thread: sent to the scheduler, they would wait
    for the very worker that waits for them. BLAS has one thread everywhere, in the client's process too,
    because sums by several threads are not the same bits.

    Raises
    ------
    Cancelled
        The task stopped because the run was asked to.
    StageError
        The disk is full or the record cannot be written: no other task can succeed either.
    """
    started = time.perf_counter()
    token = _is_stopped.set(is_stopped)
    try:
        _, known = _retrying(lambda: ledger.find(task), retries)
        if known is not None and is_done(task, known):
            return known
        if known is not None:
            _retrying(lambda: ledger.forget(known), retries)
        one_thread.enforce()
        with dask.config.set(scheduler="synchronous"), _collected() as notes:
            record = _outcome(task, retries, attempt)
        record = replace(
            record,
            seconds=round(time.perf_counter() - started, 4),
            details=record.details | ({"warnings": notes} if notes else {}),
        )
        _retrying(lambda: ledger.write(record), retries)
    except Cancelled:
        raise
    except Exception as error:
        full = _is_disk_full(error)
        what = "no space left for" if full else "cannot write the record of"
        raise StageError(
            f"{task.stage}: {what} {task.key} on {socket.gethostname()} ({one_line(error)}). "
            f"{'Free some space' if full else 'Mend that'}, then run the same command again; "
            "what was done is kept."
        ) from error
    finally:
        _is_stopped.reset(token)
    return record


def failure(task: Task, reason: str, *, attempt: int = 1, trace: str = "") -> Record:
    """Record of a task that failed for another reason than its input."""
    details = {"traceback": trace} if trace else {}
    return replace(_record(task, attempt), status="failed", reason=reason, details=details)


def dask_setup(worker: Any) -> None:
    """Preload hook of our workers: Ctrl-C reaches the whole process group; only the client acts on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def dask_teardown(worker: Any) -> None:
    """Preload hook of our workers: the interpreter's last collections cost half a second and find nothing."""
    gc.freeze()


class _SchedulerFlag:
    """Whether the named event is set, asked of the scheduler at most every `ASK_EVERY_SECONDS`.

    By the worker's own connection: `distributed.Event` would make a client in every worker, and one that is still
    there when its process ends says so with a traceback.
    """

    def __init__(self, name: str) -> None:
        self.name, self.asked, self.answer = name, 0.0, False

    def __call__(self) -> bool:
        if not self.answer and time.monotonic() - self.asked >= ASK_EVERY_SECONDS:
            from distributed import get_worker  # 0.5 s, which a run without a cluster need not spend
            from distributed.utils import sync

            worker = get_worker()
            self.answer = bool(sync(worker.loop, worker.scheduler.event_is_set, name=self.name))
            self.asked = time.monotonic()
        return self.answer


def _never() -> bool:
    return False


def _record(task: Task, attempt: int) -> Record:
    return Record(
        stage=task.stage,
        key=task.key,
        status="done",
        inputs=task.inputs,
        attempt=attempt,
        host=socket.gethostname(),
        finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def _outcome(task: Task, retries: int, attempt: int) -> Record:
    """Run the task; errors become records, but for those that end the stage."""
    try:
        used, output = _retrying(lambda: task.function(**task.kwargs), retries)
    except Cancelled:
        raise
    except InputError as error:
        return replace(_record(task, attempt), status="quarantined", reason=str(error))
    except Exception as error:
        if _is_disk_full(error):
            raise
        used = retries if _is_transient(error) else 0
        return failure(task, one_line(error), attempt=attempt + used, trace=traceback.format_exc())
    return replace(
        _record(task, attempt + used),
        digest=output.digest,
        bytes_read=output.bytes_read,
        bytes_written=output.bytes_written,
        details=dict(output.details),
        wrote=list(output.wrote),
    )


def _retrying(call: Callable[[], T], retries: int) -> tuple[int, T]:
    """Call until it succeeds, fails for good, or `retries` are used up; return retries used and result."""
    for used in range(retries):
        try:
            return used, call()
        except OSError as error:
            if not _is_transient(error):
                raise
        check_cancelled()
        time.sleep(BACKOFF_SECONDS * 2**used)
    return retries, call()


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, OSError) and not isinstance(error, _LASTING) and not _is_disk_full(error)


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether the error, or one it comes from, says that the disk or the quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _collected() -> Iterator[list[str]]:
    """Keep voxloom's warnings for the record, each text once; pass all others on."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VoxloomWarning)
        yield notes
    for warning in caught:
        if not issubclass(warning.category, VoxloomWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif str(warning.message) not in notes:
            notes.append(str(warning.message))


def one_line(error: BaseException) -> str:
    """Type and message of an error, line breaks taken out."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
