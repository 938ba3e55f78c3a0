"""Law 5: kill the client at any moment, run again: no finished task is redone, results are the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import engine_tasks as work
import psutil
import pytest

from voxloom.engine.ledger import Ledger
from voxloom.engine.lock import StoreLock
from voxloom.engine.runner import run_stage

SCRIPT = """
import sys
from pathlib import Path
import engine_tasks as work
from voxloom.engine.cluster import connect
from voxloom.engine.ledger import Ledger
from voxloom.engine.lock import StoreLock
from voxloom.engine.runner import run_stage

def main(folder, spec):
    store = work.Folder(str(folder / "store"))
    with StoreLock(store), connect(spec, workers=2, memory_budget=64 * 2**20) as client:
        tasks = work.make_tasks(work.square, 60, folder, seconds=0.05)
        run_stage("stage", tasks, ledger=Ledger(store), client=client)

if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize("spec", ["threads", "local"])
def test_killed_client_loses_nothing(tmp_path: Path, spec: str) -> None:
    script = tmp_path / "client.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(Path(work.__file__).parent), os.environ.get("PYTHONPATH", "")])
    client = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), spec],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(lambda: len(work.ticks(tmp_path)) >= 12)
        workers = psutil.Process(client.pid).children(recursive=True)
    finally:
        client.send_signal(signal.SIGKILL)
        client.wait()
    psutil.wait_procs(workers, timeout=20)  # they end by themselves when their parent is gone
    assert not [process for process in workers if process.is_running() and process.status() != "zombie"]

    store = work.Folder(str(tmp_path / "store"))
    ledger = Ledger(store)
    finished = ledger.read("stage")
    assert 0 < len(finished) < 60
    with StoreLock(store):  # the dead client's lock does not stand in the way
        result = run_stage("stage", work.make_tasks(work.square, 60, tmp_path), ledger=ledger)
    assert (result.done_before, result.done_now) == (len(finished), 60 - len(finished))
    counts = work.ticks(tmp_path)
    assert {counts[key.removeprefix("task/")] for key in finished} == {1}
    assert [(tmp_path / f"out-{i:04d}").read_text() for i in range(60)] == [str(i * i) for i in range(60)]


def wait_for(condition, seconds: float = 60) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the client made no progress"
        time.sleep(0.02)
