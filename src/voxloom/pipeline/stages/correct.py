"""Stage 8: p values corrected over the whole map; one task per first-level and group contrast."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.store.arrays import create_array
from voxloom.io.store.integrity import METADATA
from voxloom.io.store.objects import Objects
from voxloom.io.store.regions import read_region
from voxloom.pipeline.inference.corrections import nulls_named, p_maps, stat_maps
from voxloom.pipeline.inference.nulls import prepared_all
from voxloom.pipeline.inference.permuted_p import Reading, corrected
from voxloom.pipeline.stages.group import (
    GROUP_STATISTICS,
    INFLUENCE_MAPS,
    TOTALS,
    GroupTest,
    group_tests,
    outcome_of,
    shard_tasks,
)
from voxloom.pipeline.stages.infer import null_tasks
from voxloom.pipeline.stages.spatial import spatial_tasks
from voxloom.pipeline.stored.maps import make_map_array, write_block
from voxloom.pipeline.workspace import GroupWorkspace, Stage, content_digest
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.spec import Inference

NAME = "correct"


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


def read_map(objects: Objects, test: GroupTest, name: str, row: int, column: int) -> NDArray[np.float64]:
    """One whole map of a group model, (V,)."""
    block = read_region(objects, f"{test.path}/{name}", (slice(row, row + 1), slice(column, column + 1), slice(None)))
    return np.asarray(block[0, 0], dtype=float)


STAGE = Stage(NAME, tasks, prepare)
