"""Reports of an analysis: one task per subject and per group model, on the cluster and in the ledger like any other.

They come after the last stage of the line, not within it: nothing is made of a report, and one that cannot be drawn
costs no result. So a task that fails here becomes a line for the user and on the index page, and is tried again by the
next run, but never the exit code of a run.
"""

from __future__ import annotations

import logging
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from voxloom._version import __version__
from voxloom.engine.runner import Output, Task, run_stage
from voxloom.errors import InputError
from voxloom.io.bids.derivatives import write_text
from voxloom.io.study.open import open_study
from voxloom.pipeline.line import recall, stages_of
from voxloom.pipeline.running import as_analysis, at_work
from voxloom.pipeline.stages.group import group_tests, outcome_of
from voxloom.pipeline.stages.write_subject import LevelRun
from voxloom.report.after_run import index_of
from voxloom.report.group import group_page
from voxloom.report.index import index_page
from voxloom.report.kept import keep_analysis
from voxloom.report.page import render
from voxloom.report.set_aside import SetAside, dropped, set_aside
from voxloom.report.subject import subject_page
from voxloom.spec import Output as Folder
from voxloom.spec import bids_label, digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import distributed

    from voxloom.engine.events import OnEvent
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.pipeline.workspace import Workspace
    from voxloom.spec import Analysis

NAME = "report"
#: Runs whose mean image is the background of a group model, one of each subject.
BACKGROUND = 16
#: Bytes of a page that hold the digest of what it is made of.
HEAD = 2000
#: What a page looks like depends on these being there.
EXTRAS = ("matplotlib", "nilearn")


def write_reports(
    spec: Analysis | str | Path | Mapping[str, object],
    client: distributed.Client | None = None,
    *,
    output: str | Path | None = None,
    on_event: OnEvent | None = None,
) -> Path:
    """Draw the reports of an analysis from its store, as far as it is done; nothing is computed anew.

    Parameters
    ----------
    spec : Analysis, path of an analysis file, or mapping
    client : distributed.Client, optional
        Cluster to draw on; by default as the analysis says.
    output : path, optional
        Folder of the results, in which ``reports`` is made; by default as the analysis says.
    on_event : callable, optional
        Called with each event of the engine.

    Returns
    -------
    Path
        The index page. It names the reports that could not be drawn.

    Raises
    ------
    InputError
        Nothing of the analysis is done yet.
    StoreError
        There is no store, or another process works on it.
    """
    analysis = as_analysis(spec)
    open_study(analysis.store.path)  # says so where there is none
    if output is not None:
        analysis = analysis.model_copy(update={"output": Folder(dir=Path(output).absolute())})
    with at_work(analysis, client, on_event, ()) as (ws, connected):
        for stage in stages_of(analysis):
            recall(ws, stage)
        if not ws.combined_subjects():
            raise InputError(analysis.store.path, "has no results of this analysis yet.", "First `voxloom run` it.")
        return draw_reports(ws, connected)


def draw_reports(ws: Workspace, client: distributed.Client | None) -> Path:
    """Draw what is missing or of other inputs, then the index; failures become notes."""
    wanted = tasks(ws)
    forget_lost(ws, wanted)
    result = run_stage(NAME, wanted, ledger=ws.ledger, client=client, on_event=ws.on_event)
    for record in (*result.failed, *result.quarantined):
        ws.note(f"report of {record.key.split('/')[1]}: could not be drawn: {record.reason}")
    keep_analysis(ws.objects, ws.analysis)
    return write_text(index_of(ws.analysis.output.dir), render(index_page(ws.analysis, result.records.values())))


def folder_of(ws: Workspace) -> Path:
    """Where the pages of an analysis lie."""
    return index_of(ws.analysis.output.dir).parent


def tasks(ws: Workspace) -> list[Task]:
    """One task per subject with maps and per group model whose every test is corrected."""
    return [*subject_tasks(ws), *group_tasks(ws)]


def subject_tasks(ws: Workspace) -> Iterator[Task]:
    """One task per subject."""
    name, subjects = ws.analysis.combine_digest, ws.subjects()
    for subject in ws.combined_subjects():
        record = ws.done("combine")[f"{name}/{subject}"]
        made = digest([name, record.inputs, record.digest, *looks()])
        page = f"{subject}.html"
        yield Task(
            stage=NAME,
            key=f"{name}/{subject}/{digest(str(folder_of(ws)))}",
            function=report_subject,
            kwargs={
                "path": str(folder_of(ws) / page),
                "store": ws.url,
                "subject": subject,
                "results": name,
                "runs": [LevelRun(run.id, run.entities, ws.fit_path(run)) for run in subjects[subject]],
                "analysis": ws.analysis,
                "inputs": made,
            },
            inputs=made,
        )


def group_tasks(ws: Workspace) -> Iterator[Task]:
    """One task per group model."""
    unusable = set_aside(ws)
    for test in group_tests(ws):
        left_out = [*unusable, *dropped(ws.combined_subjects(), test)]
        records = [ws.done("correct").get(f"{test.results}/{i}-{j}") for i, j in pairs_of(test)]
        done = [record for record in records if record is not None]
        if len(done) < len(records):
            continue
        corrected = [[record.inputs, record.digest] for record in done]
        made = digest([outcome_of(ws, test), corrected, [list(one) for one in left_out], *looks()])
        yield Task(
            stage=NAME,
            key=f"{test.results}/{bids_label(test.name)}/{digest(str(folder_of(ws)))}",
            function=report_group,
            kwargs={
                "path": str(folder_of(ws) / f"model-{bids_label(test.name)}.html"),
                "store": ws.url,
                "test": test,
                "analysis": ws.analysis,
                "background": first_runs(ws, test.subjects),
                "sites": runs_by_site(ws),
                "left_out": left_out,
                "inputs": made,
            },
            inputs=made,
        )


def pairs_of(test: GroupTest) -> list[tuple[int, int]]:
    """Places of the pairs of contrasts of a model."""
    return [(i, j) for i in range(len(test.first_level)) for j in range(len(test.contrasts))]


def looks() -> list[str]:
    """What a page depends on besides its numbers: this version, and what it can draw with."""
    return [__version__, *(name for name in EXTRAS if find_spec(name) is not None)]


def first_runs(ws: Workspace, subjects: Sequence[str]) -> list[str]:
    """The first run of each of the first subjects, by its name in the store."""
    runs = ws.subjects()
    return [ws.stored_id(runs[subject][0]) for subject in subjects[:BACKGROUND]]


def runs_by_site(ws: Workspace) -> dict[str, list[str]]:
    """Fitted runs by site, by their names in the store."""
    found: dict[str, list[str]] = {}
    for run in ws.fitted_runs:
        found.setdefault(run.site, []).append(ws.stored_id(run))
    return found


def report_subject(
    *, path: str, store: str, subject: str, results: str, runs: Sequence[LevelRun], analysis: Analysis, inputs: str
) -> Output:
    """Write the page of a subject."""
    hush()
    page, told = subject_page(
        store=store, subject=subject, results=results, runs=runs, analysis=analysis, inputs=inputs
    )
    return written(path, render(page), {"subject": subject, "numbers": told})


def report_group(
    *,
    path: str,
    store: str,
    test: GroupTest,
    analysis: Analysis,
    background: Sequence[str],
    sites: Mapping[str, Sequence[str]],
    left_out: Sequence[SetAside],
    inputs: str,
) -> Output:
    """Write the page of a group model."""
    hush()
    page, told = group_page(
        store=store,
        test=test,
        analysis=analysis,
        background=background,
        sites=sites,
        left_out=left_out,
        inputs=inputs,
    )
    return written(path, render(page), {"model": test.name, "numbers": told})


def hush() -> None:
    """Keep matplotlib from telling the terminal of a run that it looks for fonts, as it does the first time."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


def written(path: str, html: str, told: Mapping[str, object]) -> Output:
    """Write a page, and say so."""
    write_text(Path(path), html)
    return Output(digest=digest(html), bytes_written=len(html), details={"page": Path(path).name, **told})


def forget_lost(ws: Workspace, wanted: Sequence[Task]) -> None:
    """Forget the records of pages that are gone, or that another analysis has written over."""
    known = ws.ledger.read(NAME)
    for task in wanted:
        record = known.get(task.key)
        if record is not None and not holds(Path(task.kwargs["path"]), task.inputs):
            ws.ledger.forget(record)


def holds(path: Path, inputs: str) -> bool:
    """Whether a page is there, and made of these inputs."""
    if not path.exists():
        return False
    with path.open(encoding="utf-8") as file:
        found = re.search(r'<meta name="voxloom-inputs" content="(\w*)">', file.read(HEAD))
    return found is not None and found[1] == inputs
