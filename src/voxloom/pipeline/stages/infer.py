"""Stage 7: permutation nulls, one task per test, stretch of voxels and batch of permutations; merged in stage 8.

A task leaves the maxima of its permutations over its voxels, and of each voxel in how many of its permutations the
voxel's own statistic is reached. Maxima of stretches and counts of batches merge exactly, in any order. Counts that
stop are made by tasks of their own, over all permutations of a stretch.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.store.arrays import create_array
from voxloom.io.study.open import open_study
from voxloom.models.inference.permutation import observed_stat, sweep, tiles
from voxloom.pipeline.inference.counts import count_tasks, make_counts
from voxloom.pipeline.inference.nulls import CHUNK, Null, nulls_of, prepared_for, stops, swept
from voxloom.pipeline.planning.memory import counting_memory, infer_rows, infer_stretch
from voxloom.pipeline.stages.group import GroupTest, group_tests, inputs_of, load_effects
from voxloom.pipeline.stored.maps import write_block
from voxloom.pipeline.workspace import GroupWorkspace, Stage, content_digest
from voxloom.schema import MAP_CHUNK_VOXELS, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from voxloom.io.store.objects import Objects
    from voxloom.spec import Inference

NAME = "infer"
#: Multiplications between two looks at whether to stop: about half a second.
STRIDE = 10**10


def tasks(ws: GroupWorkspace) -> list[Task]:
    """One task per contrast, group contrast, stretch of voxels and batch of permutations.

    The first batches of all come first, so that at any time all have about as many permutations.
    """
    found = [task for test in group_tests(ws) for task in null_tasks(ws, test, ws.analysis.group[test.name].inference)]
    return sorted(found, key=lambda task: task.kwargs.get("batch", (0,))[0])


def null_tasks(ws: GroupWorkspace, test: GroupTest, wanted: Inference) -> Iterator[Task]:
    """The tasks of one group model."""
    inputs, stretches = inputs_of(ws, test), voxel_stretches(len(ws.voxel), test, wanted, ws.analysis.memory_budget)
    for null in nulls_of(test, wanted, ws.analysis.seed):
        if stops(null, wanted):
            yield from count_tasks(ws, test, wanted, null, stretches)
        for s, voxels in enumerate(stretches):
            for b, batch in enumerate(swept(null, wanted)):
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
                        "place": b,
                        "share": (voxels.stop - voxels.start) / len(ws.voxel),
                        "inference": wanted,
                        "seed": ws.analysis.seed,
                    },
                    inputs=digest([inputs, batch.stop, *sorted(test.labels.items())]),
                )


def prepare(ws: GroupWorkspace) -> None:
    """Room for the maxima and the counts of every permutation test; what a shorter one has left is kept."""
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        stretches = voxel_stretches(len(ws.voxel), test, wanted, ws.analysis.memory_budget)
        for null in nulls_of(test, wanted, ws.analysis.seed):
            forget = partial(ws.ledger.forget_all, NAME, null.key)
            if swept(null, wanted):
                make_null(ws.objects, null, stretches, on_replace=forget)
            if stops(null, wanted):
                make_counts(ws, null, wanted, stretches)


def make_null(objects: Objects, null: Null, stretches: Sequence[slice], on_replace: Callable[[], None]) -> None:
    """Create or resize the arrays of one null: a chunk of each is written by one task."""
    create_array(
        objects,
        f"{null.path}/max_stat",
        dims=("stretch", "permutation"),
        shape=(len(stretches), null.setup.n_perm),
        chunks=(1, CHUNK),
        on_replace=on_replace,
        resizable="permutation",
    )
    n_voxels, chunk = stretches[-1].stop, min(MAP_CHUNK_VOXELS, stretches[-1].stop)
    shard = -(-stretches[0].stop // chunk) * chunk
    create_array(
        objects,
        f"{null.path}/stat",
        dims=("voxel",),
        shape=(n_voxels,),
        chunks=(chunk,),
        shards=(shard,),
        on_replace=on_replace,
    )
    create_array(
        objects,
        f"{null.path}/reached",
        dims=("batch", "voxel"),
        shape=(len(null.batches), n_voxels),
        chunks=(1, chunk),
        shards=(1, shard),
        dtype=np.int64,
        on_replace=on_replace,
        resizable="batch",
    )


def voxel_stretches(n_voxels: int, test: GroupTest, wanted: Inference, budget: int) -> list[slice]:
    """Stretches of voxels whose maps fit the budget; maxima merge exactly, so the cut does not show in the result.

    Variances that are smoothed need all voxels at once.
    """
    if wanted.variance_smoothing_fwhm is not None:
        return [slice(0, n_voxels)]
    room = budget - counting_memory(wanted.stop_at)
    return shard_slices(n_voxels, infer_stretch(room, *test.design.shape, infer_rows(wanted)))


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
    place: int,
    share: float,
    inference: Inference,
    seed: int,
) -> Output:
    """Maxima of the statistic over one stretch of voxels, and counts of each voxel, for one batch of permutations.

    The first batch leaves the observed statistic too.
    """
    study = open_study(store)
    objects, setup = study.objects, prepared_for(study, test, inference, seed, column)
    effects = load_effects(objects, test, test.rows[row], slice(*voxels))["effect"].to_numpy()
    maxima, n_voxels = np.full(batch[1] - batch[0], -np.inf), effects.shape[1]
    stat, reached = np.empty(n_voxels), np.zeros(n_voxels, np.int64)
    whole = setup.smoothing is not None
    spans = list(tiles(*batch)) if whole else [batch]
    for piece in [slice(0, n_voxels)] if whole else pieces(effects.shape, len(maxima) * setup.width):
        stat[piece] = observed_stat(setup, effects[:, piece])
        for start, stop in spans:
            check_cancelled()
            found = sweep(setup, effects[:, piece], stat[piece], start=start, stop=stop)
            here = maxima[start - batch[0] : stop - batch[0]]
            np.maximum(here, found.maxima, out=here)
            reached[piece] += found.reached
    write_block(objects, f"{path}/max_stat", (stretch, batch[0]), maxima[np.newaxis])
    write_block(objects, f"{path}/reached", (place, voxels[0]), reached[np.newaxis])
    if place == 0:
        write_block(objects, f"{path}/stat", (voxels[0],), stat)
    chunks = range(batch[0] // CHUNK, -(-batch[1] // CHUNK))
    return Output(
        digest=content_digest([maxima, reached, stat]),
        bytes_read=effects.nbytes,
        bytes_written=maxima.nbytes + reached.nbytes + (stat.nbytes if place == 0 else 0),
        details={"permutations": share * len(maxima), "n_perm": setup.n_perm, "alpha": inference.alpha},
        wrote=[
            *(f"{path}/max_stat/c/{stretch}/{chunk}" for chunk in chunks),
            f"{path}/reached/c/{place}/{stretch}",
            *([f"{path}/stat/c/{stretch}"] if place == 0 else []),
        ],
    )


def pieces(shape: tuple[int, ...], n_rows: int) -> list[slice]:
    """Cut the voxels of maps (n, V), in whole chunks: a product with `n_rows` rows takes `STRIDE` multiplications."""
    chunks = max(1, STRIDE // (n_rows * shape[0] * MAP_CHUNK_VOXELS))
    return shard_slices(shape[1], chunks * MAP_CHUNK_VOXELS)


STAGE = Stage(NAME, tasks, prepare)
