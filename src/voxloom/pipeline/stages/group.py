"""Stage 6: group models on the consolidated subject maps, one task per model and shard of voxels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.errors import DesignError, InputError
from voxloom.io.bids.participants import listed, participants_of, participants_of_sites, read_participants
from voxloom.io.store.arrays import open_array
from voxloom.io.store.objects import Objects
from voxloom.io.store.regions import read_region
from voxloom.io.study.open import describe_results, results_attrs
from voxloom.models.contrasts import contrast
from voxloom.models.group.design import group_design, require_min_n
from voxloom.models.group.estimators import find_estimator
from voxloom.models.group.fit import fit_group
from voxloom.pipeline.inference.exchange import label_columns, named_columns
from voxloom.pipeline.inference.nulls import require_nulls
from voxloom.pipeline.planning.memory import GroupWork, group_memory, group_piece, require
from voxloom.pipeline.stages import consolidate
from voxloom.pipeline.stages.group_contrasts import DesignContrast, contrasts_of
from voxloom.pipeline.stages.harmony import Harmony, harmonised
from voxloom.pipeline.stored.maps import make_map_array, map_chunks, write_block
from voxloom.pipeline.workspace import GroupWorkspace, Stage, Workspace, content_digest
from voxloom.schema import MAP_CHUNK_VOXELS, MAP_SHARD_VOXELS, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from voxloom.io.bids.run_table import RunFile
    from voxloom.models.group.estimators import Estimator
    from voxloom.spec import Analysis, GroupModel

NAME, INFLUENCE, HARMONISE = "group", "influence", "harmonise"
#: What the stage of influence leaves beside the statistics.
TOTALS, INFLUENCE_MAPS = "influence_totals", ("cooks_distance", "dfbeta", "dfbetas")
GROUP_STATISTICS = ("effect", "variance", "stat", "z_score", "p_value", "dof", "n")


@dataclass(frozen=True, kw_only=True)
class GroupTest:
    """One group model of the analysis with the subjects it is fitted to: all a task needs, without arrays.

    `places` tells where these lie among all whose maps lie together; None: they are all. `harmony` tells of what
    maps harmonised ones, which `source` then names, are made.
    """

    name: str
    results: str
    source: str
    subjects: tuple[str, ...]
    first_level: tuple[str, ...]
    rows: tuple[int, ...]
    design: pd.DataFrame
    contrasts: Mapping[str, DesignContrast]
    labels: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    estimator: str = "ols"
    groups: str | None = None
    places: tuple[int, ...] | None = None
    visits: str | None = None
    min_n: int = 1
    harmony: Harmony | None = None

    @property
    def path(self) -> str:
        """Where its results lie in the store."""
        return f"results/{self.results}"

    @property
    def maps(self) -> tuple[str, ...]:
        """Maps of every subject that it is fitted to."""
        return ("effect", "variance") if self._how.needs_variance else ("effect",)

    @property
    def questions(self) -> tuple[DesignContrast, ...]:
        """Its contrasts in order."""
        return tuple(self.contrasts.values())

    @property
    def function(self) -> Callable[..., Output]:
        """What fits it to a shard of voxels."""
        return fit_group_shard

    @property
    def written_design(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """What is written of its design: a table, and what is to be said of it."""
        names = {"Terms": "terms", "Coding": "coding"}
        told = {entry: self.design.attrs[key] for entry, key in names.items() if self.design.attrs.get(key)}
        return self.design.rename_axis(index=str(self.design.index.name or "participant_id")), told

    @property
    def work(self) -> GroupWork:
        """What fitting it holds in memory."""
        labels = () if self.groups is None else self.labels[self.groups]
        n_sizes = len(set(Counter(labels).values()))
        numbers = self._how.numbers(self.design.shape[1], n_sizes)
        return GroupWork(len(self.maps), self._how.copies, numbers)

    @property
    def _how(self) -> Estimator:
        return find_estimator(self.estimator, has_groups=self.groups is not None)


@singledispatch
def group_tests(ws: GroupWorkspace) -> list[GroupTest]:
    """Every group model of an analysis, with its design for the maps that are there, once they lie together."""
    raise NotImplementedError


@group_tests.register(Workspace)
def tests_of_subjects(ws: Workspace) -> list[GroupTest]:
    """Group models on the maps of subjects.

    A model that they cannot answer, since too many are left out, is refused; it costs no other model its result.
    """
    found, subjects = [], ws.combined_subjects() if ws.complete(consolidate.tasks(ws)) else []
    for name in ws.analysis.group if subjects else ():
        try:
            found.append(group_test(ws.analysis, name, subjects))
            note_left_out(ws, found[-1], subjects)
        except InputError as error:
            ws.refuse(NAME, name, error)
    return found


def group_test(analysis: Analysis, name: str, subjects: Sequence[str]) -> GroupTest:
    """The group model `name` for these subjects."""
    model, contrasts = analysis.group[name], list(analysis.first_level.contrasts)
    chosen, where = analysis.group_contrasts(name), f"group.{name}"
    rows = rows_of(analysis, model, subjects)
    design = design_for(model, rows, where)
    require_min_n(model.min_n, len(design))
    test = GroupTest(
        name=name,
        results=analysis.group_digest(name),
        source=analysis.combine_digest,
        subjects=tuple(design.index),
        places=places_of(design, subjects),
        first_level=chosen,
        rows=tuple(contrasts.index(c) for c in chosen),
        design=design,
        contrasts=contrasts_of(model, design, where),
        labels=label_columns(model, rows.loc[design.index], where),
        estimator=model.estimator,
        groups=model.groups,
        visits=model.visits,
        min_n=model.min_n,
    )
    return harmonised(test, model, rows.loc[design.index])


def rows_of(analysis: Analysis, model: GroupModel, subjects: Sequence[str]) -> pd.DataFrame:
    """All that a model needs to know of these subjects: rows of its table; of those that it is to be fitted to."""
    needed = (model.formula, model.covariates, model.inference.rearrangements, *named_columns(model))
    if not any(needed):
        return pd.DataFrame(index=list(subjects))
    return usable_rows(model, covariates_of(analysis, model, subjects))


def usable_rows(model: GroupModel, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that say where they belong, where others are to be dropped."""
    named = [name for name in named_columns(model) if name in rows]
    return rows.dropna(subset=named) if model.missing == "drop" else rows


def design_for(model: GroupModel, rows: pd.DataFrame, where: str) -> pd.DataFrame:
    """Design of a model for these rows: an intercept, or formula / covariates."""
    if model.formula is None and not model.covariates:
        design = pd.DataFrame({"intercept": np.ones(len(rows))}, index=rows.index)
    else:
        design = group_design(rows, model.formula or model.covariates, missing=model.missing)
    if len(design) <= design.shape[1]:
        raise DesignError(
            where,
            f"{len(design)} subjects cannot determine {design.shape[1]} regressors and their error.",
            "Use fewer regressors or more subjects.",
        )
    return design


def places_of(design: pd.DataFrame, subjects: Sequence[str]) -> tuple[int, ...] | None:
    """Where the rows of a design lie among the subjects; None where it has them all."""
    if len(design) == len(subjects):
        return None
    order = {subject: i for i, subject in enumerate(subjects)}
    return tuple(order[label] for label in design.index)


def note_left_out(ws: GroupWorkspace, test: GroupTest, subjects: Sequence[str]) -> None:
    """Name the subjects that a model is fitted without."""
    kept = set(test.subjects)
    absent = [subject for subject in subjects if subject not in kept]
    if absent:
        ws.note(f"group.{test.name}: fitted without {listed(absent)}, which lack a row or a covariate (missing: drop)")


def covariates_of(analysis: Analysis, model: GroupModel, subjects: Sequence[str]) -> pd.DataFrame:
    """Rows of these subjects in the model's table, else in that of the dataset or of all sites."""
    datasets = {site: dataset.bids_dir for site, dataset in analysis.data.datasets.items()}
    by_site = bool(analysis.data.sites)
    if model.table is None and by_site:
        return participants_of_sites(datasets, subjects, model.missing)
    path = model.table or datasets[""]
    return participants_of(read_participants(path, by_site=by_site), subjects, str(path), model.missing)


def check(analysis: Analysis, runs: Sequence[RunFile]) -> None:
    """Refuse group models that the planned subjects cannot answer, before anything is computed.

    Raises
    ------
    InputError
        As `design_for`, a contrast names columns that the design has not, or too few permutations for alpha.
    MemoryBudgetError
        All subjects of the fewest voxels do not fit the budget.
    """
    subjects = list(dict.fromkeys(run.subject for run in runs))
    for name in analysis.group:
        test = group_test(analysis, name, subjects)
        require_nulls(test, analysis.group[name].inference, analysis.seed)
        least = group_memory(len(test.subjects), MAP_CHUNK_VOXELS, 0, test.work)
        require(f"group.{name}", least, analysis.memory_budget)


def tasks(ws: GroupWorkspace) -> list[Task]:
    """One task per model and shard of voxels, once the maps of all subjects are consolidated."""
    return [task for test in group_tests(ws) for task in shard_tasks(ws, test)]


def shard_tasks(ws: GroupWorkspace, test: GroupTest) -> list[Task]:
    """The tasks of one group model."""
    inputs, (_, shard) = inputs_of(ws, test), map_chunks(len(ws.voxel))
    return [
        Task(
            stage=NAME,
            key=f"{test.results}/{voxels.start:09d}",
            function=test.function,
            kwargs={
                "store": ws.url,
                "test": test,
                "start": voxels.start,
                "stop": voxels.stop,
                "memory_budget": ws.analysis.memory_budget,
            },
            inputs=inputs,
        )
        for voxels in shard_slices(len(ws.voxel), shard)
    ]


def inputs_of(ws: GroupWorkspace, test: GroupTest) -> str:
    """Digest of the maps and the design a group test depends on."""
    made = ws.done("consolidate" if test.harmony is None else HARMONISE)
    maps = {key: r.digest for key, r in made.items() if key.startswith(f"{test.source}/")}
    design = [list(map(str, test.design.columns)), test.design.to_numpy(dtype=float).tolist()]
    labels = [list(map(str, test.labels[name])) for name in (test.groups, test.visits) if name is not None]
    return digest([test.results, sorted(maps.items()), test.subjects, design, *labels])


def outcome_of(ws: GroupWorkspace, test: GroupTest) -> str:
    """Digest of the statistics of a group model, as its tasks wrote them."""
    shards = {key: r.digest for key, r in ws.done(NAME).items() if key.startswith(f"{test.results}/")}
    return digest([inputs_of(ws, test), sorted(shards.items())])


def prepare(ws: GroupWorkspace) -> None:
    """Make room for every group model."""
    for test in group_tests(ws):
        make_group_maps(ws, test)


def make_group_maps(ws: GroupWorkspace, test: GroupTest) -> None:
    """Create the arrays of a group model: dims (contrast, group_contrast, voxel).

    Results of other maps or another design are removed first, corrected p values too: nobody shall read one
    beside the other.
    """
    inputs = inputs_of(ws, test)
    if results_attrs(ws.objects, test.results).get("inputs") != inputs:
        for stage in (NAME, INFLUENCE, "correct"):
            ws.ledger.forget_all(stage, test.results)
        ws.objects.delete_tree(test.path)
    describe_group(ws, test)
    leading = {"contrast": len(test.first_level), "group_contrast": len(test.contrasts)}
    for name in GROUP_STATISTICS:
        make_map_array(ws.objects, f"{test.path}/{name}", leading, len(ws.voxel))


def describe_group(ws: GroupWorkspace, test: GroupTest) -> None:
    """Say what the results of a group model are about, and what they are made of."""
    describe_results(
        ws.objects,
        test.results,
        level="group",
        inputs=inputs_of(ws, test),
        model=test.name,
        coords={"contrast": list(test.first_level), "group_contrast": list(test.contrasts)},
        stat_type=[question.stat_type for question in test.questions],
        df1=[question.df1 for question in test.questions],
        subjects=list(test.subjects),
        design={name: test.design[name].tolist() for name in test.design},
    )


def load_effects(
    objects: Objects, test: GroupTest, row: int, voxels: slice, names: Sequence[str] = ("effect",)
) -> xr.Dataset:
    """Maps of one first-level contrast, all subjects of the model, a stretch of voxels."""
    values = {name: read_maps(objects, f"results/{test.source}/{name}", test, row, voxels) for name in names}
    return xr.Dataset(
        {name: (("map", "voxel"), value) for name, value in values.items()}, coords={"map": list(test.subjects)}
    )


def read_maps(objects: Objects, path: str, test: GroupTest, row: int, voxels: slice) -> NDArray[np.float64]:
    """Maps of one kind; of those that lie between them, no more than a chunk is held."""
    contrast = slice(row, row + 1)
    if test.places is None:
        return read_region(objects, path, (slice(0, len(test.subjects)), contrast, voxels))[:, 0]
    shape, (size, _, step) = open_array(objects, path).shape, open_array(objects, path).chunks
    start, stop, _ = voxels.indices(shape[2])
    found = np.empty((len(test.places), stop - start))
    places = np.asarray(test.places)
    for first in range(0, shape[0], size):
        here = np.flatnonzero((places >= first) & (places < first + size))
        for at in range(start, stop, step) if here.size else ():
            piece = slice(at, min(at + step, stop))
            block = read_region(objects, path, (slice(first, min(first + size, shape[0])), contrast, piece))[:, 0]
            found[here, piece.start - start : piece.stop - start] = block[places[here] - first]
    return found


def fit_group_shard(*, store: str, test: GroupTest, start: int, stop: int, memory_budget: int) -> Output:
    """Fit one group model on one shard of voxels and write the statistics of its contrasts."""
    objects, maps = Objects(store), empty_statistics(test, stop - start)
    n_numbers = sum(values.size for values in maps.values())
    step = group_piece(memory_budget, len(test.subjects), n_numbers, test.work)
    belong = {"groups": test.groups, "visits": test.visits}
    labels = {key: test.labels[name] for key, name in belong.items() if name is not None}
    read = 0
    for i, row in enumerate(test.rows):
        for piece in shard_slices(stop - start, step):
            check_cancelled()
            effects = load_effects(objects, test, row, slice(start + piece.start, start + piece.stop), test.maps)
            read += sum(effects[name].nbytes for name in test.maps)
            fit = fit_group(effects, test.design, estimator=test.estimator, min_n=test.min_n, **labels)
            del effects  # before the next are read
            answer(test, fit, maps, i, piece)
    return write_statistics(objects, test, start, maps, read)


def empty_statistics(test: GroupTest, n_voxels: int) -> dict[str, NDArray[np.float64]]:
    """Room for the statistics of all contrasts of a model over a shard."""
    shape = (len(test.first_level), len(test.contrasts), n_voxels)
    return {name: np.full(shape, np.nan) for name in GROUP_STATISTICS}


def answer(test: GroupTest, fit: xr.Dataset, maps: Mapping[str, NDArray[np.float64]], row: int, piece: slice) -> None:
    """Put the statistics of all contrasts of a fit where they belong."""
    for j, question in enumerate(test.questions):
        found = contrast(fit, question.weights, stat_type=question.stat_type).assign(n=fit["n"])
        for name in found.data_vars:  # an F has no effect, and no variance of it
            maps[str(name)][row, j, piece] = found[name]


def write_statistics(
    objects: Objects, test: GroupTest, start: int, maps: Mapping[str, NDArray[np.float64]], read: int
) -> Output:
    """Write the statistics of a shard that begins at `start`."""
    for name, values in maps.items():
        write_block(objects, f"{test.path}/{name}", (0, 0, start), values)
    return Output(
        digest=content_digest(maps.values()),
        bytes_read=read,
        bytes_written=sum(values.nbytes for values in maps.values()),
        wrote=[f"{test.path}/{name}/c/*/*/{start // MAP_SHARD_VOXELS}" for name in GROUP_STATISTICS],
    )


STAGE = Stage(NAME, tasks, prepare)
