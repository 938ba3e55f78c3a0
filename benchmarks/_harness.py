"""How voxloom measures: both sides in one run, alternating, the machine told with the result."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil
from threadpoolctl import threadpool_info, threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

RESULTS = Path(__file__).parent / "results"
#: Packages whose release changes a figure.
PACKAGES = ("numpy", "scipy", "numba", "xarray", "zarr", "dask", "distributed", "isal", "nibabel", "nilearn")

# A process that is exec'ed inherits the peak RSS of the one that forked it (Linux keeps it in the signal
# struct across exec), so a large benchmark process would hide a small child. A bare interpreter in between
# brings that floor down to its own 10 MiB.
_LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
wall = time.perf_counter() - start
print(json.dumps([os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


class Timing(NamedTuple):
    """Seconds of one call, and what it returned."""

    wall: float
    cpu: float  # of all threads of this process
    result: Any


def timed(fn: Callable[[], Any]) -> Timing:
    """Call `fn` once and measure it."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = fn()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu, result)


def paired(a: Callable[[], Any], b: Callable[[], Any], *, repeats: int = 5, warmup: int = 1) -> dict[str, Any]:
    """Measure two callables in this process in alternation, A B A B ...

    The load of a shared machine changes slowly against one pair, so the ratio of a pair is steadier than
    either time.

    Parameters
    ----------
    a, b : callable
        Without arguments; results are dropped.
    repeats : int
        Measured pairs.
    warmup : int
        Pairs run before, unmeasured (compilation, page faults, caches).

    Returns
    -------
    dict
        ``a`` and ``b``: ``{wall, cpu}`` each with min, median and max in seconds; ``ratio_b_over_a``:
        ``{wall, cpu}`` each with every pair's ratio and their median.
    """
    for _ in range(warmup):
        a(), b()
    pairs = [(timed(a), timed(b)) for _ in range(repeats)]
    rows = [{"wall": (one.wall, two.wall), "cpu": (one.cpu, two.cpu)} for one, two in pairs]
    return _compare(rows, ("wall", "cpu"))


def whole_process(
    cmd_a: Sequence[str],
    cmd_b: Sequence[str],
    repeats: int = 3,
    *,
    env: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Measure two commands as whole processes in alternation, imports and all.

    Parameters
    ----------
    cmd_a, cmd_b : sequence of str
        Programs with arguments. A command that fails raises CalledProcessError with its stderr.
    repeats : int
        Measured pairs.
    env : mapping, optional
        Set on top of this process's environment.

    Returns
    -------
    dict
        As `paired`, with ``wall`` and ``cpu`` (user + system, children included) in seconds and ``peak_mib``:
        the peak RSS in MiB of the largest single process the command started (floor about 10 MiB).
    """
    names = ("wall", "cpu", "peak_mib")
    rows = []
    for _ in range(repeats):
        one, two = process_usage(cmd_a, env), process_usage(cmd_b, env)
        rows.append({name: (one[name], two[name]) for name in names})
    return _compare(rows, names)


def process_usage(cmd: Sequence[str], env: Mapping[str, str] | None = None) -> dict[str, float]:
    """Run one command; ``wall``, ``cpu`` in seconds and ``peak_mib``, as `whole_process` has them."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *cmd],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    code, wall, cpu, peak_kib = json.loads(done.stdout)
    if code:
        raise subprocess.CalledProcessError(code, list(cmd), stderr=done.stderr)
    return {"wall": wall, "cpu": cpu, "peak_mib": peak_kib / 1024}


def _compare(rows: Sequence[Mapping[str, tuple[float, float]]], names: Sequence[str]) -> dict[str, Any]:
    ratios = {name: [row[name][1] / max(row[name][0], 1e-9) for row in rows] for name in names}
    return {
        "a": {name: _spread([row[name][0] for row in rows]) for name in names},
        "b": {name: _spread([row[name][1] for row in rows]) for name in names},
        "ratio_b_over_a": {
            name: {"median": _sig(statistics.median(values)), "pairs": [_sig(x) for x in values]}
            for name, values in ratios.items()
        },
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": _sig(min(values)), "median": _sig(statistics.median(values)), "max": _sig(max(values))}


def _sig(x: float) -> float:
    return float(f"{x:.4g}")


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS and OpenMP on one thread inside the block, for figures per core."""
    with threadpool_limits(limits=1):
        yield


def machine() -> dict[str, Any]:
    """Describe what the figures are measured on: CPU, memory, releases, BLAS and its threads."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "blas": [
            {key: pool.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
            for pool in threadpool_info()
            if pool["user_api"] == "blas"
        ],
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write_results(name: str, results: Mapping[str, Any]) -> Path:
    """Write `results` with the machine and the date to ``benchmarks/results/<name>.json``, keys sorted."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "results": results,
    }
    path.write_text(json.dumps(document, indent=2, sort_keys=True, default=_plain) + "\n")
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON: give numbers, strings, lists and dicts.")
