"""Law 5, on a cluster of its own processes: end any of them at any moment, go on, and nothing shows it.

A drill kills at random numbers of finished tasks (seeded). No task that has a record is done again, and every
object of the store but the records, and every file of the output, is that of a run which nothing disturbed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from voxloom.engine.ledger import Record
from voxloom.io.store.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KINDS = ("worker", "nanny", "driver", "scheduler")
#: A run of the small study leaves about 47 records.
LAST = 40


def _is_worker(process: psutil.Process) -> bool:
    """Whether a process below a nanny is a worker; one that has just ended is none."""
    with suppress(psutil.NoSuchProcess):
        return "spawn_main" in " ".join(process.cmdline())
    return False


class Cluster:
    """A scheduler and two workers under nannies, each a process; the driver is one more."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, {}
        self.start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *self.file)
        wait_for(self.is_announced)
        for name in ("nanny-0", "nanny-1"):
            self.start_nanny(name)

    @property
    def file(self) -> tuple[str, str]:
        return "--scheduler-file", str(self.folder / "scheduler.json")

    def is_announced(self) -> bool:
        """Whether the scheduler has written its file, to the end."""
        path = self.folder / "scheduler.json"
        return path.exists() and path.read_text().rstrip().endswith("}")

    @property
    def address(self) -> str:
        return json.loads((self.folder / "scheduler.json").read_text())["address"]

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        code = f"import sys; from distributed.cli import dask_{command[0]} as m; sys.exit(m.main())"
        log = (self.folder / f"{name}.log").open("wb")
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-c", code, *command[1:]], stdout=log, stderr=subprocess.STDOUT, cwd=self.folder
        )
        return self.processes[name]

    def start_nanny(self, name: str) -> None:
        # no directory of its own on the disk of the store, and a quick end when the scheduler is gone
        self.start(
            name,
            "worker",
            *self.file,
            "--nthreads",
            "1",
            "--no-dashboard",
            "--death-timeout",
            "60",
            "--local-directory",
            str(self.folder / name),
        )

    def workers(self) -> list[psutil.Process]:
        """The workers' processes, below their nannies."""
        found = []
        for name, process in self.processes.items():
            if name.startswith("nanny") and process.poll() is None:
                children = psutil.Process(process.pid).children(recursive=True)
                found += [child for child in children if _is_worker(child)]
        return found

    def kill(self, kind: str) -> None:
        """End one process of a kind, as the out-of-memory killer does; what a service manager restarts is."""
        if kind == "worker":
            for worker in self.workers()[:1]:
                worker.kill()
            return
        name = {"nanny": "nanny-0"}.get(kind, kind)
        process = self.processes[name]
        process.kill()
        process.wait()
        if kind == "nanny":
            self.start_nanny(name)

    def close(self) -> None:
        running = [
            p
            for process in self.processes.values()
            if process.poll() is None
            for p in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid))
        ]
        for process in running:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(running, timeout=20)


def wait_for(condition: Callable[[], bool], seconds: float = 300, every: float = 0.005) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "no progress"
        time.sleep(every)


class Drill:
    """One analysis, run by drivers that are killed."""

    def __init__(self, analysis: dict[str, Any], folder: Path) -> None:
        self.folder, self.analysis = folder, analysis
        self.store = analysis["store"]["path"]
        self.cluster = self.fresh_cluster()
        self.done: dict[str, bytes] = {}

    def fresh_cluster(self) -> Cluster:
        folder = self.folder / f"cluster-{time.monotonic_ns()}"
        folder.mkdir()
        return Cluster(folder)

    def start_driver(self) -> subprocess.Popen[bytes]:
        path = self.folder / "analysis.json"
        path.write_text(json.dumps(self.analysis | {"cluster": self.cluster.address}))
        log = (self.cluster.folder / "driver.log").open("wb")
        driver = subprocess.Popen(
            [sys.executable, "-m", "voxloom", "run", str(path), "--no-report"], stdout=log, stderr=subprocess.STDOUT
        )
        self.cluster.processes["driver"] = driver
        return driver

    def records(self) -> dict[str, bytes]:
        """Every record of a task that is done, as its bytes."""
        objects = Objects(self.store)
        raw = {key: objects.get(key) for key in objects.list("ledger/")}
        return {key: value for key, value in raw.items() if value and is_of_a_done_task(value)}

    def require_kept(self) -> None:
        """No record that was there has changed since: its task was not done again."""
        now = self.records()
        assert {key: now.get(key) for key in self.done} == self.done
        self.done = now

    def kill_at(self, kind: str, n_records: int) -> None:
        """Let the driver go on until so many tasks are done, then kill; replace what does not come back by itself."""
        driver = self.cluster.processes.get("driver")
        if driver is None or driver.poll() is not None:
            driver = self.start_driver()
        # a bucket is asked seldom: its small server answers the workers too
        wait_for(
            lambda: driver.poll() is not None or len(Objects(self.store).list("ledger/")) >= n_records,
            every=0.5 if "://" in self.store else 0.005,
        )
        self.done = self.records()
        self.cluster.kill(kind)
        if kind == "scheduler":
            code = driver.wait(120)
            said = (self.cluster.folder / "driver.log").read_text()
            assert code == 0 or "lost the scheduler" in said or "no scheduler answers" in said, said
            assert "Traceback" not in said
            self.cluster.close()
            self.cluster = self.fresh_cluster()

    def finish(self) -> None:
        driver = self.cluster.processes.get("driver")
        if driver is None or driver.poll() is not None:
            driver = self.start_driver()
        assert driver.wait(300) == 0, (self.cluster.folder / "driver.log").read_text()
        self.require_kept()


def is_of_a_done_task(raw: bytes) -> bool:
    record = Record.from_json(raw)
    return record is not None and record.status == "done"


@pytest.fixture(params=["disk", pytest.param("bucket", marks=pytest.mark.slow)])
def drill(
    request: pytest.FixtureRequest, pristine_study: Path, tmp_path: Path, analysis_of: Callable[..., dict[str, Any]]
) -> Iterator[Drill]:
    """On a disk, and in a bucket of an S3 server."""
    analysis = analysis_of(pristine_study, tmp_path)
    if request.param == "bucket":
        analysis["store"] = {"path": f"{request.getfixturevalue('bucket')}/study.zarr"}
    found = Drill(analysis, tmp_path)
    yield found
    found.cluster.close()


def rehearse(drill: Drill, kills: list[tuple[int, str]]) -> None:
    for n_records, kind in kills:
        drill.kill_at(kind, n_records)
        drill.require_kept()
    drill.finish()


def test_no_killed_process_shows_in_the_result(
    drill: Drill, undisturbed: dict[str, str], undisturbed_store: dict[str, str], digests_of: Any, store_digests_of: Any
) -> None:
    rng = np.random.default_rng(1)
    rehearse(drill, list(zip(np.sort(rng.integers(1, LAST, len(KINDS))).tolist(), rng.permutation(KINDS))))
    assert digests_of(drill.folder / "results") == undisturbed
    assert store_digests_of(drill.store) == undisturbed_store


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_killed_processes_do_not_show_either(
    drill: Drill,
    undisturbed: dict[str, str],
    undisturbed_store: dict[str, str],
    digests_of: Any,
    store_digests_of: Any,
    seed: int,
) -> None:
    rng = np.random.default_rng([2, seed])
    counts = np.sort(rng.integers(1, LAST, 12)).tolist()
    rehearse(drill, list(zip(counts, rng.choice(KINDS, len(counts)))))
    assert digests_of(drill.folder / "results") == undisturbed
    assert store_digests_of(drill.store) == undisturbed_store
