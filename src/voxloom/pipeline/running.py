"""Runs an analysis on a cluster, under the lock of its store."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloom.engine.cluster import connect
from voxloom.engine.ledger import Record
from voxloom.engine.lock import StoreLock
from voxloom.io.bids.sites import find_runs
from voxloom.io.store.objects import Objects, clean_partial
from voxloom.io.study.open import open_study
from voxloom.pipeline.line import go, recall, stages_of
from voxloom.pipeline.planning.refusal import require_ingest_memory
from voxloom.pipeline.prepare import prepare_study
from voxloom.pipeline.stages import group, ingest
from voxloom.pipeline.workspace import Workspace
from voxloom.spec import Analysis, Output, load_analysis, parse_analysis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import distributed

    from voxloom.engine.events import OnEvent
    from voxloom.errors import InputError
    from voxloom.io.bids.run_table import RunFile
    from voxloom.pipeline.line import RunResult
    from voxloom.pipeline.workspace import Stage

#: Where runs are kept that cannot be used at all: unreadable, or on another grid.
PREPARE = "prepare"


def run(
    spec: Analysis | str | Path | Mapping[str, Any],
    client: distributed.Client | None = None,
    *,
    until: str | None = None,
    performance_report: str | Path | None = None,
    on_event: OnEvent | None = None,
    afterwards: Callable[[Workspace, distributed.Client | None], None] | None = None,
) -> RunResult:
    """Run an analysis to its end, or go on where an earlier run stopped.

    Parameters
    ----------
    spec : Analysis, path of an analysis file, or mapping
    client : distributed.Client, optional
        Cluster to run on; by default as the analysis says (``cluster:``), a local one sized from the machine.
    until : str, optional
        Last stage to run, such as ``"ingest"`` or ``"fit"``; all stages when not given.
    performance_report : path, optional
        Folder for what each stage cost: ``<stage>.json``, and on a cluster ``<stage>.html``, Dask's performance
        report, where the scheduler has bokeh to draw it.
    on_event : callable, optional
        Called with each event of the engine.
    afterwards : callable, optional
        Called once, on the same cluster, when no stage has failed: with what has been done, and the client.

    Returns
    -------
    RunResult
        Inputs that are wrong are quarantined with the reason and do not stop the others.

    Raises
    ------
    InputError
        The analysis cannot be run as it stands.
    StoreError
        Another process works on the store.
    """
    analysis = as_analysis(spec)
    stages = stages_of(analysis, until)
    folder = None if performance_report is None else Path(performance_report)
    with at_work(analysis, client, on_event, stages) as (ws, connected):
        result = go(ws, connected, stages, folder)
        if afterwards is None or result.failed:
            return result
        afterwards(ws, connected)
        return replace(result, warnings=tuple(ws.notes))


def export(
    spec: Analysis | str | Path | Mapping[str, Any],
    client: distributed.Client | None = None,
    *,
    output: str | Path | None = None,
    on_event: OnEvent | None = None,
) -> RunResult:
    """Write the maps that are in the store as NIfTI, without computing anything new.

    Parameters
    ----------
    output : path, optional
        Another folder than the analysis names.

    Others as in `run`.
    """
    analysis = as_analysis(spec)
    open_study(analysis.store.path)  # says so where there is nothing to export
    if output is not None:
        analysis = analysis.model_copy(update={"output": Output(dir=Path(output).absolute())})
    stages = stages_of(analysis)
    with at_work(analysis, client, on_event, stages) as (ws, connected):
        for stage in stages[:-1]:
            recall(ws, stage)
        return go(ws, connected, stages[-1:])


def as_analysis(spec: Analysis | str | Path | Mapping[str, Any]) -> Analysis:
    """The analysis, read from its file or checked from a mapping where it is not one yet."""
    if isinstance(spec, Analysis):
        return spec
    return load_analysis(spec) if isinstance(spec, (str, Path)) else parse_analysis(spec)


@contextmanager
def at_work(
    spec: Analysis | str | Path | Mapping[str, Any],
    client: distributed.Client | None,
    on_event: OnEvent | None,
    stages: tuple[Stage[Workspace], ...],
    runs: Sequence[RunFile] | None = None,
) -> Iterator[tuple[Workspace, distributed.Client | None]]:
    """A workspace for these stages whose store is locked for us, and the cluster; `runs` as given, else found."""
    analysis = as_analysis(spec)
    runs = find_runs(analysis.data) if runs is None else runs
    if group.STAGE in stages:
        group.check(analysis, runs)
    with ExitStack() as stack:
        ws = Workspace(analysis, Objects(analysis.store.path), on_event, runs=runs)
        stack.enter_context(StoreLock(ws.objects, on_event=on_event))
        clean_partial(ws.objects)
        if client is None:
            client = stack.enter_context(
                connect(analysis.cluster, workers=analysis.workers, memory_budget=analysis.memory_budget)
            )
        ws.study, inputs = prepare_study(ws)
        set_aside(ws, inputs.problems)
        ws.runs = [found for found in runs if found.id in inputs.headers]
        if ingest.STAGE in stages:
            require_ingest_memory(ws, inputs.headers)
        yield ws, client


def set_aside(ws: Workspace, problems: Mapping[str, InputError]) -> None:
    """Keep in the ledger which runs cannot be used at all, and why; forget those that have been mended."""
    known = ws.ledger.read(PREPARE)
    for run in ws.runs:
        if run.id in known and run.id not in problems:
            ws.ledger.forget(known[run.id])
    for run_id, problem in problems.items():
        record = Record(stage=PREPARE, key=run_id, status="quarantined", inputs="", reason=str(problem))
        ws.ledger.write(record)
        ws.quarantined.append(record)
