"""What the runner costs: 40,000 tasks that do nothing but leave their record, on two workers of this machine.

CPU time per task, of the client with the scheduler (one process) and of the workers; memory of that process at a
quarter of the tasks and at all of them; seconds to read the records back. Set beside Dask's own price for as many
calls of `str` through `Client.submit` in a window of the same size.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from voxloom.engine.cluster import connect
from voxloom.engine.events import TaskFinished
from voxloom.engine.ledger import Ledger
from voxloom.engine.runner import run_stage
from voxloom.engine.task import Output, Task
from voxloom.io.store.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Callable

    import distributed

WORKERS = 2
MiB = 2**20


def nothing(*, store: str, run_id: str, fit_path: str, start: int, stop: int, signal_scaling: int | None) -> Output:
    """Take what a task of the fit takes, and do nothing."""
    return Output(digest=f"{start:016x}", bytes_read=stop - start, bytes_written=stop - start)


def tasks_of(store: str, n: int) -> list[Task]:
    """So many tasks like those of the fit: 100 shards a run."""
    return [
        Task(
            stage="fit",
            key=f"0123456789ab/sub-{i // 100:04d}_task-faces/{i % 100:04d}",
            function=nothing,
            kwargs={
                "store": store,
                "run_id": f"sub-{i // 100:04d}_task-faces",
                "fit_path": f"0123456789ab/sub-{i // 100:04d}_task-faces",
                "start": 4096 * i,
                "stop": 4096 * (i + 1),
                "signal_scaling": None,
            },
            inputs=f"{i:012x}",
        )
        for i in range(n)
    ]


class Meter:
    """CPU seconds of this process and of the workers, and peaks of this one's memory."""

    def __init__(self, client: distributed.Client) -> None:
        import os

        self.here = psutil.Process()
        self.workers = [psutil.Process(pid) for pid in client.run(os.getpid).values()]

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far, of this process and of the workers."""
        return time.process_time(), sum(sum(worker.cpu_times()[:2]) for worker in self.workers)

    def per_task(self, call: Callable[[], Any], n: int) -> dict[str, float]:
        """Milliseconds of CPU that a call costs for each of n tasks."""
        before = self.cpu()
        call()
        here, there = (1e3 * (b - a) / n for a, b in zip(before, self.cpu(), strict=True))
        return {"client_and_scheduler": here, "workers": there, "together": here + there}


def windowed(client: distributed.Client, n: int) -> None:
    """Dask's own price: as many calls of `str`, in a window of two per worker."""
    from distributed import as_completed

    numbers = iter(range(n))
    flying = as_completed([client.submit(str, next(numbers), pure=False) for _ in range(2 * WORKERS)], loop=client.loop)
    for future in flying:
        future.release()
        if (i := next(numbers, None)) is not None:
            flying.add(client.submit(str, i, pure=False))


def run(n: int = 40_000) -> dict[str, Any]:
    """Cost per task, memory and the time to read the ledger, for n tasks."""
    with (
        tempfile.TemporaryDirectory() as folder,
        connect("local", workers=WORKERS, memory_budget=64 * MiB) as client,
    ):
        assert client is not None
        store, memory, seen = Objects(str(Path(folder) / "study.zarr")), {}, [0]
        ledger, meter = Ledger(store), Meter(client)
        tasks = tasks_of(store.url, n)

        def listen(event: object) -> None:
            if isinstance(event, TaskFinished):
                seen[0] += 1
                if seen[0] in (n // 4, n):
                    memory[seen[0]] = meter.here.memory_info().rss / MiB

        run_stage("fit", tasks_of(store.url, 200), ledger=Ledger(Objects(f"{store.url}-warm")), client=client)
        cost = meter.per_task(lambda: run_stage("fit", tasks, ledger=ledger, client=client, on_event=listen), n)
        bare = meter.per_task(lambda: windowed(client, n // 4), n // 4)
        start, cpu = time.perf_counter(), time.process_time()
        assert len(ledger.read("fit")) == n
        return {
            "n_tasks": n,
            "cpu_ms_per_task": cost,
            "cpu_ms_per_task_of_bare_dask": bare,
            "task_seconds_at_which_this_is_1_percent": cost["together"] / 1e3 / 0.01,
            "rss_mib_at_a_quarter": memory[n // 4],
            "rss_mib_at_all": memory[n],
            "rss_bytes_per_task": (memory[n] - memory[n // 4]) * MiB / (n - n // 4),
            "ledger_read_s": {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu},
        }
