"""Stage 7: permutation nulls, one task per test, stretch of voxels and batch of permutations; merged in stage 8."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.arrays import create_array
from voxloom.io.objects import Objects
from voxloom.models.permutation import null_max_stat
from voxloom.pipeline import consolidate
from voxloom.pipeline.group import GroupTest, group_tests, inputs_of, load_effects
from voxloom.pipeline.memory import infer_stretch
from voxloom.pipeline.nulls import BATCH, CHUNK, nulls_of, prepared
from voxloom.pipeline.stored_maps import write_block
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import MAP_CHUNK_VOXELS, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.spec import Inference

NAME = "infer"
#: Multiplications between two looks at whether to stop: about half a second.
STRIDE = 10**10


def tasks(ws: Workspace) -> list[Task]:
    """One task per contrast, group contrast, stretch of voxels and batch of permutations.

    The first batches of all come first, so that at any time all have about as many permutations.
    """
    if not ws.complete(consolidate.tasks(ws)):
        return []
    found = [task for test in group_tests(ws) for task in null_tasks(ws, test, ws.analysis.group[test.name].inference)]
    return sorted(found, key=lambda task: task.kwargs["batch"][0])


def null_tasks(ws: Workspace, test: GroupTest, wanted: Inference) -> Iterator[Task]:
    """The tasks of one group model."""
    inputs, stretches = inputs_of(ws, test), voxel_stretches(len(ws.voxel), test, ws.analysis.memory_budget)
    for null in nulls_of(test, wanted, ws.analysis.seed):
        for s, voxels in enumerate(stretches):
            for batch in null.batches:
                yield Task(
                    stage=NAME,
                    key=f"{null.key}/{len(stretches)}-{s:04d}-{batch.start:07d}",
                    function=null_batch,
                    kwargs={
                        "store": ws.url,
                        "path": null.path,
                        "test": test,
                        "row": null.row,
                        "column": null.column,
                        "stretch": s,
                        "voxels": (voxels.start, voxels.stop),
                        "batch": (batch.start, batch.stop),
                        "inference": wanted,
                        "seed": ws.analysis.seed,
                    },
                    inputs=digest([inputs, batch.stop]),
                )


def prepare(ws: Workspace) -> None:
    """Room for the partial maxima of every permutation test; what a shorter one has left is kept."""
    for test in group_tests(ws):
        stretches = voxel_stretches(len(ws.voxel), test, ws.analysis.memory_budget)
        for null in nulls_of(test, ws.analysis.group[test.name].inference, ws.analysis.seed):
            create_array(
                ws.objects,
                f"{null.path}/max_stat",
                dims=("stretch", "permutation"),
                shape=(len(stretches), null.setup.n_perm),
                chunks=(1, CHUNK),
                on_replace=partial(ws.ledger.forget_all, NAME, null.key),
                resizable="permutation",
            )


def voxel_stretches(n_voxels: int, test: GroupTest, budget: int) -> list[slice]:
    """Stretches of voxels whose maps fit the budget; maxima merge exactly, so the cut does not show in the result."""
    return shard_slices(n_voxels, infer_stretch(budget, *test.design.shape, BATCH))


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
    setup = prepared(test, inference, seed, column)
    maxima = np.full(batch[1] - batch[0], -np.inf)
    for Y in stretches_of(effects["effect"].to_numpy(), len(maxima) * setup.model.width):
        check_cancelled()
        np.maximum(maxima, null_max_stat(setup, Y, start=batch[0], stop=batch[1]), out=maxima)
    write_block(objects, f"{path}/max_stat", (stretch, batch[0]), maxima[np.newaxis])
    return Output(
        digest=content_digest([maxima]),
        bytes_read=effects["effect"].nbytes,
        bytes_written=maxima.nbytes,
        wrote=[f"{path}/max_stat/c/{stretch}/{chunk}" for chunk in range(batch[0] // CHUNK, -(-batch[1] // CHUNK))],
    )


def stretches_of(Y: NDArray[Any], n_rows: int) -> Iterator[NDArray[Any]]:
    """Cut maps (n, V) so that a product with `n_rows` rows takes `STRIDE` multiplications, in whole chunks."""
    chunks = max(1, STRIDE // (n_rows * len(Y) * MAP_CHUNK_VOXELS))
    for voxels in shard_slices(Y.shape[1], chunks * MAP_CHUNK_VOXELS):
        yield Y[:, voxels]


STAGE = Stage(NAME, tasks, prepare)
