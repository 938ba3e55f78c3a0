"""Counts that stop, of the stage that makes nulls: a task for each stretch of voxels goes through all permutations.

Of a voxel no more are done than it takes to see that its p is large; so there are no batches, and a longer test counts
again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.store.arrays import create_array
from voxloom.io.store.objects import Objects
from voxloom.models.inference.permutation import observed_stat
from voxloom.models.inference.sequential import count_until
from voxloom.pipeline.inference.nulls import counts_path, prepared
from voxloom.pipeline.stages.group import GroupTest, inputs_of, load_effects
from voxloom.pipeline.stored.maps import write_block
from voxloom.pipeline.workspace import content_digest
from voxloom.schema import MAP_CHUNK_VOXELS, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxloom.pipeline.inference.nulls import Null
    from voxloom.pipeline.workspace import GroupWorkspace
    from voxloom.spec import Inference

STAGE_NAME = "infer"
#: What is kept of every voxel, with its type.
COUNTS = {"stat": np.float64, "reached": np.int64, "used": np.int64}


def count_tasks(
    ws: GroupWorkspace, test: GroupTest, wanted: Inference, null: Null, stretches: Sequence[slice]
) -> Iterator[Task]:
    """One task per stretch of voxels."""
    path, inputs = counts_path(null, wanted), inputs_of(ws, test)
    for s, voxels in enumerate(stretches):
        yield Task(
            stage=STAGE_NAME,
            key=f"{path.removeprefix('nulls/')}/{len(stretches)}-{s:04d}",
            function=count_stretch,
            kwargs={
                "store": ws.url,
                "path": path,
                "test": test,
                "row": null.row,
                "column": null.column,
                "stretch": s,
                "voxels": (voxels.start, voxels.stop),
                "share": (voxels.stop - voxels.start) / len(ws.voxel),
                "inference": wanted,
                "seed": ws.analysis.seed,
            },
            inputs=digest([inputs, null.setup.n_perm, *sorted(test.labels.items())]),
        )


def make_counts(ws: GroupWorkspace, null: Null, wanted: Inference, stretches: Sequence[slice]) -> None:
    """Create the arrays of one null; a shard is written by one task."""
    path, n_voxels = counts_path(null, wanted), stretches[-1].stop
    chunk = min(MAP_CHUNK_VOXELS, n_voxels)
    for name, dtype in COUNTS.items():
        create_array(
            ws.objects,
            f"{path}/{name}",
            dims=("voxel",),
            shape=(n_voxels,),
            chunks=(chunk,),
            shards=(-(-stretches[0].stop // chunk) * chunk,),
            dtype=dtype,
            attrs={"n_perm": null.setup.n_perm},
            on_replace=partial(ws.ledger.forget_all, STAGE_NAME, path.removeprefix("nulls/")),
        )


def count_stretch(
    *,
    store: str,
    path: str,
    test: GroupTest,
    row: int,
    column: int,
    stretch: int,
    voxels: tuple[int, int],
    share: float,
    inference: Inference,
    seed: int,
) -> Output:
    """Count rearrangements of the voxels of a stretch, a chunk of them at a time, until enough reach the statistic."""
    assert inference.stop_at is not None
    objects, setup = Objects(store), prepared(test, inference, seed, column)
    effects = load_effects(objects, test, test.rows[row], slice(*voxels))["effect"].to_numpy()
    found = {name: np.empty(effects.shape[1], dtype) for name, dtype in COUNTS.items()}
    for piece in shard_slices(effects.shape[1], MAP_CHUNK_VOXELS):
        check_cancelled()
        Y = effects[:, piece]
        found["stat"][piece] = observed_stat(setup, Y)
        found["reached"][piece], found["used"][piece] = count_until(setup, Y, found["stat"][piece], inference.stop_at)
    for name, values in found.items():
        write_block(objects, f"{path}/{name}", (voxels[0],), values)
    return Output(
        digest=content_digest(found.values()),
        bytes_read=effects.nbytes,
        bytes_written=sum(values.nbytes for values in found.values()),
        details={"permutations": share * setup.n_perm, "n_perm": setup.n_perm, "alpha": inference.alpha},
        wrote=[f"{path}/{name}/c/{stretch}" for name in found],
    )
