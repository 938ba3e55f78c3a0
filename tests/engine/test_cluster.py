from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from voxloom.engine import cluster as cluster_module
from voxloom.engine.cluster import MiB, connect, count_workers, require_memory, require_voxloom
from voxloom.errors import InputError, MemoryBudgetError

if TYPE_CHECKING:
    from distributed import Client


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 cores, 4 GiB free: 3,276 MiB for workers."""
    monkeypatch.setattr(cluster_module, "CPU_COUNT", 8)
    monkeypatch.setattr(cluster_module, "free_memory", lambda: 4096 * MiB)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("wanted", "budget", "expected"), [(None, 512, 3), (None, 100, 6), (None, 1, 8), (2, 512, 2), (8, 1, 8)]
)
def test_workers_follow_cores_and_memory(wanted: int | None, budget: int, expected: int) -> None:
    assert count_workers(wanted, budget * MiB) == expected


@pytest.mark.usefixtures("machine")
def test_what_does_not_fit_is_refused_with_number_and_remedy() -> None:
    with pytest.raises(MemoryBudgetError, match=r"1 workers of 3400 MiB .* 3277 MiB .* smaller memory_budget"):
        count_workers(None, 3000 * MiB)
    with pytest.raises(MemoryBudgetError, match=r"4 workers .* Ask for 3 workers, or"):
        count_workers(4, 512 * MiB)
    with pytest.raises(MemoryBudgetError), connect("threads", memory_budget=4000 * MiB):
        pass


def test_threads_need_no_cluster() -> None:
    with connect("threads", memory_budget=MiB) as client:
        assert client is None


def test_unknown_cluster_is_refused() -> None:
    with (
        pytest.raises(InputError, match=r"'slrum' is unknown\. Wanted: local"),
        connect("slrum", memory_budget=MiB),
    ):
        pass


def test_address_without_scheduler_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_module.CONNECT_SECONDS < 10
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 0.5)
    started = time.monotonic()
    with (
        pytest.raises(InputError, match="no scheduler answers"),
        connect("tcp://127.0.0.1:9", memory_budget=MiB),
    ):
        pass
    assert time.monotonic() - started < 10  # asked once; distributed by itself asks for 30 s


def test_local_workers_are_single_threaded_and_do_not_spill(cluster: Client) -> None:
    info = cluster.scheduler_info(n_workers=-1)["workers"].values()
    assert [worker["nthreads"] for worker in info] == [1, 1]
    assert all(worker["memory_limit"] >= (64 + 400) * MiB for worker in info)
    assert set(cluster.run(lambda: os.environ["NUMBA_NUM_THREADS"]).values()) == {"1"}
    settings = cluster.run(lambda dask_worker: dask_worker.memory_manager.memory_pause_fraction)
    assert set(settings.values()) == {False}


def test_running_cluster_is_joined_and_left_alone(cluster: Client) -> None:
    address = cluster.scheduler.address
    with connect(address, memory_budget=MiB) as client:
        assert client is not None
        assert client.submit(sum, [1, 2]).result() == 3
    assert cluster.submit(sum, [1, 3]).result() == 4
    with pytest.raises(MemoryBudgetError, match="MiB per thread"):
        require_memory(cluster, 2**50)


def test_cluster_with_another_version_is_refused(cluster: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    require_voxloom(cluster, "tcp://head:8786")
    monkeypatch.setattr(cluster_module, "__version__", "99.0")  # here, and in the scheduler, which runs here
    with pytest.raises(InputError, match=r"tcp://127\S+ has voxloom \d\S+, but here is voxloom 99\.0"):
        require_voxloom(cluster, "tcp://head:8786")
