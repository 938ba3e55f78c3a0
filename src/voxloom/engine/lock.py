"""One writer per store: a small object that says who, kept fresh while the holder lives.

Only an atomic "create unless it exists" is needed. A dead holder's place is taken under a second lock of the
same kind, named after the dead one's token, so that of several takers one wins.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psutil

from voxloom.engine.events import Note, ignore
from voxloom.errors import StoreError

if TYPE_CHECKING:
    from types import TracebackType

    from voxloom.engine.events import OnEvent
    from voxloom.engine.ledger import Objects

LOCK_KEY = "lock.json"
HEARTBEAT_SECONDS = 20.0
#: Six heartbeats missed: the holder on another machine is taken for dead.
STALE_SECONDS = 120.0
#: A process with this id that started at another moment is another process; one boot's clock is this steady.
SAME_START_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a store.

    Parameters
    ----------
    host, namespace : str
        The machine, and on Linux its process-id namespace: two containers of one name do not see each
        other's processes.
    pid : int
    started : float
        When the process started, seconds since the epoch; a pid may be used again.
    user, command : str
    since, heartbeat : float
        Seconds since the epoch, on the holder's clock.
    token : str
        Unique per acquisition.
    """

    host: str
    namespace: str
    pid: int
    started: float
    user: str
    command: str
    since: float
    heartbeat: float
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def this_process(cls, command: str) -> Holder:
        """Describe the calling process."""
        now = time.time()
        return cls(
            host=socket.gethostname(),
            namespace=_namespace(),
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            user=_user(),
            command=command,
            since=now,
            heartbeat=now,
        )

    @classmethod
    def from_json(cls, raw: bytes | None) -> Holder | None:
        """Inverse of `to_json`; None for no bytes, and for bytes that name no holder."""
        try:
            return None if raw is None else cls(**json.loads(raw))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        """UTF-8 JSON, one object."""
        return json.dumps(asdict(self)).encode()

    def is_alive(self) -> bool:
        """Whether the holder still runs: by its process where it can be seen, else by its heartbeat."""
        if (self.host, self.namespace) != (socket.gethostname(), _namespace()):
            return time.time() - self.heartbeat < STALE_SECONDS
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return False
        return bool(abs(started - self.started) < SAME_START_SECONDS)

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since).isoformat(sep=" ", timespec="seconds")
        return f"{self.command} (pid {self.pid} on host {self.host} by user {self.user} since {since})"


class StoreLock:
    """Context manager: while it is open, no other process writes to the store.

    Parameters
    ----------
    objects : Objects
        The store.
    where : str, optional
        How messages name the store; its ``url`` when it has one.
    command : str, optional
        What the holder does, for the message another process gets.
    on_event : callable, optional
        Receives a note when a dead holder's place is taken.
    heartbeat : float
        Seconds between signs of life.

    Raises
    ------
    StoreError
        On entry: another process holds the store; the message names it. On exit: the store was taken over
        meanwhile, because this process gave no sign of life for `STALE_SECONDS`.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        where: str | None = None,
        command: str = "voxloom run",
        on_event: OnEvent | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.objects, self.emit, self.interval = objects, on_event or ignore, heartbeat
        self.where = where or str(getattr(objects, "url", "store"))
        self.command = command
        self.lost = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def holder(self) -> Holder | None:
        """Who holds the store now; a holder that died may still be named (see `Holder.is_alive`)."""
        return Holder.from_json(self.objects.get(LOCK_KEY))

    def __enter__(self) -> StoreLock:
        self.me = Holder.this_process(self.command)
        self._take(LOCK_KEY)
        self._thread = threading.Thread(target=self._beat, name="voxloom-lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._is_mine():
            self.objects.delete(LOCK_KEY)
        elif kind is None:
            raise StoreError(
                self.where,
                f"was taken over by {self.holder()} while this process gave no sign of life for {STALE_SECONDS:.0f} s.",
                "Run `voxloom verify` on it, then run again.",
            )

    def _take(self, key: str) -> None:
        """Make `key` say that this process holds it, or raise when a living process does."""
        while not self.objects.put_new(key, self.me.to_json()):
            raw = self.objects.get(key)
            if raw is None:
                continue  # released in between
            holder = Holder.from_json(raw)
            if holder is not None and holder.is_alive():
                raise StoreError(self.where, f"in use by {holder}.", "Wait for it, or end it.")
            self._take_over(key, holder)
            return

    def _take_over(self, key: str, dead: Holder | None) -> None:
        """Replace a dead holder; who comes second finds the key changed and is refused as by any holder."""
        gate = f"{key}.after-{dead.token if dead else 'nobody'}"
        self._take(gate)
        try:
            if Holder.from_json(self.objects.get(key)) == dead:
                self.objects.put(key, self.me.to_json())
                self.emit(Note(f"{self.where}: taken over from {dead or 'an unknown holder'}, which has ended"))
                return
        finally:
            self.objects.delete(gate)
        self._take(key)

    def _is_mine(self) -> bool:
        holder = self.holder()
        return holder is not None and holder.token == self.me.token

    def _beat(self) -> None:
        while not self._ended.wait(self.interval):
            try:
                if not self._is_mine():
                    return
                self.objects.put(LOCK_KEY, replace(self.me, heartbeat=time.time()).to_json())
            except OSError:
                continue  # a full disk or a lost connection; the next beat may pass


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return platform.system()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in many containers
        return str(_uid())


def _uid() -> Any:
    return os.getuid() if hasattr(os, "getuid") else "unknown"
