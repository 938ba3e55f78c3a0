"""The line of stages: run one after the other, each on what those before it have done."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from voxloom.engine.events import Note, ignore
from voxloom.engine.reports import NO_PAGE, draws_pages, performance_page, write_summary
from voxloom.engine.runner import run_stage
from voxloom.errors import InputError
from voxloom.pipeline.planning.refusal import require_memory
from voxloom.pipeline.stages import (
    combine,
    consolidate,
    correct,
    design,
    fit,
    group,
    harmonise,
    infer,
    influence,
    ingest,
    noise,
    smooth,
    spatial,
    write,
)
from voxloom.pipeline.workspace import GroupWorkspace
from voxloom.spec.section import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import distributed

    from voxloom.engine.ledger import Record
    from voxloom.engine.runner import StageResult, Task
    from voxloom.pipeline.workspace import Stage, Workspace
    from voxloom.spec import Analysis

W = TypeVar("W", bound=GroupWorkspace)
#: All that an analysis can have; `stages_of` tells which one has.
STAGES = (
    ingest.STAGE,
    design.STAGE,
    noise.STAGE,
    smooth.STAGE,
    fit.STAGE,
    combine.STAGE,
    consolidate.STAGE,
    harmonise.COMBAT_STAGE,
    harmonise.STAGE,
    group.STAGE,
    influence.STAGE,
    infer.STAGE,
    spatial.STAGE,
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


def stages_of(analysis: Analysis, until: str | None = None) -> tuple[Stage[Workspace], ...]:
    """The stages of an analysis, in order: up to one, that included, or all.

    Raises
    ------
    InputError
        It has no such stage.
    """
    found = tuple(stage for stage in STAGES if stage.wanted is None or stage.wanted(analysis))
    names = [stage.name for stage in found]
    if until is not None and until not in names:
        raise InputError("until", f"{until!r} is no stage.", did_you_mean(until, names))
    return found if until is None else found[: names.index(until) + 1]


def go(
    ws: Workspace, client: distributed.Client | None, stages: tuple[Stage[Workspace], ...], reports: Path | None = None
) -> RunResult:
    """Run stages in turn; a failed task ends the line after its stage, a quarantined one does not."""
    failed: tuple[Record, ...] = ()
    if reports is not None:
        reports.mkdir(parents=True, exist_ok=True)
        if client is not None and not draws_pages(client):
            ws.note(NO_PAGE)
    for stage in stages:
        failed = advance(ws, client, stage, reports)
        if stage is design.STAGE:
            require_contrasts(ws)
            require_memory(ws)
        if failed:
            break
    if write.STAGE in stages and not failed:
        write.note_leftovers(ws, write.tasks(ws))
    return ended(ws, failed)


def ended(ws: GroupWorkspace, failed: tuple[Record, ...]) -> RunResult:
    """How the stages of a workspace have ended."""
    return RunResult(
        results_name=ws.analysis.combine_digest,
        group_names={name: ws.analysis.group_digest(name) for name in ws.analysis.group},
        store=ws.url,
        output=ws.analysis.output.dir,
        quarantined=tuple(ws.quarantined),
        failed=failed,
        warnings=tuple(ws.notes),
    )


def advance(
    ws: W, client: distributed.Client | None, stage: Stage[W], reports: Path | None = None
) -> tuple[Record, ...]:
    """Do one stage: make room, run its tasks, take over what they did; return the records of those that failed."""
    if stage.prepare is not None:
        stage.prepare(ws)
    result = run_reported(ws, client, stage, reports)
    absorb(ws, result)
    if stage.finish is not None:
        stage.finish(ws)
    return result.failed


def run_reported(ws: W, client: distributed.Client | None, stage: Stage[W], reports: Path | None) -> StageResult:
    """Run one stage, and write into a folder what it cost."""
    if reports is None:
        return run_tasks(ws, client, stage, stage.tasks(ws))
    with performance_page(reports / f"{stage.name}.html", client):
        result = run_reported(ws, client, stage, None)
    write_summary(reports / f"{stage.name}.json", result)
    return result


def run_tasks(ws: W, client: distributed.Client | None, stage: Stage[W], tasks: Sequence[Task]) -> StageResult:
    """Run tasks of a stage, with what follows each."""
    on_done = None if stage.each is None else partial(stage.each, ws)
    return run_stage(stage.name, tasks, ledger=ws.ledger, client=client, on_event=ws.on_event, on_done=on_done)


def absorb(ws: GroupWorkspace, result: StageResult) -> None:
    """Take over what a stage has done, and its warnings."""
    ws.records[result.stage] = {key: r for key, r in result.records.items() if r.status == "done"}
    ws.quarantined += result.quarantined
    for record in result.records.values():
        for text in record.details.get("warnings", ()):
            ws.note(text)


def recall(ws: W, stage: Stage[W]) -> None:
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
