"""Where tasks run: this process, processes of this machine, or a scheduler at an address."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

import dask
import psutil
from dask.system import CPU_COUNT

from voxloom._version import __version__
from voxloom.errors import InputError, MemoryBudgetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import distributed

MiB = 2**20
#: What a worker holds before its first task: Python and the libraries (about 250 MiB) and some air.
WORKER_MEMORY = 400 * MiB
#: Part of the free memory that workers may take; the rest is for this process and the page cache.
MEMORY_SHARE = 0.8
CONNECT_SECONDS = 8
#: Within it a worker of a run that was stopped may leave its task and end by itself.
GRACE_SECONDS = 0.5
#: Where a container's memory limit is told, cgroup v2 and v1 (distributed.system knows it too, but takes 0.5 s).
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
SCHEMES = ("tcp://", "tls://", "ws://", "wss://", "ucx://", "inproc://")

_WORKER_ENVIRONMENT = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    ),
    "1",
)
#: A task's result is one small record, so there is nothing to spill; and a worker that is paused because its
#: libraries hold memory would never wake. Only one that takes more than its share of the machine is ended.
_CONFIG = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # the runner tries a task that killed two workers once more, alone: four deaths at most
    "distributed.scheduler.allowed-failures": 1,
}


@contextmanager
def connect(
    spec: str = "local", *, workers: int | None = None, memory_budget: int
) -> Iterator[distributed.Client | None]:
    """Client of the cluster that `spec` names; closed at the end, with the cluster if that was started here.

    Parameters
    ----------
    spec : str
        ``local``: one single-threaded process per worker on this machine. ``threads``: no cluster, tasks run
        in this process (yields None). Else a running scheduler's address, such as ``tcp://10.0.0.1:8786``.
    workers : int, optional
        Number of workers for ``local``; as many as cores and memory allow when not given.
    memory_budget : int
        Bytes one task may use.

    Raises
    ------
    MemoryBudgetError
        Not even one worker, or not as many as asked for, fits into the memory.
    InputError
        The spec is unknown, no scheduler answers within 10 s, or it has another version of voxloom, or none.
    """
    if spec == "threads":
        count_workers(1, memory_budget)
        yield None
    elif spec == "local":
        with _local(count_workers(workers, memory_budget), memory_budget) as client:
            yield client
    elif spec.startswith(SCHEMES):
        with _remote(spec) as client:
            require_voxloom(client, spec)
            require_memory(client, memory_budget)
            yield client
    else:
        raise InputError(
            "cluster",
            f"{spec!r} is unknown.",
            "Wanted: local, threads, or an address such as tcp://10.0.0.1:8786.",
        )


def free_memory() -> int:
    """Bytes that new processes may use, limits of containers counted."""
    limits = [int(text) for path in CONTAINER_LIMITS if path.exists() and (text := path.read_text().strip()).isdigit()]
    return min([int(psutil.virtual_memory().available), *limits])


def count_workers(wanted: int | None, memory_budget: int) -> int:
    """Workers to start: `wanted`, else as many as there are cores and as memory allows.

    Raises
    ------
    MemoryBudgetError
        They do not fit.
    """
    free, each = int(free_memory() * MEMORY_SHARE), memory_budget + WORKER_MEMORY
    fit = free // each
    if fit < (wanted or 1):
        remedy = f"Ask for {fit} workers, or " if fit else "Free some memory, or "
        raise MemoryBudgetError(
            "memory_budget",
            f"{wanted or 1} workers of {each / MiB:.0f} MiB (memory_budget and {WORKER_MEMORY // MiB} MiB "
            f"for the libraries) do not fit into the {free / MiB:.0f} MiB that are free for them.",
            f"{remedy}set a smaller memory_budget.",
        )
    return wanted or int(min(CPU_COUNT, fit))


def require_voxloom(client: distributed.Client, address: str) -> None:
    """Raise `InputError` unless scheduler and workers have this version of voxloom: both unpickle tasks."""
    found = client.run(_version, on_error="return")
    try:
        found["the scheduler"] = client.run_on_scheduler(_version)
    except Exception as error:  # whatever unpickling raises there comes back as it is
        found["the scheduler"] = error
    for who, version in found.items():
        if version != __version__:
            has = f"voxloom {version}" if isinstance(version, str) else f"no voxloom ({version})"
            raise InputError(
                f"cluster {address}",
                f"{who} has {has}, but here is voxloom {__version__}.",
                "Install the same version there and start it again.",
            )


def _version() -> str:
    return __version__


def require_memory(client: distributed.Client, memory_budget: int) -> None:
    """Raise `MemoryBudgetError` when a running worker has less memory per thread than a task may use."""
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        share = worker["memory_limit"] / worker["nthreads"]
        if 0 < share < memory_budget:
            raise MemoryBudgetError(
                f"worker {address}",
                f"has {share / MiB:.0f} MiB per thread, but a task may use {memory_budget / MiB:.0f} MiB.",
                "Set a smaller memory_budget, or start workers with more memory or fewer threads.",
            )


@contextmanager
def _local(workers: int, memory_budget: int) -> Iterator[distributed.Client]:
    import distributed  # 0.5 s, which a run without a cluster need not spend

    share = int(free_memory() * MEMORY_SHARE) // workers
    _hush_tracker()
    with dask.config.set(_CONFIG), _quiet():
        try:
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=max(share, memory_budget + WORKER_MEMORY),
                dashboard_address=None,
                # no dashboard, but an HTTP server all the same: on a free port of this machine alone
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.CRITICAL,
                env=_WORKER_ENVIRONMENT,
                preload=["voxloom.engine.worker"],
            )
        except RuntimeError as error:
            raise InputError(
                "cluster local",
                f"worker processes cannot start ({error}).",
                "In a script, call voxloom below `if __name__ == '__main__':`, for each worker imports the script; "
                "or set cluster: threads.",
            ) from error
        with cluster, distributed.Client(cluster, set_as_default=False) as client:
            try:
                yield client
            except BaseException:
                _end_workers(cluster)
                raise


def _hush_tracker() -> None:
    """Start Python's tracker of semaphores so that it says nothing of those of killed workers, which it removes."""
    given = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [given, "ignore:resource_tracker:UserWarning"]))
    resource_tracker.ensure_running()
    if given is None:
        del os.environ["PYTHONWARNINGS"]
    else:
        os.environ["PYTHONWARNINGS"] = given


def _end_workers(cluster: distributed.LocalCluster) -> None:
    """End the workers whatever they are doing: their tasks are idempotent, and to wait for them takes seconds."""

    async def end() -> None:
        await asyncio.gather(*(nanny.close(timeout=GRACE_SECONDS) for nanny in cluster.workers.values()))

    cluster.sync(end)


@contextmanager
def _remote(address: str) -> Iterator[distributed.Client]:
    import distributed

    with _quiet():
        try:
            client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cluster {address}",
                f"no scheduler answers there ({error}).",
                "Start it (`dask scheduler`), or leave --cluster out to use this machine.",
            ) from error
        with client:
            yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep distributed's log of lost connections off the terminal; records say what failed."""
    # its modules have levels of their own
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
