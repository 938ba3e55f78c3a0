from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import engine_tasks as work
import pytest
from distributed.comm import CommClosedError

from voxloom.engine import window as window_module
from voxloom.engine import worker as worker_module
from voxloom.engine.events import Event, Note, StageFinished, StageStarted, TaskFinished
from voxloom.engine.ledger import Ledger
from voxloom.engine.runner import run_stage
from voxloom.errors import Cancelled, StageError

if TYPE_CHECKING:
    from distributed import Client

    from voxloom.engine.ledger import Record
    from voxloom.engine.task import Task


@pytest.fixture(params=["here", "cluster"])
def client(request: pytest.FixtureRequest) -> Client | None:
    """Both ways to run; what holds for one must hold for the other."""
    return None if request.param == "here" else request.getfixturevalue("cluster")


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "BACKOFF_SECONDS", 0.0)


def essence(records: dict[str, Record]) -> list[Record]:
    """Records without what depends on the time and place of the run."""
    return [replace(record, seconds=0, host="", finished="") for record in records.values()]


def test_every_task_runs_once_and_is_remembered(client: Client | None, ledger: Ledger, tmp_path: Path) -> None:
    tasks = work.make_tasks(work.square, 9, tmp_path)
    events: list[Event] = []
    result = run_stage("stage", tasks, ledger=ledger, client=client, on_event=events.append)
    assert (result.done_before, result.done_now, result.failed, result.quarantined) == (0, 9, (), ())
    assert list(result.records) == [task.key for task in tasks]
    assert [int((tmp_path / f"out-{i:04d}").read_text()) for i in range(9)] == [i * i for i in range(9)]
    assert ledger.read("stage") == result.records
    assert events[0] == StageStarted("stage", 9, 0)
    assert isinstance(events[-1], StageFinished)
    assert (events[-1].done, events[-1].failed, events[-1].quarantined) == (9, 0, 0)
    assert {event.record.key for event in events[1:-1] if isinstance(event, TaskFinished)} == set(result.records)
    result.require_complete()

    again = run_stage("stage", tasks, ledger=ledger, client=client)
    assert (again.done_before, again.done_now) == (9, 0)
    assert again.records == result.records
    assert set(work.ticks(tmp_path).values()) == {1}


def in_rounds(folder: Path, function: Any = work.follow, n: int = 8) -> list[Task]:
    """Each task comes after the one two places before it."""
    tasks = work.make_tasks(function, n, folder)
    return [replace(task, after=[tasks[i - 2].key] if i > 1 else []) for i, task in enumerate(tasks)]


def test_a_task_begins_when_those_before_it_are_done_and_cleared_away(
    client: Client | None, ledger: Ledger, tmp_path: Path
) -> None:
    def clear(record: Record) -> None:
        (tmp_path / f"cleared-{record.key[-4:]}").touch()

    tasks = in_rounds(tmp_path)
    result = run_stage("stage", tasks[::-1], ledger=ledger, client=client, on_done=clear)
    result.require_complete()
    assert result.done_now == 8
    ledger.forget(result.records[tasks[3].key])
    assert run_stage("stage", tasks, ledger=ledger, client=client, on_done=clear).done_now == 1


def test_what_comes_after_a_task_that_failed_is_left(client: Client | None, ledger: Ledger, tmp_path: Path) -> None:
    result = run_stage("stage", in_rounds(tmp_path, work.mixed), ledger=ledger, client=client)
    assert sorted(key[-1] for key in result.records) == ["0", "1", "2"]  # 1 and 2 did not end well
    assert "0003" not in "".join(ledger.read("stage"))


def test_records_do_not_depend_on_where_tasks_run(cluster: Client, ledger: Ledger, tmp_path: Path) -> None:
    tasks = work.make_tasks(work.square, 7, tmp_path)
    here = run_stage("stage", tasks, ledger=ledger)
    there = run_stage("stage", [replace(t, inputs="v2") for t in tasks], ledger=ledger, client=cluster)
    assert [replace(record, inputs="v1") for record in essence(there.records)] == essence(here.records)


def test_only_tasks_with_changed_inputs_run_again(ledger: Ledger, tmp_path: Path) -> None:
    tasks = work.make_tasks(work.square, 4, tmp_path)
    run_stage("stage", tasks, ledger=ledger)
    tasks[2] = replace(tasks[2], inputs="v2")
    assert run_stage("stage", tasks, ledger=ledger).done_now == 1
    assert work.ticks(tmp_path) == {"0000": 1, "0001": 1, "0002": 2, "0003": 1}


@pytest.mark.usefixtures("no_backoff")
def stopped_halfway(*, folder: str, i: int) -> work.Output:
    (Path(folder) / f"out-{i:04d}").write_text("half")
    raise Cancelled("between the data and the record")


def test_record_goes_before_its_data_do(client: Client | None, ledger: Ledger, tmp_path: Path) -> None:
    """Inputs A, then B stopped halfway, then A again: the record of the first A must not stand for half of B."""
    tasks = work.make_tasks(work.square, 2, tmp_path)
    run_stage("stage", tasks, ledger=ledger, client=client)
    broken = replace(tasks[0], function=stopped_halfway, inputs="B")
    with pytest.raises(Cancelled):
        run_stage("stage", [broken], ledger=ledger, client=client)
    result = run_stage("stage", tasks, ledger=ledger, client=client)
    assert (result.done_before, result.done_now) == (1, 1)
    assert (tmp_path / "out-0000").read_text() == "0"


def test_each_way_to_end(ledger: Ledger, tmp_path: Path) -> None:
    events: list[Event] = []
    result = run_stage("stage", work.make_tasks(work.mixed, 8, tmp_path), ledger=ledger, on_event=events.append)
    records = list(result.records.values())
    assert [record.status for record in records] == [
        "done",
        "quarantined",
        "failed",
        "done",
        "failed",
        "failed",
        "done",
        "done",
    ]
    assert records[1].reason == "run-1.nii.gz: ends early. Copy it again."
    assert records[2].reason == "ZeroDivisionError: division by zero"
    assert "in mixed" in records[2].details["traceback"]
    assert [record.attempt for record in records] == [1, 1, 1, 3, 1, 3, 1, 1]
    assert records[6].details["warnings"] == ["onset after the end"]
    assert Note("onset after the end") in events
    assert ledger.read("stage") == result.records
    with pytest.raises(StageError, match=r"3 tasks failed, 1 were quarantined, of 8:\n(.|\n)*run-1.nii.gz: ends"):
        result.require_complete()
    # what failed or was quarantined is tried again, what is done is not
    again = run_stage("stage", work.make_tasks(work.mixed, 8, tmp_path), ledger=ledger)
    assert (again.done_before, again.done_now) == (4, 0)


def test_cluster_reports_failures_alike(cluster: Client, ledger: Ledger, tmp_path: Path) -> None:
    result = run_stage("stage", work.make_tasks(work.mixed, 8, tmp_path), ledger=ledger, client=cluster)
    assert "".join(record.status[0] for record in result.records.values()) == "dqfdffdd"
    assert ledger.read("stage") == result.records


def test_disk_full_ends_the_stage_and_keeps_what_is_done(client: Client | None, ledger: Ledger, tmp_path: Path) -> None:
    tasks = work.make_tasks(work.filling, 40, tmp_path)
    with pytest.raises(StageError, match=r"stage: no space left for task/0003 on .*what was done is kept"):
        run_stage("stage", tasks, ledger=ledger, client=client)
    done = ledger.read("stage")
    assert all(record.status == "done" for record in done.values())
    assert {"task/0000"} <= set(done) < {task.key for task in tasks}
    assert "task/0003" not in done


@pytest.mark.usefixtures("no_backoff")
def test_store_that_takes_no_records_ends_the_stage(client: Client | None, tmp_path: Path) -> None:
    ledger = Ledger(work.ReadOnly(str(tmp_path)))
    with pytest.raises(StageError, match=r"stage: cannot write the record of task/000\d .*PermissionError"):
        run_stage("stage", work.make_tasks(work.nothing, 3, tmp_path), ledger=ledger, client=client)


def test_killed_worker_costs_one_more_attempt(cluster: Client, ledger: Ledger, tmp_path: Path) -> None:
    result = run_stage("stage", work.make_tasks(work.killing, 12, tmp_path), ledger=ledger, client=cluster)
    assert result.done_now == 12
    assert work.ticks(tmp_path)["deaths"] == 2
    assert [(tmp_path / f"out-{i:04d}").read_text() for i in range(12)] == [str(i * i) for i in range(12)]


def test_task_that_always_kills_its_worker_fails_alone(cluster: Client, ledger: Ledger, tmp_path: Path) -> None:
    result = run_stage("stage", work.make_tasks(work.deadly, 8, tmp_path), ledger=ledger, client=cluster)
    assert result.done_now == 7
    assert [record.key for record in result.failed] == ["task/0003"]
    assert "4 workers died" in result.failed[0].reason
    assert "memory" in result.failed[0].reason
    assert work.ticks(tmp_path)["deaths"] == 4
    assert ledger.read("stage") == result.records


class Crowd:
    """A client said to have these workers, which notes how many tasks are in flight at most."""

    def __init__(self, client: Client, nthreads: dict[str, int]) -> None:
        self.client, self.threads = client, nthreads
        self.flying = self.most = 0
        self.notes: list[Event] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def nthreads(self) -> dict[str, int]:
        return self.threads

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.flying += 1
        self.most = max(self.most, self.flying)
        return self.client.submit(*args, **kwargs)

    def listen(self, event: Event) -> None:
        self.flying -= isinstance(event, TaskFinished)
        self.notes.append(event)

    def run(self, ledger: Ledger, folder: Path, n: int, width: int) -> int:
        tasks = work.make_tasks(work.breathing, n, folder)
        result = run_stage(
            "stage",
            tasks,
            ledger=ledger,
            client=self,
            on_event=self.listen,
            window=width,  # type: ignore[arg-type]
        )
        assert not list(folder.glob("running-*"))
        return result.done_now


@pytest.mark.parametrize(("threads", "width"), [({"a": 1, "b": 1}, 2), ({"a": 1, "b": 1}, 1), ({}, 2), ({"a": 3}, 2)])
def test_window_bounds_what_is_in_flight(
    cluster: Client, ledger: Ledger, tmp_path: Path, threads: dict[str, int], width: int
) -> None:
    crowd = Crowd(cluster, threads)
    assert crowd.run(ledger, tmp_path, 24, width) == 24
    assert crowd.most == max(1, width * sum(threads.values()))
    deadline = time.monotonic() + 5
    while cluster.futures and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not cluster.futures  # results are let go


def test_window_follows_workers_that_join(
    cluster: Client, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "TICK_SECONDS", 0.05)
    crowd = Crowd(cluster, {})
    threading.Timer(0.3, crowd.threads.update, [{"a": 1, "b": 1, "c": 1}]).start()
    assert crowd.run(ledger, tmp_path, 60, 2) == 60
    assert crowd.most == 6
    assert Note("the cluster has no worker; waiting for one") in crowd.notes


class Lost(Crowd):
    """A client whose scheduler has gone away."""

    def nthreads(self) -> dict[str, int]:
        raise CommClosedError("connection reset by peer")


def test_a_lost_scheduler_is_told_in_one_line(cluster: Client, ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"^lost the scheduler\. Run the same command again"):
        Lost(cluster, {}).run(ledger, tmp_path, 3, 2)


def interrupt_when(condition: Any, signum: int) -> threading.Thread:
    def watch() -> None:
        deadline = time.monotonic() + 30
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_run_and_its_tasks(client: Client | None, ledger: Ledger, tmp_path: Path, signum: int) -> None:
    before = signal.getsignal(signum)
    tasks = [*work.make_tasks(work.square, 1, tmp_path), *work.make_tasks(work.patient, 6, tmp_path)[1:]]
    watcher = interrupt_when((tmp_path / "count-started").exists, signum)
    started = time.monotonic()
    with pytest.raises(Cancelled, match="run the same command again"):
        run_stage("stage", tasks, ledger=ledger, client=client)
    watcher.join()
    assert signal.getsignal(signum) is before
    assert time.monotonic() - started < 10  # a patient task takes 30 s
    assert set(ledger.read("stage")) <= {"task/0000"}
    # the cluster is free again: its tasks stopped too
    assert (
        run_stage("next", work.make_tasks(work.nothing, 6, tmp_path, "next"), ledger=ledger, client=client).done_now
        == 6
    )
    assert time.monotonic() - started < 15


def interrupting(*, folder: str, i: int) -> work.Output:
    os.kill(os.getpid(), signal.SIGINT)
    return work.Output(digest=str(i))


def test_a_stop_that_comes_with_the_last_task_is_not_lost(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        run_stage("stage", work.make_tasks(interrupting, 1, tmp_path), ledger=ledger)
    assert list(ledger.read("stage")) == ["task/0000"]


def test_ctrl_c_does_not_reach_the_workers(cluster: Client, ledger: Ledger, tmp_path: Path) -> None:
    pids = cluster.run(os.getpid)
    for pid in pids.values():
        os.kill(pid, signal.SIGINT)
    run_stage("stage", work.make_tasks(work.square, 4, tmp_path), ledger=ledger, client=cluster)
    assert cluster.run(os.getpid) == pids


def test_tasks_have_one_blas_thread_and_compute_lazy_values_themselves(
    client: Client | None, ledger: Ledger, tmp_path: Path
) -> None:
    blas = run_stage("stage", work.make_tasks(work.threads, 2, tmp_path), ledger=ledger, client=client)
    seen = [record.details["blas"] for record in blas.records.values()]
    assert all(set(counts) == {1} for counts in seen), seen
    lazy = run_stage("lazy", work.make_tasks(work.lazy_sum, 5, tmp_path, "lazy"), ledger=ledger, client=client)
    assert [record.digest for record in lazy.records.values()] == ["1", "2", "3", "4", "5"]


def test_key_given_twice_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="given twice"):
        run_stage("stage", work.make_tasks(work.nothing, 2, tmp_path) * 2, ledger=ledger)
