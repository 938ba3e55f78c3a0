"""Runs an analysis: every stage in turn, on a cluster, under the store's lock."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloom.engine.cluster import connect
from voxloom.engine.events import Note, ignore
from voxloom.engine.ledger import Record
from voxloom.engine.lock import StoreLock
from voxloom.engine.reports import NO_PAGE, draws_pages, performance_page, write_summary
from voxloom.engine.runner import run_stage
from voxloom.errors import InputError
from voxloom.io.objects import Objects, clean_partial
from voxloom.io.sites import find_runs
from voxloom.io.study import open_study
from voxloom.pipeline import combine, consolidate, correct, design, fit, group, infer, ingest, write
from voxloom.pipeline.prepare import prepare_study
from voxloom.pipeline.refusal import require_ingest_memory, require_memory
from voxloom.pipeline.workspace import Stage, Workspace
from voxloom.spec import Analysis, Output, load_analysis, parse_analysis
from voxloom.spec.section import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import distributed

    from voxloom.engine.events import OnEvent
    from voxloom.engine.runner import StageResult
    from voxloom.io.bids import RunFile

#: Where runs are kept that cannot be used at all: unreadable, or on another grid.
PREPARE = "prepare"
STAGES = (
    ingest.STAGE,
    design.STAGE,
    fit.STAGE,
    combine.STAGE,
    consolidate.STAGE,
    group.STAGE,
    infer.STAGE,
    correct.STAGE,
    write.STAGE,
)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended.

    Parameters
    ----------
    results_name : str
        Digest that names the subject-level results in the store: ``open_study(store).results(results_name)``.
    group_names : mapping of str to str
        The same for the results of each group model, by the model's name.
    store : str
    output : Path
        Folder of the NIfTI files.
    quarantined, failed : tuple of Record
        Tasks without a result, with their reasons.
    warnings : tuple of str
    """

    results_name: str
    group_names: Mapping[str, str]
    store: str
    output: Path
    quarantined: tuple[Record, ...]
    failed: tuple[Record, ...]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every task has its result."""
        return not (self.quarantined or self.failed)


def run(
    spec: Analysis | str | Path | Mapping[str, Any],
    client: distributed.Client | None = None,
    *,
    until: str | None = None,
    performance_report: str | Path | None = None,
    on_event: OnEvent | None = None,
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
    stages = stages_until(until)
    folder = None if performance_report is None else Path(performance_report)
    with at_work(spec, client, on_event, stages) as (ws, connected):
        return go(ws, connected, stages, folder)


def stages_until(name: str | None) -> tuple[Stage, ...]:
    """The stages up to one, that included; all of them for None.

    Raises
    ------
    InputError
        There is no such stage.
    """
    names = [stage.name for stage in STAGES]
    if name is not None and name not in names:
        raise InputError("until", f"{name!r} is no stage.", did_you_mean(name, names))
    return STAGES if name is None else STAGES[: names.index(name) + 1]


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
    with at_work(analysis, client, on_event, STAGES) as (ws, connected):
        for stage in STAGES[:-1]:
            recall(ws, stage)
        return go(ws, connected, STAGES[-1:])


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
    stages: tuple[Stage, ...],
    runs: Sequence[RunFile] | None = None,
) -> Iterator[tuple[Workspace, distributed.Client | None]]:
    """A workspace for these stages whose store is locked for us, and the cluster; `runs` as given, else found."""
    analysis = as_analysis(spec)
    runs = find_runs(analysis.data) if runs is None else runs
    if group.STAGE in stages:
        group.check(analysis, runs)
    with ExitStack() as stack:
        ws = Workspace(analysis, Objects(analysis.store.path), runs, on_event)
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


def go(
    ws: Workspace, client: distributed.Client | None, stages: tuple[Stage, ...], reports: Path | None = None
) -> RunResult:
    """Run stages in turn; a failed task ends the line after its stage, a quarantined one does not."""
    failed: tuple[Record, ...] = ()
    if reports is not None:
        reports.mkdir(parents=True, exist_ok=True)
        if client is not None and not draws_pages(client):
            ws.note(NO_PAGE)
    for stage in stages:
        if stage.prepare is not None:
            stage.prepare(ws)
        result = run_reported(ws, client, stage, reports)
        absorb(ws, result)
        if stage.finish is not None:
            stage.finish(ws)
        if stage is design.STAGE:
            require_contrasts(ws)
            require_memory(ws)
        failed = result.failed
        if failed:
            break
    if write.STAGE in stages and not failed:
        write.note_leftovers(ws)
    return RunResult(
        results_name=ws.analysis.combine_digest,
        group_names={name: ws.analysis.group_digest(name) for name in ws.analysis.group},
        store=ws.url,
        output=ws.analysis.output.dir,
        quarantined=tuple(ws.quarantined),
        failed=failed,
        warnings=tuple(ws.notes),
    )


def run_reported(ws: Workspace, client: distributed.Client | None, stage: Stage, reports: Path | None) -> StageResult:
    """Run one stage, and write into a folder what it cost."""
    if reports is None:
        return run_stage(stage.name, stage.tasks(ws), ledger=ws.ledger, client=client, on_event=ws.on_event)
    with performance_page(reports / f"{stage.name}.html", client):
        result = run_reported(ws, client, stage, None)
    write_summary(reports / f"{stage.name}.json", result)
    return result


def absorb(ws: Workspace, result: StageResult) -> None:
    """Take over what a stage has done, and its warnings."""
    ws.records[result.stage] = {key: r for key, r in result.records.items() if r.status == "done"}
    ws.quarantined += result.quarantined
    for record in result.records.values():
        for text in record.details.get("warnings", ()):
            ws.note(text)


def recall(ws: Workspace, stage: Stage) -> None:
    """Take over what earlier runs have done in a stage, where it is still valid."""
    known = ws.ledger.read(stage.name)
    wanted = {task.key: task.inputs for task in stage.tasks(ws)}
    ws.records[stage.name] = {
        key: known[key]
        for key, inputs in wanted.items()
        if key in known and known[key].status == "done" and known[key].inputs == inputs
    }


def require_contrasts(ws: Workspace) -> None:
    """Refuse contrasts that no run can answer before anything is fitted."""
    columns = {key: record.details["columns"] for key, record in ws.done(design.NAME).items()}
    if not columns:
        reasons = "\n  ".join(record.reason for record in ws.quarantined[:10])
        raise InputError("no run is left to fit", f"every one was quarantined:\n  {reasons}")
    for text in (*design.check_contrasts(ws.analysis, columns), *censoring(ws)):
        ws.note(text)
        (ws.on_event or ignore)(Note(text))


def censoring(ws: Workspace) -> list[str]:
    """How many volumes are left out of the runs, as a line for the user; none where none is."""
    details = {key.rpartition("/")[2]: record.details for key, record in ws.done(design.NAME).items()}
    note = design.censoring_note({run: (d.get("n_kept", d["n_volumes"]), d["n_volumes"]) for run, d in details.items()})
    return [] if note is None else [note]
