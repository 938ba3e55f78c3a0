"""SIGINT and SIGTERM become a request that is looked at between tasks, so that none breaks a submission."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Event that the first signal sets; a second raises KeyboardInterrupt. Inert outside the main thread."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(signum: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = {signum: signal.signal(signum, request) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in previous.items():
            # None: the handler was not set from Python and cannot be put back
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
