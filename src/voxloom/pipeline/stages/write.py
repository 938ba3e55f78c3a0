"""Stage `export`: maps in the store become NIfTI files with sidecars; one task per subject, group test and site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voxloom.io.bids.derivative_dataset import write_dataset
from voxloom.io.bids.derivatives import read_sidecar
from voxloom.io.nifti.write import clean_partial
from voxloom.pipeline.stages.group import group_tests
from voxloom.pipeline.stages.write_coverage import coverage_tasks
from voxloom.pipeline.stages.write_group import group_tasks
from voxloom.pipeline.stages.write_subject import subject_tasks
from voxloom.pipeline.stored.map_files import NAME, planned_files
from voxloom.pipeline.workspace import GroupWorkspace, Stage, Workspace
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxloom.engine.runner import Task


def tasks(ws: Workspace) -> list[Task]:
    """Tasks of all subjects and group tests that are done, and of the sites."""
    return [*subject_tasks(ws), *group_tasks(ws), *coverage_tasks(ws)]


def prepare(ws: Workspace) -> None:
    """Describe the output folder and clear it of halves; forget records whose files are gone or another analysis's."""
    output, sites = Path(ws.analysis.output.dir), list(ws.analysis.data.sites)
    write_dataset(output, name="voxloom results", ignore=[f"/{site}" for site in sites])
    for site in sites:  # each is a derivative
        write_dataset(output / site, name="voxloom results")
    if runs := ws.group_runs():
        clean_partial(output / name for name in planned_files(ws, runs, group_tests(ws)))
    forget_lost(ws, tasks(ws))


def forget_lost(ws: GroupWorkspace, wanted: Iterable[Task]) -> None:
    """Forget the records of these tasks whose files are gone or were written by another analysis."""
    output, known = Path(ws.analysis.output.dir), ws.ledger.read(NAME)
    for task in wanted:
        record = known.get(task.key)
        if record is not None and not all(
            holds(output / name, task.kwargs["inputs"]) for name in record.details.get("files", ())
        ):
            ws.ledger.forget(record)


def note_leftovers(ws: GroupWorkspace, tasks: Iterable[Task]) -> None:
    """Say which files in the output folder are of subjects and tests that are not among the tasks of this analysis."""
    wanted = {task.key for task in tasks}
    folder = Path(ws.analysis.output.dir)
    kept: set[str] = set()
    left: set[str] = set()
    for key, record in ws.ledger.read(NAME).items():
        if key.endswith(f"/{digest(str(folder))}"):
            (kept if key in wanted else left).update(record.details.get("files", ()))
    stale = sorted(name for name in left - kept if (folder / name).exists())
    if stale:
        ws.note(f"{folder}: {len(stale)} files of earlier runs are not part of this result, such as {stale[0]}")


def holds(path: Path, inputs: str) -> bool:
    """Whether a file is there and, by its sidecar, made of these inputs."""
    return path.exists() and read_sidecar(path).get("InputsDigest") == inputs


STAGE = Stage(NAME, tasks, prepare)
