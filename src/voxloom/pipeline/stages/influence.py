"""Stage `influence`: what each subject does to a group model, a task per model and shard of voxels.

A task leaves what its voxels add up to for every subject: read a chunk of voxels at a time and added in this order, so
that no number depends on workers or memory. The table of all subjects is joined in the order of the shards. The maps
themselves are as many as subjects, and are kept where they are asked for.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from voxloom.engine.plan import StagePlan
from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.store.arrays import create_array
from voxloom.io.store.objects import Objects
from voxloom.io.store.regions import read_region
from voxloom.kernels.group.influence import Totals, influence_totals, joined
from voxloom.kernels.group.patterns import block_size
from voxloom.kernels.linalg import sub_blocks
from voxloom.models.group.influence import table_of_totals
from voxloom.pipeline.planning.memory import GroupWork, group_memory
from voxloom.pipeline.stages.group import INFLUENCE as NAME
from voxloom.pipeline.stages.group import INFLUENCE_MAPS, TOTALS, group_tests, inputs_of, load_effects
from voxloom.pipeline.stored.maps import map_chunks, write_block
from voxloom.pipeline.workspace import GroupWorkspace, Stage, content_digest
from voxloom.schema import MAP_CHUNK_MAPS, MAP_CHUNK_VOXELS, shard_slices

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from voxloom.kernels.group.influence import Influence
    from voxloom.pipeline.planning.group_sizes import Work
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.spec import GroupAnalysis

#: What a sub-block takes: residuals, and three maps of influence with their sizes.
WORK = GroupWork(copies=14, n_tests=0)
FLOAT64 = 8


def is_wanted(analysis: GroupAnalysis) -> bool:
    """Whether any model tells of influence."""
    return any(model.influence for model in analysis.group.values())


def tests_of(ws: GroupWorkspace) -> list[GroupTest]:
    """Group models that tell of it."""
    return [test for test in group_tests(ws) if ws.analysis.group[test.name].influence]


def tasks(ws: GroupWorkspace) -> list[Task]:
    """One task per model and shard of voxels."""
    return [task for test in tests_of(ws) for task in influence_tasks(ws, test)]


def influence_tasks(ws: GroupWorkspace, test: GroupTest) -> list[Task]:
    """The tasks of one model."""
    inputs, keep = inputs_of(ws, test), ws.analysis.group[test.name].influence == "maps"
    kwargs = {"store": ws.url, "test": test, "keep": keep}
    return [
        Task(
            stage=NAME,
            key=f"{test.results}/{'maps/' if keep else ''}{place:04d}",
            function=influence_shard,
            kwargs=kwargs | {"place": place, "start": voxels.start, "stop": voxels.stop},
            inputs=inputs,
        )
        for place, voxels in enumerate(shards(len(ws.voxel)))
    ]


def shards(n_voxels: int) -> list[slice]:
    """Stretches of voxels, one a task."""
    return shard_slices(n_voxels, map_chunks(n_voxels)[1])


def prepare(ws: GroupWorkspace) -> None:
    """Room for the totals, and for the maps where they are kept; others are removed."""
    for test in tests_of(ws):
        pairs, n, n_voxels = (len(test.first_level), len(test.contrasts)), len(test.subjects), len(ws.voxel)
        shape = (len(shards(n_voxels)), *pairs, len(Totals._fields), n)
        create_array(
            ws.objects,
            f"{test.path}/{TOTALS}",
            dims=("shard", "contrast", "group_contrast", "total", "subject"),
            shape=shape,
            chunks=(1, *shape[1:]),
            attrs={"total": list(Totals._fields)},
        )
        if ws.analysis.group[test.name].influence != "maps":
            ws.ledger.forget_all(NAME, f"{test.results}/maps")
            for name in INFLUENCE_MAPS:
                ws.objects.delete_tree(f"{test.path}/{name}")
            continue
        for name in INFLUENCE_MAPS:
            create_array(
                ws.objects,
                f"{test.path}/{name}",
                dims=("contrast", "group_contrast", "subject", "voxel"),
                shape=(*pairs, n, n_voxels),
                chunks=(1, 1, min(MAP_CHUNK_MAPS, n), min(MAP_CHUNK_VOXELS, n_voxels)),
            )


def influence_shard(*, store: str, test: GroupTest, keep: bool, place: int, start: int, stop: int) -> Output:
    """Totals of every pair of contrasts over one shard of voxels; those of F contrasts, which have none, are NaN."""
    objects, X = Objects(store), test.design.to_numpy(dtype=np.float64)
    shape = (1, len(test.first_level), len(test.contrasts), len(Totals._fields), len(test.subjects))
    out, read, wrote = np.full(shape, np.nan), 0, [f"{test.path}/{TOTALS}/c/{place}/*/*/*/*"]
    told = [j for j, question in enumerate(test.questions) if question.stat_type == "t"]
    for i, row in enumerate(test.rows):
        for piece in shard_slices(stop - start, MAP_CHUNK_VOXELS):
            first = start + piece.start
            Y = load_effects(objects, test, row, slice(first, start + piece.stop))["effect"].to_numpy()
            read += Y.nbytes
            Y[:, np.isfinite(Y).sum(axis=0) < test.min_n] = np.nan
            for j in told:
                check_cancelled()
                maps, totals = of_piece(X, Y, test.questions[j].weights[0])
                known = None if np.isnan(out[0, i, j]).all() else Totals(*out[0, i, j])
                out[0, i, j] = totals if known is None else joined(known, totals)
                for name in INFLUENCE_MAPS if keep else ():
                    write_block(objects, f"{test.path}/{name}", (i, j, 0, first), getattr(maps, name)[None, None])
                    wrote.append(f"{test.path}/{name}/c/{i}/{j}/*/{first // MAP_CHUNK_VOXELS}")
    write_block(objects, f"{test.path}/{TOTALS}", (place, 0, 0, 0, 0), out)
    kept = len(INFLUENCE_MAPS) * len(told) * read if keep else 0
    return Output(digest=content_digest([out]), bytes_read=read, bytes_written=out.nbytes + kept, wrote=wrote)


def of_piece(X: NDArray[np.float64], Y: NDArray[np.float64], c: NDArray[np.float64]) -> tuple[Influence, Totals]:
    """Influence at the voxels of a chunk, sub-block by sub-block."""
    found = [influence_totals(X, Y[:, block], c) for block in sub_blocks(Y.shape[1], block_size(len(Y)))]
    maps = (np.concatenate(parts, axis=1) for parts in zip(*(maps for maps, _ in found)))
    return type(found[0][0])(*maps), reduce(joined, (totals for _, totals in found))


def read_table(objects: Objects, test: GroupTest, row: int, column: int, n_shards: int) -> pd.DataFrame:
    """Table of all subjects for one pair of contrasts, the most influential first."""
    region = slice(0, n_shards), slice(row, row + 1), slice(column, column + 1), slice(None), slice(None)
    totals = (Totals(*shard) for shard in read_region(objects, f"{test.path}/{TOTALS}", region)[:, 0, 0])
    return table_of_totals(reduce(joined, totals), test.subjects).rename_axis(index="participant_id")


def influence_task(n_voxels: int, test: GroupTest, keep: bool) -> int:
    """Peak memory of a task."""
    n, piece = len(test.subjects), min(MAP_CHUNK_VOXELS, n_voxels)
    maps = 2 * len(INFLUENCE_MAPS) * n * piece
    return group_memory(n, piece, maps if keep else n * piece, WORK)


def influence_size(work: Work) -> StagePlan:
    """Effects of all subjects in; totals, and maps where they are kept, out."""
    n_shards, peak, read, written, tests = len(shards(work.n_voxels)), 0, 0, 0, 0
    for test in work.tests:
        wanted = work.analysis.group[test.name].influence
        if wanted is None:
            continue
        effects = work.maps(len(test.subjects) * len(test.first_level))
        told = sum(question.stat_type == "t" for question in test.questions)
        tests, read = tests + 1, read + effects
        written += n_shards * total_bytes(test) * len(test.first_level) * len(test.contrasts)
        written += len(INFLUENCE_MAPS) * told * effects if wanted == "maps" else 0
        peak = max(peak, influence_task(work.n_voxels, test, wanted == "maps"))
    return StagePlan(name=NAME, n_tasks=tests * n_shards, bytes_read=read, bytes_written=written, peak_memory=peak)


def total_bytes(test: GroupTest) -> int:
    """Bytes of the totals of one pair of contrasts over one shard."""
    return FLOAT64 * len(Totals._fields) * len(test.subjects)


STAGE = Stage(NAME, tasks, prepare, wanted=is_wanted)
