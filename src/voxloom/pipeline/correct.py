"""Stage 8: p values corrected over the whole map; one task per first-level and group contrast."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.errors import VoxloomWarning
from voxloom.io.arrays import create_array, open_array
from voxloom.io.integrity import METADATA
from voxloom.io.objects import Objects
from voxloom.io.regions import read_region
from voxloom.kernels.multiplicity import bonferroni, fdr
from voxloom.kernels.tails import z_to_p
from voxloom.models.joint import how_many
from voxloom.models.null_p import p_of_null
from voxloom.models.permutation import uncorrected_p
from voxloom.pipeline.corrections import BY_GROUPS, nulls_named, p_maps, stat_maps
from voxloom.pipeline.group import (
    GROUP_STATISTICS,
    INFLUENCE_MAPS,
    TOTALS,
    GroupTest,
    group_tests,
    outcome_of,
    shard_tasks,
)
from voxloom.pipeline.infer import null_tasks
from voxloom.pipeline.nulls import (
    Null,
    null_path,
    prepared,
    prepared_all,
    spatial_batches,
    spatial_path,
    spatial_statistics,
)
from voxloom.pipeline.spatial import spatial_tasks
from voxloom.pipeline.stored_maps import make_map_array, write_block
from voxloom.pipeline.workspace import GroupWorkspace, Stage, content_digest
from voxloom.spec import digest
from voxloom.spec.statistics import by_result_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from voxloom.spec import Inference

NAME = "correct"
#: Corrections that need the map alone.
VOXELWISE = {"bonferroni": bonferroni, "fdr": fdr}


def tasks(ws: GroupWorkspace) -> list[Task]:
    """One task per pair of contrasts whose statistics and nulls are complete."""
    found = []
    for test in complete_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        nulls = {task.key: ws.done(task.stage)[task.key].digest for task in all_null_tasks(ws, test, wanted)}
        inputs = digest([outcome_of(ws, test), sorted(nulls.items()), wanted.settings])
        found += [
            Task(
                stage=NAME,
                key=f"{test.results}/{i}-{j}",
                function=correct,
                kwargs={
                    "store": ws.url,
                    "test": test,
                    "row": i,
                    "column": j,
                    "inference": wanted,
                    "seed": ws.analysis.seed,
                },
                inputs=inputs,
            )
            for i in range(len(test.first_level))
            for j in range(len(test.contrasts))
        ]
    return found


def complete_tests(ws: GroupWorkspace) -> list[GroupTest]:
    """Group models whose statistics and nulls are all there."""
    found = []
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        if ws.complete([*shard_tasks(ws, test), *all_null_tasks(ws, test, wanted)]):
            found.append(test)
    return found


def all_null_tasks(ws: GroupWorkspace, test: GroupTest, wanted: Inference) -> Iterator[Task]:
    """The tasks that make the nulls of a group model."""
    yield from null_tasks(ws, test, wanted)
    yield from spatial_tasks(ws, test, wanted)


def prepare(ws: GroupWorkspace) -> None:
    """Room for the corrected maps of every group model."""
    for test in complete_tests(ws):
        make_corrected(ws, test, ws.analysis.group[test.name].inference)


def make_corrected(ws: GroupWorkspace, test: GroupTest, wanted: Inference) -> None:
    """Create the arrays of corrected p and of the nulls; what other settings have left is removed.

    Their attributes tell how the p values are made, so a change of settings replaces them.
    """
    forget = partial(ws.ledger.forget_all, NAME, test.results)
    made = {"two_sided": wanted.two_sided}
    setups = prepared_all(test, wanted, ws.analysis.seed) if "permutation" in wanted.method else []
    exhaustive = [setup.rearrangements.exhaustive for setup in setups]
    permuted = wanted.null_settings | {"n_perm": wanted.n_perm, "exhaustive": exhaustive, "seed": ws.analysis.seed}
    maps, statistics, nulls = p_maps(wanted), stat_maps(wanted), nulls_named(wanted)
    kept = {*GROUP_STATISTICS, TOTALS, *INFLUENCE_MAPS, *maps, *statistics, *nulls, METADATA}
    for name in set(ws.objects.children(test.path)) - kept:
        forget()
        ws.objects.delete_tree(f"{test.path}/{name}")
    pairs = {"contrast": len(test.first_level), "group_contrast": len(test.contrasts)}
    permuted_maps = {*statistics, *(name for name, p in maps.items() if p.method == "permutation")}
    for name in (*maps, *statistics):
        attrs = permuted if name in permuted_maps else made
        make_map_array(ws.objects, f"{test.path}/{name}", pairs, len(ws.voxel), attrs=attrs, on_replace=forget)
    longest = max((setup.n_perm for setup in setups), default=0)
    for name in nulls:
        create_array(
            ws.objects,
            f"{test.path}/{name}",
            dims=(*pairs, "permutation"),
            shape=(*pairs.values(), longest),
            chunks=(1, 1, longest),
            attrs=permuted,
            on_replace=forget,
        )


def correct(*, store: str, test: GroupTest, row: int, column: int, inference: Inference, seed: int) -> Output:
    """Write every corrected p map of one pair of contrasts, its merged nulls and spatial maps, one after the other."""
    read = Reading(Objects(store))
    digests, names, n_bytes, made = list[str](), list[str](), 0, dict[str, Any]()
    for name, values, how in corrected(read, test, row, column, inference, seed):
        check_cancelled()
        write_block(read.objects, f"{test.path}/{name}", (row, column, 0), values[np.newaxis, np.newaxis])
        digests.append(content_digest([values]))
        names.append(name)
        n_bytes += values.nbytes
        if how:
            made[name] = dict(how)
    return Output(
        digest=digest(digests),
        bytes_read=read.n_bytes,
        bytes_written=n_bytes,
        details={"made": made},
        wrote=[f"{test.path}/{name}/c/{row}/{column}/*" for name in names],
    )


class Reading:
    """Reads parts of arrays, and counts their bytes."""

    def __init__(self, objects: Objects) -> None:
        self.objects, self.n_bytes = objects, 0

    def __call__(self, path: str, *region: slice) -> NDArray[Any]:
        """Read a region of an array."""
        values = read_region(self.objects, path, region)
        self.n_bytes += values.nbytes
        return values


class Made(NamedTuple):
    """A map or a null, and what is to be told of how it was made."""

    name: str
    values: NDArray[np.float64]
    how: Mapping[str, Any] = {}


def corrected(read: Reading, test: GroupTest, row: int, column: int, inference: Inference, seed: int) -> Iterator[Made]:
    """Every map and null of a pair of contrasts, by its variable."""
    pair = slice(row, row + 1), slice(column, column + 1), slice(None)
    z, n = (read(f"{test.path}/{name}", *pair)[0, 0] for name in ("z_score", "n"))
    p = 2 * z_to_p(np.abs(z)) if test.questions[column].two_sided(inference.two_sided) else z_to_p(z)
    warn_of_few(test, n)
    for method in inference.method:
        if method in VOXELWISE:
            yield Made(f"p_{method}", VOXELWISE[method](p))
    if "permutation" in inference.method:
        setup = prepared(test, inference, seed, column)
        fitted = np.isfinite(z)
        del p, z, n
        null = Null(row=row, column=column, setup=setup, path=null_path(test, inference, seed, row, column, setup))
        yield from voxelwise(read, test, null, inference, fitted)
        yield from whole_map(read, test, null, inference)


def voxelwise(
    read: Reading, test: GroupTest, null: Null, inference: Inference, fitted: NDArray[np.bool_]
) -> Iterator[Made]:
    """P of the statistic of each voxel."""
    stat, reached = read(f"{null.path}/stat", slice(None)), sum_counts(read, f"{null.path}/reached")
    warn_of_untested(test, fitted, stat)
    if inference.variance_groups is not None:
        yield Made(BY_GROUPS, stat)
    yield Made("p_uncorrected", np.where(np.isnan(stat), np.nan, uncorrected_p(null.setup, reached)))
    for name, statistic in by_result_name(inference.statistics).items():
        if not statistic.spatial:
            maxima = read(f"{null.path}/{name}", slice(None), slice(None)).max(axis=0)
            yield from judged(read, test, null, inference, name, stat, maxima)


def whole_map(read: Reading, test: GroupTest, null: Null, inference: Inference) -> Iterator[Made]:
    """Spatial statistics as observed, and their p."""
    names = list(spatial_statistics(inference))
    if not names:
        return
    path, batches = spatial_path(null, inference), spatial_batches(null.setup.n_perm)
    maxima = read(f"{path}/maxima", slice(None), slice(None), slice(None))
    for i, name in enumerate(names):
        merged = np.concatenate([block[i, : b.stop - b.start] for block, b in zip(maxima, batches, strict=True)])
        observed = read(f"{path}/observed", slice(i, i + 1), slice(None))[0]
        yield Made(name, observed)
        yield from judged(read, test, null, inference, name, observed, merged)


def judged(
    read: Reading,
    test: GroupTest,
    null: Null,
    inference: Inference,
    name: str,
    values: NDArray[np.float64],
    maxima: NDArray[np.float64],
) -> Iterator[Made]:
    """P of a statistic from its null, and the null, as long as the model's longest."""
    heights = np.abs(values) if null.setup.two_sided else values
    yield Made(f"p_{name}", *p_of_null(heights, maxima, tail=inference.tail, **how_many(null.setup)))
    longest = open_array(read.objects, f"{test.path}/null_{name}").shape[-1]
    yield Made(f"null_{name}", np.pad(maxima, (0, longest - len(maxima)), constant_values=np.nan))


def sum_counts(read: Reading, path: str) -> NDArray[np.int64]:
    """Sum of the counts of all batches by voxel; exact, and one batch in memory at a time."""
    n_batches, n_voxels = open_array(read.objects, path).shape
    total = np.zeros(n_voxels, np.int64)
    for batch in range(n_batches):
        total += read(path, slice(batch, batch + 1), slice(None))[0]
    return total


def warn_of_few(test: GroupTest, n: NDArray[np.float64]) -> None:
    """Count the voxels that have maps, but fewer than the model wants."""
    few = int(np.count_nonzero((n > 0) & (n < test.min_n)))
    if few:
        what = f"{few} of {len(n)} voxels have fewer than {test.min_n} maps (min_n); they are not fitted."
        warnings.warn(f"group.{test.name}: {what}", VoxloomWarning, stacklevel=2)


def warn_of_untested(test: GroupTest, fitted: NDArray[np.bool_], stat: NDArray[np.float64]) -> None:
    """Count the voxels that have a statistic, but none that can be permuted."""
    lacking = int(np.count_nonzero(fitted & np.isnan(stat)))
    if lacking:
        what = f"{lacking} of {len(stat)} voxels lack some of the {len(test.subjects)} subjects"
        warnings.warn(
            f"group.{test.name}: {what}; with variance groups or huh-jhun they have no permutation p.",
            VoxloomWarning,
            stacklevel=2,
        )


def read_map(objects: Objects, test: GroupTest, name: str, row: int, column: int) -> NDArray[np.float64]:
    """One whole map of a group model, (V,)."""
    block = read_region(objects, f"{test.path}/{name}", (slice(row, row + 1), slice(column, column + 1), slice(None)))
    return np.asarray(block[0, 0], dtype=float)


STAGE = Stage(NAME, tasks, prepare)
