"""Stage 7: permutation nulls, one task per test, stretch of voxels and batch of permutations; merged in stage 8."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.arrays import create_array
from voxloom.io.objects import Objects
from voxloom.models.permutation import Exchangeability, null_max_stat, prepare_test
from voxloom.pipeline import consolidate
from voxloom.pipeline.group import GroupTest, group_tests, inputs_of, load_effects
from voxloom.pipeline.memory import infer_stretch
from voxloom.pipeline.stored_maps import write_block
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import MAP_CHUNK_VOXELS, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.models.permutation import PreparedTest
    from voxloom.spec import Inference

NAME = "infer"
#: Permutations of one task; large enough that reading the maps again for each batch costs nothing.
BATCH = 2_500
#: Multiplications between two looks at whether to stop: about half a second.
STRIDE = 10**10


def tasks(ws: Workspace) -> list[Task]:
    """One task per contrast, group contrast, stretch of voxels and batch of permutations."""
    if not ws.complete(consolidate.tasks(ws)):
        return []
    found = []
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        if "permutation" in wanted.method:
            found += list(null_tasks(ws, test, wanted))
    return found


def null_tasks(ws: Workspace, test: GroupTest, wanted: Inference) -> Iterator[Task]:
    """The tasks of one group model."""
    name, inputs = null_name(test, wanted, ws.analysis.seed), inputs_of(ws, test)
    stretches = voxel_stretches(len(ws.voxel), test, ws.analysis.memory_budget)
    for j, setup in enumerate(prepared_all(test, wanted, ws.analysis.seed)):
        for i in range(len(test.first_level)):
            for s, voxels in enumerate(stretches):
                for batch in shard_slices(setup.n_perm, BATCH):
                    yield Task(
                        stage=NAME,
                        key=f"{name}/{i}-{j}/{len(stretches)}-{s:04d}-{batch.start:07d}",
                        function=null_batch,
                        kwargs={
                            "store": ws.url,
                            "path": f"nulls/{name}/{i}-{j}",
                            "test": test,
                            "row": i,
                            "column": j,
                            "stretch": s,
                            "voxels": (voxels.start, voxels.stop),
                            "batch": (batch.start, batch.stop),
                            "inference": wanted,
                            "seed": ws.analysis.seed,
                        },
                        inputs=inputs,
                    )


def prepare(ws: Workspace) -> None:
    """Room for the partial maxima of every permutation test."""
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        if "permutation" not in wanted.method:
            continue
        name = null_name(test, wanted, ws.analysis.seed)
        stretches = voxel_stretches(len(ws.voxel), test, ws.analysis.memory_budget)
        for j, setup in enumerate(prepared_all(test, wanted, ws.analysis.seed)):
            for i in range(len(test.first_level)):
                create_array(
                    ws.objects,
                    f"nulls/{name}/{i}-{j}",
                    dims=("stretch", "permutation"),
                    shape=(len(stretches), setup.n_perm),
                    chunks=(1, min(BATCH, setup.n_perm)),
                    on_replace=partial(ws.ledger.forget_all, NAME, f"{name}/{i}-{j}"),
                )


def voxel_stretches(n_voxels: int, test: GroupTest, budget: int) -> list[slice]:
    """Stretches of voxels whose maps fit the budget; maxima merge exactly, so the cut does not show in the result."""
    return shard_slices(n_voxels, infer_stretch(budget, *test.design.shape, BATCH))


def null_name(test: GroupTest, wanted: Inference, seed: int) -> str:
    """Name of the nulls of a group model: its own, and all that determines which rearrangements are made."""
    return digest([test.results, wanted.scheme, wanted.n_perm, wanted.two_sided, seed])


def prepared_all(test: GroupTest, wanted: Inference, seed: int) -> list[PreparedTest]:
    """The permutation test of every group contrast: partition, scheme and number of rearrangements."""
    return [
        prepare_test(
            test.design,
            expression,
            n_perm=wanted.n_perm,
            exchangeability=Exchangeability(scheme=wanted.scheme),
            two_sided=wanted.two_sided,
            seed=seed,
        )
        for expression in test.contrasts.values()
    ]


def null_batch(
    *,
    store: str,
    path: str,
    test: GroupTest,
    row: int,
    column: int,
    stretch: int,
    voxels: tuple[int, int],
    batch: tuple[int, int],
    inference: Inference,
    seed: int,
) -> Output:
    """Maxima of the statistic over one stretch of voxels, for one batch of permutations."""
    objects = Objects(store)
    effects = load_effects(objects, test, test.rows[row], slice(*voxels))
    setup = prepared_all(test, inference, seed)[column]
    maxima = np.full(batch[1] - batch[0], -np.inf)
    for Y in stretches_of(effects["effect"].to_numpy(), len(maxima) * (1 + setup.model.moving.shape[1])):
        check_cancelled()
        np.maximum(maxima, null_max_stat(setup, Y, start=batch[0], stop=batch[1]), out=maxima)
    write_block(objects, path, (stretch, batch[0]), maxima[np.newaxis])
    return Output(
        digest=content_digest([maxima]),
        bytes_read=effects["effect"].nbytes,
        bytes_written=maxima.nbytes,
        wrote=[f"{path}/c/{stretch}/{batch[0] // BATCH}"],
    )


def stretches_of(Y: NDArray[Any], n_rows: int) -> Iterator[NDArray[Any]]:
    """Cut maps (n, V) so that a product with `n_rows` rows takes `STRIDE` multiplications, in whole chunks."""
    chunks = max(1, STRIDE // (n_rows * len(Y) * MAP_CHUNK_VOXELS))
    for voxels in shard_slices(Y.shape[1], chunks * MAP_CHUNK_VOXELS):
        yield Y[:, voxels]


STAGE = Stage(NAME, tasks, prepare)
