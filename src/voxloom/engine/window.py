"""How tasks reach the processes of a cluster: a window of a few per worker."""

from __future__ import annotations

import queue
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import distributed
from distributed.scheduler import KilledWorker

from voxloom.engine.events import Note
from voxloom.engine.task import Job
from voxloom.engine.worker import CANCELLED_TEXT, execute_job, failure, one_line
from voxloom.errors import Cancelled, StageError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from voxloom.engine.events import OnEvent
    from voxloom.engine.ledger import Ledger, Record
    from voxloom.engine.task import Task
    from voxloom.engine.turns import Turns

#: How often the client looks for workers that came or went, seconds.
TICK_SECONDS = 0.5
#: How often it looks for a request to stop: part of the time between Ctrl-C and the end.
POLL_SECONDS = 0.1
#: A cluster of this machine that has had no worker for so long will not get one: they die as they start.
DESERTED_SECONDS = 60.0
LOST_SCHEDULER = "lost the scheduler. Run the same command again when it is back; what was done is kept."


class Window:
    """A few tasks per worker in flight; results are dropped as they come, so memory is flat.

    The scheduler runs a task whose worker died again, a few times. It blames whatever was on the dead worker,
    also neighbours that only waited there; so a task it gives up on is tried once more at the end, alone on
    the cluster, and only then counts as failed.

    Parameters
    ----------
    client : distributed.Client
    ledger : Ledger
    retries : int
        Further attempts after a transient input/output error.
    width : int
        Tasks in flight per thread of the cluster.
    stop : threading.Event
        Set to stop.
    emit : callable
        Receives notes.
    """

    def __init__(
        self,
        client: distributed.Client,
        *,
        ledger: Ledger,
        retries: int,
        width: int,
        stop: threading.Event,
        emit: OnEvent,
    ) -> None:
        self.client, self.ledger, self.retries, self.width = client, ledger, retries, width
        self.stop, self.emit = stop, emit
        self.run_id = uuid.uuid4().hex
        self.flying: dict[str, tuple[Task, distributed.Future[Record]]] = {}
        self.landed: queue.SimpleQueue[distributed.Future[Record]] = queue.SimpleQueue()
        self.suspects: deque[Task] = deque()
        self.slots, self.looked = -1, 0.0
        self.manned = time.monotonic()

    def run(self, turns: Turns) -> Iterator[Record]:
        """Yield the record of each task as it ends; the caller tells `turns` which are done.

        Raises
        ------
        Cancelled
            `stop` was set; tasks in flight are asked to stop and are let go.
        StageError
            The disk is full, or the scheduler went away.
        """
        try:
            while turns:
                yield from self._drain(turns.take, alone=False)
                yield from self._drain(self._suspect, alone=True)
        finally:
            if self.flying and self.client.status == "running":
                self._abandon()

    def _drain(self, take: Callable[[], Task | None], *, alone: bool) -> Iterator[Record]:
        while True:
            if self.stop.is_set():
                raise Cancelled(CANCELLED_TEXT)
            limit = 1 if alone else max(1, self.width * self._slots())
            while len(self.flying) < limit and (task := take()) is not None:
                self._submit(task, attempt=2 if alone else 1)
            if not self.flying:
                return
            yield from self._records(self._landed(), alone)

    def _suspect(self) -> Task | None:
        return self.suspects.popleft() if self.suspects else None

    def _slots(self) -> int:
        """Threads of the cluster now, asked once a tick."""
        if time.monotonic() - self.looked > TICK_SECONDS:
            try:
                found = sum(self.client.nthreads().values())
            except OSError as error:  # distributed's CommClosedError is one
                raise StageError(LOST_SCHEDULER) from error
            if found == 0 != self.slots:
                self.emit(Note("the cluster has no worker; waiting for one"))
            self.slots, self.looked = found, time.monotonic()
            self._require_workers()
        return self.slots

    def _require_workers(self) -> None:
        """Give up on a local cluster without workers; one elsewhere may be waiting for its machines."""
        if self.slots:
            self.manned = self.looked
        elif self.looked - self.manned > DESERTED_SECONDS and isinstance(self.client.cluster, distributed.LocalCluster):
            raise StageError(
                f"the local cluster has had no worker for {DESERTED_SECONDS:.0f} s: they cannot start. "
                "Run with --cluster threads to see why; what was done is kept."
            )

    def _submit(self, task: Task, attempt: int) -> None:
        job = Job(
            task=replace(task, after=()),
            ledger=self.ledger,
            retries=self.retries,
            stop=self._stop_name,
            attempt=attempt,
        )
        key = f"{task.stage}-{self.run_id}-{attempt}-{task.key}"
        future = self.client.submit(execute_job, job, key=key, pure=False)
        self.flying[key] = task, future
        future.add_done_callback(self.landed.put)

    def _landed(self) -> list[tuple[Task, distributed.Future[Record]]]:
        """All tasks that have ended since; none after a poll."""
        try:
            futures = [self.landed.get(timeout=POLL_SECONDS)]
        except queue.Empty:
            return []
        futures += [self.landed.get() for _ in range(self.landed.qsize())]
        return [self.flying.pop(str(future.key)) for future in futures]

    def _records(self, landed: Sequence[tuple[Task, distributed.Future[Record]]], alone: bool) -> Iterator[Record]:
        """Their records; none of a task that will be tried again.

        The ledger has what the future holds, and costs two messages less; it is not asked where it lags behind
        (a network disk), or where the task could not write.
        """
        finished = [task for task, future in landed if future.status == "finished"]
        known = dict(zip((task.key for task in finished), self.ledger.find_all(finished), strict=True))
        try:
            for task, future in landed:
                record = known.get(task.key)
                if record is None or record.inputs != task.inputs:
                    record = self._settle(task, future, alone)
                if record is not None:
                    yield record
        finally:
            for _, future in landed:
                future.release()

    def _settle(self, task: Task, future: distributed.Future[Record], alone: bool) -> Record | None:
        if future.status == "finished":
            record: Record = future.result()
            return record
        if future.status != "error":
            raise StageError(LOST_SCHEDULER)
        error = future.exception()
        if isinstance(error, (StageError, Cancelled)):
            raise error
        if isinstance(error, KilledWorker) and not alone:
            self.suspects.append(task)
            return None
        # not the task's own error, which its worker would have recorded: it could not start, or not end
        reason = _death(error) if isinstance(error, KilledWorker) else one_line(error)
        record = failure(task, reason, attempt=2 if alone else 1)
        self.ledger.write(record)
        return record

    @property
    def _stop_name(self) -> str:
        return f"voxloom-stop-{self.run_id}"

    def _abandon(self) -> None:
        """Let go of the tasks in flight: those that wait never start, those that run end at their next check.

        The event stays set, since tasks that run ask for it later; the scheduler keeps its name, a few bytes.
        """
        with suppress(OSError):  # the scheduler may be what is gone
            distributed.Event(self._stop_name, client=self.client).set()
            self.client.cancel([future for _, future in self.flying.values()])


def _death(error: KilledWorker) -> str:
    deaths = error.allowed_failures + 1
    return (
        f"{2 * deaths} workers died while they had it, the last {deaths} with nothing else to do. Most often "
        "a worker is killed for the memory it uses: lower memory_budget or give workers more; "
        "else see the workers' logs."
    )
