"""What each stage cost, in a folder: a summary of its records as JSON, and Dask's own performance report."""

from __future__ import annotations

import importlib.util
import json
import statistics
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import distributed

    from voxloom.engine.runner import StageResult


#: What is said where there is a cluster, and its report cannot be drawn.
NO_PAGE = (
    "performance report: JSON only, for Dask draws the HTML page with bokeh, which the scheduler does not have. "
    "There: pip install 'voxloom[report]'."
)


def draws_pages(client: distributed.Client) -> bool:
    """Whether Dask can draw its report: the scheduler makes it, and needs bokeh for it."""
    return bool(client.run_on_scheduler(_has_bokeh))


def _has_bokeh() -> bool:
    return importlib.util.find_spec("bokeh") is not None


@contextmanager
def performance_page(path: Path, client: distributed.Client | None) -> Iterator[None]:
    """Write Dask's performance report of what runs inside; nothing where none can be drawn, or when it was stopped."""
    if client is None or not draws_pages(client):
        yield
        return
    import distributed

    page = distributed.performance_report(filename=str(path))
    with client.as_current():
        page.__enter__()
        yield
        page.__exit__(None, None, None)


def write_summary(path: Path, result: StageResult) -> None:
    """Write `summary` of a stage as JSON."""
    path.write_text(json.dumps(summary(result), indent=2) + "\n")


def summary(result: StageResult) -> dict[str, Any]:
    """Tasks, seconds, bytes and rates of a stage, of its tasks that are done, by whichever run.

    Rates are per second of task time: what one worker does.
    """
    done = [record for record in result.records.values() if record.status == "done"]
    seconds = [record.seconds for record in done]
    total, read, written = (
        sum(seconds),
        sum(record.bytes_read for record in done),
        sum(record.bytes_written for record in done),
    )
    return {
        "stage": result.stage,
        "tasks": len(result.records),
        "done_before": result.done_before,
        "done_now": result.done_now,
        "failed": len(result.failed),
        "quarantined": len(result.quarantined),
        "attempts": sum(record.attempt for record in result.records.values()),
        "wall_seconds_now": round(result.seconds, 3),
        "task_seconds": round(total, 3),
        "task_seconds_median": round(statistics.median(seconds), 4) if seconds else None,
        "task_seconds_max": round(max(seconds), 4) if seconds else None,
        "bytes_read": read,
        "bytes_written": written,
        "bytes_read_per_second": round(read / total) if total else None,
        "bytes_written_per_second": round(written / total) if total else None,
        "hosts": sorted({record.host for record in done}),
    }
