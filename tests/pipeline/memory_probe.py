"""Peak memory of one task in a fresh process: ``python memory_probe.py WARM TASK``, both pickled (function, kwargs).

The first is run to import, compile and load what any task needs; the peak of the second is told in bytes above what
the process held then. Writing 5 to ``clear_refs`` sets the kernel's high-water mark back (Linux).
"""

from __future__ import annotations

import ctypes
import gc
import pickle
import re
import sys
from pathlib import Path

import dask
from threadpoolctl import threadpool_limits

STATUS = Path("/proc/self/status")


def held(what: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    found = re.search(rf"^{what}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def call(path: str) -> None:
    """Run a pickled task."""
    function, kwargs = pickle.loads(Path(path).read_bytes())
    function(**kwargs)


def main(warm: str, task: str) -> None:
    """Print the peak of the task."""
    with dask.config.set(scheduler="synchronous"), threadpool_limits(1):
        call(warm)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        base = held("VmRSS")
        call(task)
        print(held("VmHWM") - base)


if __name__ == "__main__":
    main(*sys.argv[1:])
