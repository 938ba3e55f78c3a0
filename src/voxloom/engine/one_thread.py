"""BLAS and OpenMP of this process on one thread: sums by several are not the same bits, and mixing costs 7-35x.

The limit holds for the process and not for a task: a worker with several threads would lift it in one task while
another one runs.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

_limits: list[threadpool_limits] = []
_modules = 0


def enforce() -> None:
    """Limit the libraries that are loaded; to look for them takes 0.9 ms, so only after more modules came."""
    global _modules
    if len(sys.modules) != _modules:
        _limits.append(threadpool_limits(1))
        _modules = len(sys.modules)


@contextmanager
def lifted_at_end() -> Iterator[None]:
    """Give a process that does more than run tasks its threads back."""
    global _modules
    try:
        yield
    finally:
        while _limits:
            _limits.pop().restore_original_limits()
        _modules = 0
