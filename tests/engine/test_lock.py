from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from engine_tasks import Folder

from voxloom.engine.events import Event, Note
from voxloom.engine.lock import LOCK_KEY, STALE_SECONDS, Holder, StoreLock
from voxloom.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "study.zarr"))


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_second_process_is_refused_with_the_holders_name(store: Folder) -> None:
    with StoreLock(store):
        with pytest.raises(StoreError) as refused, StoreLock(store):
            pass
        text = str(refused.value)
        for part in (
            store.root,
            f"in use by voxloom run (pid {os.getpid()} on host",
            "since",
            "Wait for it, or end it.",
        ):
            assert part in text
        assert store.get(LOCK_KEY) is not None
    assert store.get(LOCK_KEY) is None
    with StoreLock(store):  # free again
        pass


@pytest.mark.parametrize("how", ["ended", "pid used again", "other host silent", "torn"])
def test_dead_holder_is_replaced(store: Folder, how: str) -> None:
    me = Holder.this_process("voxloom run")
    dead = {
        "ended": replace(me, pid=ended_process()),
        "pid used again": replace(me, started=me.started - 3600),
        "other host silent": replace(me, host="elsewhere", heartbeat=time.time() - STALE_SECONDS - 1),
    }.get(how)
    store.put(LOCK_KEY, b"{" if dead is None else dead.to_json())
    events: list[Event] = []
    with StoreLock(store, on_event=events.append) as lock:
        holder = lock.holder()
        assert holder is not None
        assert holder.pid == os.getpid()
    assert [isinstance(event, Note) and "taken over" in event.text for event in events] == [True]
    assert store.list("") == []


@pytest.mark.parametrize("where", [{"host": "elsewhere"}, {"namespace": "pid:[1]"}])
def test_holder_out_of_sight_counts_as_alive_while_it_gives_signs(store: Folder, where: dict[str, str]) -> None:
    other = replace(Holder.this_process("voxloom run"), pid=1, **where)  # type: ignore[arg-type]
    store.put(LOCK_KEY, replace(other, heartbeat=time.time() - STALE_SECONDS + 20).to_json())
    with pytest.raises(StoreError, match="in use"), StoreLock(store):
        pass


def test_heartbeat_is_kept_fresh(store: Folder) -> None:
    with StoreLock(store, heartbeat=0.02) as lock:
        first = lock.holder()
        assert first is not None
        deadline = time.monotonic() + 10
        while (now := lock.holder()) is None or now.heartbeat <= first.heartbeat:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert replace(now, heartbeat=0) == replace(first, heartbeat=0)


def test_of_many_takers_one_wins(store: Folder) -> None:
    """Threads stand for processes: all find the same dead holder at the same moment."""
    store.put(LOCK_KEY, replace(Holder.this_process("x"), pid=ended_process()).to_json())
    barrier, inside, refused = threading.Barrier(8), [], []
    leave = threading.Event()

    def take() -> None:
        barrier.wait()
        try:
            with StoreLock(store):
                inside.append(1)
                leave.wait(20)
        except StoreError:
            refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(inside) + len(refused) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (len(inside), len(refused)) == (1, 7)
    leave.set()
    for thread in threads:
        thread.join()
    assert store.list("") == []


def test_holder_that_was_replaced_says_so_and_leaves_the_lock(store: Folder) -> None:
    other = replace(Holder.this_process("voxloom run"), host="elsewhere", token="another")
    with pytest.raises(StoreError, match="taken over by voxloom run"), StoreLock(store):
        store.put(LOCK_KEY, other.to_json())
    assert Holder.from_json(store.get(LOCK_KEY)) == other
