"""Stage 8: p values corrected over the whole map; one task per first-level and group contrast."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.errors import VoxloomWarning
from voxloom.io.arrays import create_array, get_attrs, open_array
from voxloom.io.objects import Objects
from voxloom.io.regions import read_region
from voxloom.kernels.multiplicity import bonferroni, fdr
from voxloom.kernels.tails import z_to_p
from voxloom.models.permutation import fwe_p
from voxloom.pipeline.group import GroupTest, group_tests, outcome_of, shard_tasks
from voxloom.pipeline.infer import null_tasks
from voxloom.pipeline.nulls import null_path, nulls_of, prepared
from voxloom.pipeline.stored_maps import make_map_array, write_block
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.spec import digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.spec import Inference

NAME = "correct"
#: Corrected maps by method of the analysis file.
CORRECTED = {"bonferroni": "p_bonferroni", "fdr": "p_fdr", "permutation": "p_max_stat"}
#: Corrections that need the map alone.
VOXELWISE = {"bonferroni": bonferroni, "fdr": fdr}


def tasks(ws: Workspace) -> list[Task]:
    """One task per pair of contrasts whose statistics and nulls are complete."""
    found = []
    for test in complete_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        nulls = {task.key: ws.done("infer")[task.key].digest for task in null_tasks(ws, test, wanted)}
        inputs = digest([outcome_of(ws, test), sorted(nulls.items()), wanted.model_dump(mode="json")])
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


def complete_tests(ws: Workspace) -> list[GroupTest]:
    """Group models whose statistics and nulls are all there."""
    found = []
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        if ws.complete([*shard_tasks(ws, test), *null_tasks(ws, test, wanted)]):
            found.append(test)
    return found


def prepare(ws: Workspace) -> None:
    """Room for the corrected maps of every group model."""
    for test in complete_tests(ws):
        make_corrected(ws, test, ws.analysis.group[test.name].inference)


def make_corrected(ws: Workspace, test: GroupTest, wanted: Inference) -> None:
    """Create the arrays of corrected p and of the nulls; what other settings have left is removed.

    Their attributes tell how the p values are made, so a change of settings replaces them.
    """
    forget = partial(ws.ledger.forget_all, NAME, test.results)
    made = {"two_sided": wanted.two_sided}
    permuted = made | {"n_perm": wanted.n_perm, "scheme": wanted.scheme, "seed": ws.analysis.seed}
    kept = {*map(CORRECTED.get, wanted.method)} | ({"null_max_stat"} if "permutation" in wanted.method else set())
    for name in {*CORRECTED.values(), "null_max_stat"} - kept:
        if get_attrs(ws.objects, f"{test.path}/{name}") is not None:
            forget()
            ws.objects.delete_tree(f"{test.path}/{name}")
    pairs = {"contrast": len(test.first_level), "group_contrast": len(test.contrasts)}
    for method in wanted.method:
        attrs = permuted if method == "permutation" else made
        path = f"{test.path}/{CORRECTED[method]}"
        make_map_array(ws.objects, path, pairs, len(ws.voxel), attrs=attrs, on_replace=forget)
    if "permutation" in wanted.method:
        lengths = [null.setup.n_perm for null in nulls_of(test, wanted, ws.analysis.seed)]
        create_array(
            ws.objects,
            f"{test.path}/null_max_stat",
            dims=(*pairs, "permutation"),
            shape=(*pairs.values(), max(lengths)),
            chunks=(1, 1, max(lengths)),
            attrs=permuted,
            on_replace=forget,
        )


def correct(*, store: str, test: GroupTest, row: int, column: int, inference: Inference, seed: int) -> Output:
    """Write every corrected p map of one pair of contrasts, and its merged null."""
    objects = Objects(store)
    stat, z, n = (read_map(objects, test, name, row, column) for name in ("stat", "z_score", "n"))
    p = 2 * z_to_p(np.abs(z)) if inference.two_sided else z_to_p(z)
    read = 3 * stat.nbytes
    written = {CORRECTED[m]: VOXELWISE[m](p) for m in inference.method if m in VOXELWISE}
    check_cancelled()
    if "permutation" in inference.method:
        setup = prepared(test, inference, seed, column)
        path = null_path(test, inference, seed, row, column, setup)
        nulls = read_region(objects, f"{path}/max_stat", (slice(None), slice(None)))
        read += nulls.nbytes
        null = nulls.max(axis=0)
        written["p_max_stat"] = fwe_p(setup, np.where(complete(test, n), stat, np.nan), null)
        longest = open_array(objects, f"{test.path}/null_max_stat").shape[-1]
        written["null_max_stat"] = np.pad(null, (0, longest - len(null)), constant_values=np.nan)
    for name, values in written.items():
        check_cancelled()
        write_block(objects, f"{test.path}/{name}", (row, column, 0), values[np.newaxis, np.newaxis])
    return Output(
        digest=content_digest(written.values()),
        bytes_read=read,
        bytes_written=sum(values.nbytes for values in written.values()),
        wrote=[f"{test.path}/{name}/c/{row}/{column}/*" for name in written],
    )


def complete(test: GroupTest, n: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Voxels that every subject has: those a permutation test can take; a warning counts the others."""
    whole: NDArray[np.bool_] = n == len(test.subjects)
    partial = int(np.count_nonzero(np.isfinite(n) & (n > 0) & ~whole))
    if partial:
        warnings.warn(
            f"group.{test.name}: {partial} of {len(n)} voxels lack some of the {len(test.subjects)} subjects; "
            "they have no permutation p.",
            VoxloomWarning,
            stacklevel=2,
        )
    return whole


def read_map(objects: Objects, test: GroupTest, name: str, row: int, column: int) -> NDArray[np.float64]:
    """One whole map of a group model, (V,)."""
    block = read_region(objects, f"{test.path}/{name}", (slice(row, row + 1), slice(column, column + 1), slice(None)))
    return np.asarray(block[0, 0], dtype=float)


STAGE = Stage(NAME, tasks, prepare)
