"""Looks at a dataset before there is an analysis file: tasks, spaces, conditions, confounds, covariates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxloom.io.bids.events import read_events
from voxloom.io.bids.images import derivative_trees, find_images, tasks_of, variants_of
from voxloom.io.bids.participants import read_participants
from voxloom.io.bids.run_table import index_runs
from voxloom.io.bids.tree import BIDSTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from voxloom.io.bids.run_table import RunFile
    from voxloom.io.bids.tree import BIDSFile

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
#: Name the design gives to the condition of events without `trial_type`.
UNNAMED = "dummy"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the starter file is made of.

    Parameters
    ----------
    runs : sequence of RunFile
        Runs of the chosen task and version.
    tasks, versions : mapping of str to int
        Images of every task, and of every space and resolution of the chosen task.
    task : str
    space : str or None
        None where images have none.
    resolution : str or None
        None unless several have to be told apart.
    conditions : mapping of str to int
        Number of runs each condition occurs in.
    confounds : frozenset of str
        Columns that every run has.
    covariates : sequence of str
        Columns of participants.tsv.
    """

    runs: Sequence[RunFile]
    tasks: Mapping[str, int]
    versions: Mapping[str, int]
    task: str
    space: str | None
    resolution: str | None
    conditions: Mapping[str, int]
    confounds: frozenset[str]
    covariates: Sequence[str]

    @property
    def subjects(self) -> int:
        """Number of subjects."""
        return len({run.subject for run in self.runs})


def look(bids_dir: str | Path, derivatives: str | Path | Sequence[str | Path] | None = None) -> Findings:
    """Look at a dataset: its commonest task, one space of it, conditions and confounds.

    Raises
    ------
    InputError
        There is no BOLD image, or an events or confounds file cannot be read.
    """
    raw = BIDSTree(Path(bids_dir))
    images = find_images(raw, derivative_trees(raw.root, derivatives), {})
    tasks = tasks_of(images)
    task = min(tasks, key=lambda name: (-tasks[name], name))
    images = [file for file in images if file.entities.get("task", "") == task]
    space, resolution = _version(images)
    runs = index_runs(
        bids_dir,
        derivatives,
        task=task or None,
        space=space or "native",
        filters={"res": resolution} if resolution else None,
    )
    return Findings(
        runs=runs,
        tasks=tasks,
        versions=variants_of(images),
        task=task,
        space=space,
        resolution=resolution,
        conditions=_conditions(runs),
        confounds=_confounds(runs),
        covariates=_covariates(raw.root),
    )


def _version(images: Iterable[BIDSFile]) -> tuple[str | None, str | None]:
    """Choose a space, MNI before other standard ones before native ones, and one of several resolutions."""
    images = list(images)
    spaces = Counter(file.entities.get("space") for file in images)
    space = min(spaces, key=lambda s: (s is None, not (s or "").startswith("MNI"), s == "T1w", -spaces[s], s or ""))
    levels = Counter(file.entities.get("res") for file in images if file.entities.get("space") == space)
    named = sorted(level for level in levels if level is not None)
    return space, named[0] if len(levels) > 1 and named else None


def _conditions(runs: Iterable[RunFile]) -> dict[str, int]:
    """Count the runs with each condition, names in order."""
    counts: Counter[str] = Counter()
    for run in runs:
        if run.events is None:
            continue
        events = read_events(run.events)
        names = events["trial_type"].dropna().unique() if "trial_type" in events else [UNNAMED]
        counts.update(str(name) for name in names)
    return dict(sorted(counts.items()))


def _confounds(runs: Sequence[RunFile]) -> frozenset[str]:
    """Columns that the confounds of every run have; none when a run has no table."""
    shared: set[str] | None = None
    for run in runs:
        header: set[str] = set()
        if run.confounds is not None:
            with run.confounds.open(encoding="utf-8-sig") as lines:
                header = {name.strip() for name in lines.readline().split("\t")}
        shared = header if shared is None else shared & header
    return frozenset(shared or ())


def _covariates(bids_dir: Path) -> list[str]:
    """Columns of participants.tsv with more than one value."""
    if not (bids_dir / "participants.tsv").exists():
        return []
    table = read_participants(bids_dir)
    return [str(name) for name in table.columns if table[name].nunique() > 1]
