"""What has been done: one small JSON object per task, written after the task's data.

Objects are only ever put whole, got and listed, so that a local disk and an object store serve alike.
A task is done when its record says so for the same inputs; data without a record does not count. A record is
dropped before its data are touched, so that none speaks of data that are half replaced.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from voxloom.sealed import BLANK, KEY, is_sealed, seal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxloom.engine.task import Task

#: Reads in flight. An object store answers in about 20 ms, so 50,000 records take half a minute, not 17.
READERS = 32

Status = Literal["done", "failed", "quarantined"]


class Objects(Protocol):
    """Bytes by key. Keys are relative, with ``/`` between their parts; `put` and `put_new` are atomic."""

    def get(self, key: str) -> bytes | None:
        """Return the bytes under `key`; None where there are none."""

    def put(self, key: str, value: bytes) -> None:
        """Write `value` under `key`, replacing what was there."""

    def put_new(self, key: str, value: bytes) -> bool:
        """Write `value` under `key` unless it exists; return whether it was written."""

    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens where it does not exist."""

    def list(self, prefix: str) -> list[str]:
        """Every key that starts with `prefix`."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """How one task ended.

    Parameters
    ----------
    stage, key : str
        The task.
    status : {"done", "failed", "quarantined"}
        Quarantined: its input is wrong, and the user must mend it. Failed: anything else.
    inputs : str
        Digest of all that determines the result.
    digest : str
        Digest of what was written; empty unless done.
    bytes_read, bytes_written : int
        As in `voxloom.engine.task.Output`.
    seconds : float
        Wall time, retries included.
    attempt : int
        Number of the attempt that gave this record, from 1.
    host : str
        Where it ran.
    finished : str
        When, UTC, ISO 8601.
    reason : str
        Why it is not done; empty when it is.
    details : dict
        JSON-able values of the stage's own; ``warnings`` (list of str) and ``traceback`` (str) if any.
    wrote : list of str
        What was written: see `engine.task.Output`.
    """

    stage: str
    key: str
    status: Status
    inputs: str
    digest: str = ""
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    attempt: int = 1
    host: str = ""
    finished: str = ""
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    wrote: list[str] = field(default_factory=list)

    def to_json(self) -> bytes:
        """UTF-8 JSON, one object with a checksum; NumPy scalars in `details` become numbers."""
        values = asdict(self) | BLANK
        return seal(json.dumps(values, sort_keys=True, default=lambda scalar: scalar.item()).encode())

    @classmethod
    def from_json(cls, raw: bytes) -> Record | None:
        """Inverse of `to_json`; None for bytes that are not what was written: such a task counts as not done."""
        if not is_sealed(raw):
            return None
        values = json.loads(raw)
        del values[KEY]
        try:
            return cls(**values)
        except TypeError:  # of another version, with other fields
            return None


def is_done(task: Task, record: Record | None) -> bool:
    """Whether the record says that this very task, with these inputs, is done."""
    return record is not None and record.status == "done" and record.inputs == task.inputs


@dataclass(frozen=True)
class Ledger:
    """The records of one store. Picklable when `objects` is: workers write, the client reads.

    Parameters
    ----------
    objects : Objects
    """

    objects: Objects

    def write(self, record: Record) -> None:
        """Keep a record, replacing an earlier one of the same task."""
        self.objects.put(f"ledger/{record.stage}/{record.key}.json", record.to_json())

    def find(self, task: Task) -> Record | None:
        """Record of a task as it ended last, with whatever inputs."""
        raw = self.objects.get(f"ledger/{task.stage}/{task.key}.json")
        return None if raw is None else Record.from_json(raw)

    def find_all(self, tasks: Sequence[Task]) -> list[Record | None]:
        """`find` of each task."""
        if len(tasks) < 2:
            return [self.find(task) for task in tasks]
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self.find, tasks))

    def forget(self, record: Record) -> None:
        """Drop the record of this stage and key, if there is one, so that its task counts as not done."""
        self.drop(record.stage, record.key)

    def drop(self, stage: str, key: str) -> None:
        """Drop the record of a task, if there is one."""
        self.objects.delete(f"ledger/{stage}/{key}.json")

    def forget_all(self, stage: str, prefix: str) -> None:
        """Drop every record of a stage whose key lies below `prefix`: their data are about to go."""
        for key in self.objects.list(f"ledger/{stage}/{prefix}/"):
            self.objects.delete(key)

    def read(self, stage: str) -> dict[str, Record]:
        """Every record of a stage, by task key."""
        names = self.objects.list(f"ledger/{stage}/")
        batches = [names[i::READERS] for i in range(min(READERS, len(names)))]
        with ThreadPoolExecutor(READERS) as pool:
            found = [record for batch in pool.map(self._read, batches) for record in batch]
        return {record.key: record for record in sorted(found, key=lambda record: record.key)}

    def _read(self, names: Iterable[str]) -> list[Record]:
        raws = (self.objects.get(name) for name in names)
        records = (Record.from_json(raw) for raw in raws if raw is not None)
        return [record for record in records if record is not None]


class Forgetful:
    """`Objects` that keep nothing: for the ledger of tasks that are to run every time."""

    def get(self, key: str) -> None:
        """Find nothing."""

    def put(self, key: str, value: bytes) -> None:
        """Keep nothing."""

    def put_new(self, key: str, value: bytes) -> bool:
        """Keep nothing; there was nothing."""
        return True

    def delete(self, key: str) -> None:
        """Remove nothing."""

    def list(self, prefix: str) -> list[str]:
        """Find nothing."""
        return []
