"""What every stage needs: the analysis, its runs, the store, the ledger, and what has been done so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from voxloom.engine.ledger import Ledger, Record
from voxloom.io.study.runs import stored_name
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from voxloom.engine.events import OnEvent
    from voxloom.engine.runner import Task
    from voxloom.errors import InputError
    from voxloom.io.bids.run_table import RunFile
    from voxloom.io.store.objects import Objects
    from voxloom.io.study.open import Study
    from voxloom.spec import Analysis, GroupAnalysis


@dataclass
class GroupWorkspace:
    """An analysis that ends in group models, at work on one store.

    Parameters
    ----------
    analysis : GroupAnalysis
    objects : Objects
        The store, as keys and bytes.
    on_event : callable, optional
        Receives the engine's events.
    """

    analysis: GroupAnalysis
    objects: Objects
    on_event: OnEvent | None = None
    study: Study | None = field(default=None, kw_only=True)
    records: dict[str, dict[str, Record]] = field(default_factory=dict, kw_only=True)
    notes: list[str] = field(default_factory=list, kw_only=True)
    quarantined: list[Record] = field(default_factory=list, kw_only=True)

    @property
    def ledger(self) -> Ledger:
        """The ledger of this store."""
        return Ledger(self.objects)

    @property
    def url(self) -> str:
        """Address of the store; what tasks are given."""
        return str(self.objects.url)

    @property
    def voxel(self) -> NDArray[np.int64]:
        """Flat indices of the study's voxels."""
        assert self.study is not None, "the study is made before the first stage"
        return self.study.voxel

    def done(self, stage: str) -> dict[str, Record]:
        """Records of the tasks of `stage` that are done and belong to this analysis, by key."""
        return self.records.get(stage, {})

    def complete(self, tasks: Iterable[Task]) -> bool:
        """Whether all of these tasks are done."""
        return all(task.key in self.done(task.stage) for task in tasks)

    def refuse(self, stage: str, key: str, error: InputError) -> None:
        """Keep, once, that something of a stage cannot be done, and why."""
        if all((record.stage, record.key) != (stage, key) for record in self.quarantined):
            self.quarantined.append(Record(stage=stage, key=key, status="quarantined", inputs="", reason=str(error)))

    def note(self, text: str) -> None:
        """Keep one line for the user; the same line is kept once."""
        if text not in self.notes:
            self.notes.append(text)

    def group_runs(self) -> list[RunFile]:
        """Runs that the maps of the group models rest on, as far as they are known."""
        return []


@dataclass
class Workspace(GroupWorkspace):
    """One analysis at work on one store.

    Parameters
    ----------
    runs : sequence of RunFile
        Every run the analysis names, in natural order.

    Others as in `GroupWorkspace`.
    """

    analysis: Analysis
    runs: Sequence[RunFile] = ()
    planned: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Remember every subject: `runs` may lose those that cannot be read."""
        self.planned = tuple(dict.fromkeys(run.subject for run in self.runs))

    def group_runs(self) -> list[RunFile]:
        """Every fitted run."""
        return [run for found in self.subjects().values() for run in found]

    def stored_id(self, run: RunFile) -> str:
        """Name of the run in the store; a smoothed or rounded copy has its own, so that none replaces another."""
        smooth, error = self.analysis.first_level.smoothing_fwhm, self.analysis.data.max_error_sd
        return stored_name(run.id, smooth=smooth, error=error)

    @property
    def fitted_runs(self) -> list[RunFile]:
        """Runs whose every fit shard is done."""
        return [run for run in self.runs if self.fit_digest_of(run) is not None]

    def fit_digest_of(self, run: RunFile) -> str | None:
        """Digest over design and all fit shards of one run; None while one is missing."""
        design, shards = self.done("design").get(self.fit_path(run)), self.shard_digests("fit", run, self.fit_path(run))
        return None if design is None or shards is None else digest([design.digest, *shards])

    def shard_digests(self, stage: str, run: RunFile, path: str) -> list[str] | None:
        """Digests of the tasks of one run, a shard each, with keys below `path`; None while one is missing."""
        design = self.done("design").get(self.fit_path(run))
        if design is None:
            return None
        keys = [f"{path}/{i:04d}" for i in range(design.details["n_shards"])]
        found = [self.done(stage)[key].digest for key in keys if key in self.done(stage)]
        return found if len(found) == len(keys) else None

    def fit_path(self, run: RunFile) -> str:
        """Where the fit of a run lies below ``fits/``, and the key of its design."""
        return f"{self.analysis.fit_digest}/{self.stored_id(run)}"

    def noise_path(self, run: RunFile) -> str:
        """Where the noise of each voxel of a run by itself lies below ``noise/``; smoothed it is at the fit's path."""
        return f"{self.analysis.noise_digest}/{self.stored_id(run)}"

    def combined_subjects(self) -> list[str]:
        """Subjects whose maps are done, in order."""
        name = self.analysis.combine_digest
        return [subject for subject in self.subjects() if f"{name}/{subject}" in self.done("combine")]

    def subjects(self) -> dict[str, list[RunFile]]:
        """Fitted runs by subject (``sub-01``), in order."""
        found: dict[str, list[RunFile]] = {}
        for run in self.fitted_runs:
            found.setdefault(run.subject, []).append(run)
        return found


W = TypeVar("W", bound=GroupWorkspace, contravariant=True)


class Stage(NamedTuple, Generic[W]):
    """One arrow of the line, on a workspace that knows at least `W`.

    Parameters
    ----------
    name : str
    tasks : callable
        The tasks of a workspace, from what the stages before have done. Writes nothing.
    prepare : callable, optional
        Makes room in the store, once, before the tasks run.
    finish : callable, optional
        What is made of all tasks together, once, after they have run.
    wanted : callable, optional
        Whether an analysis has this stage at all; every one has when not given.
    each : callable, optional
        What follows each task that is done, here and before those that come after it begin.
    """

    name: str
    tasks: Callable[[W], list[Task]]
    prepare: Callable[[W], None] | None = None
    finish: Callable[[W], None] | None = None
    wanted: Callable[[Any], bool] | None = None
    each: Callable[[W, Record], None] | None = None


def content_digest(arrays: Iterable[NDArray[Any]], *more: Any) -> str:
    """Digest of array contents and small JSON-able values: what a record says was written."""
    import hashlib

    h = hashlib.sha256()
    for array in arrays:
        h.update(str((array.shape, array.dtype.str)).encode())
        h.update(np.ascontiguousarray(array).data)
    h.update(digest(list(more)).encode())
    return h.hexdigest()[:16]
