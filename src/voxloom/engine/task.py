"""One unit of work, what it returns, and how it travels to a worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from voxloom.engine.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a task returns.

    Parameters
    ----------
    digest : str
        Digest of what was written.
    bytes_read, bytes_written : int
        Raw bytes of the numbers taken from and put into arrays of the store, whatever their compression there;
        of source files, the bytes of the files.
    details : mapping
        Small JSON-able values for later stages and for the user.
    wrote : sequence of str
        What was written, for whoever looks later whether it is still there: the path of an array (all of it), of
        some of its shards (``fits/a/beta/c/*/3``), or of one object.
    """

    digest: str
    bytes_read: int = 0
    bytes_written: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    wrote: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """One unit of work, idempotent: it overwrites whole shards and never accumulates.

    Parameters
    ----------
    stage, key : str
        Name of the task; `key` is unique in its stage and may hold ``/``.
    function : callable
        Importable module-level function.
    kwargs : mapping
        Its arguments: paths, ids and settings, never arrays.
    inputs : str
        Digest of all that determines the result; a task with other inputs is another task.
    after : sequence of str
        Keys of tasks of the same stage that have to be done before this one begins.
    """

    stage: str
    key: str
    function: Callable[..., Output]
    kwargs: Mapping[str, Any]
    inputs: str
    after: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """A task on its way to a worker.

    Parameters
    ----------
    task : Task
    ledger : Ledger
        Where the worker writes the record.
    retries : int
        Further attempts after a transient input/output error.
    stop : str
        Name of the `distributed.Event` that asks tasks to stop.
    attempt : int
        Number of the first attempt.
    """

    task: Task
    ledger: Ledger
    retries: int
    stop: str
    attempt: int = 1
