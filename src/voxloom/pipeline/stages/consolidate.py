"""Stage 5: subject maps are rewritten once, (128 subjects x 4,096 voxels) a chunk, as the group stage reads them.

From one object per subject, a block of voxels of all subjects costs a read per subject and 40 times the
bytes (DESIGN, "The store"); from the consolidated array it costs what it holds.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.store.objects import Objects
from voxloom.io.store.regions import read_region
from voxloom.io.study.open import describe_results
from voxloom.pipeline.stored.maps import make_map_array, map_chunks, write_block
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import MAP_CHUNK_MAPS, MAP_SHARD_VOXELS, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "consolidate"
#: What the group stage and notebook users read. `stat` follows from them, but not for an F.
CONSOLIDATED = ("effect", "variance", "stat", "dof")


def tasks(ws: Workspace) -> list[Task]:
    """One task per block of subjects and shard of voxels."""
    name, subjects, n_voxels = ws.analysis.combine_digest, ws.combined_subjects(), len(ws.voxel)
    inputs, (_, shard) = inputs_of(ws), map_chunks(n_voxels)
    return [
        Task(
            stage=NAME,
            key=f"{name}/{block.start:06d}-{voxels.start:09d}",
            function=consolidate,
            kwargs={
                "store": ws.url,
                "results": name,
                "subjects": subjects[block],
                "n_contrasts": len(ws.analysis.first_level.contrasts),
                "first": block.start,
                "start": voxels.start,
                "stop": voxels.stop,
            },
            inputs=inputs,
        )
        for block in shard_slices(len(subjects), MAP_CHUNK_MAPS)
        for voxels in shard_slices(n_voxels, shard)
    ]


def inputs_of(ws: Workspace) -> str:
    """Digest of the maps of all subjects."""
    name = ws.analysis.combine_digest
    return digest([[subject, ws.done("combine")[f"{name}/{subject}"].digest] for subject in ws.combined_subjects()])


def prepare(ws: Workspace) -> None:
    """Create ``results/<name>/{effect, ...}(subject, contrast, voxel)``; other subjects or other maps replace them.

    The arrays' attributes tell what they are made of. So no array is ever a mixture of old and new rows, under
    labels of which some are not its own: what has not been written yet is missing, and reading it raises.
    """
    for subject in ws.planned:
        if subject not in ws.combined_subjects():
            ws.note(f"{subject}: none of its runs could be used; it has no maps and is left out of the group")
    name, subjects, contrasts = (
        ws.analysis.combine_digest,
        ws.combined_subjects(),
        list(ws.analysis.first_level.contrasts),
    )
    if not subjects:
        return
    describe_results(
        ws.objects,
        name,
        level="subject",
        coords={"subject": subjects, "contrast": contrasts},
        stat_type=[wanted.stat_type for wanted in ws.analysis.first_level.contrasts.values()],
    )
    for variable in CONSOLIDATED:
        make_map_array(
            ws.objects,
            f"results/{name}/{variable}",
            {"subject": len(subjects), "contrast": len(contrasts)},
            len(ws.voxel),
            chunk=(min(MAP_CHUNK_MAPS, len(subjects)), 1),
            attrs={"inputs": inputs_of(ws)},
            on_replace=partial(ws.ledger.forget_all, NAME, name),
        )


def consolidate(
    *, store: str, results: str, subjects: Sequence[str], n_contrasts: int, first: int, start: int, stop: int
) -> Output:
    """Copy one block of subjects and shard of voxels, one variable at a time."""
    objects, voxels = Objects(store), slice(start, stop)
    moved, digests = 0, []
    for variable in CONSOLIDATED:
        for row in range(n_contrasts):  # one contrast at a time: 64 MiB, however many there are
            block = np.empty((len(subjects), 1, stop - start))
            for i, subject in enumerate(subjects):
                check_cancelled()
                path = f"results/{results}/subjects/{subject}/{variable}"
                block[i] = read_region(objects, path, (slice(row, row + 1), voxels))
            write_block(objects, f"results/{results}/{variable}", (first, row, start), block)
            moved += block.nbytes
            digests.append(content_digest([block]))
    place = f"c/{first // MAP_CHUNK_MAPS}/*/{start // MAP_SHARD_VOXELS}"
    return Output(
        digest=digest(digests),
        bytes_read=moved,
        bytes_written=moved,
        wrote=[f"results/{results}/{variable}/{place}" for variable in CONSOLIDATED],
    )


STAGE = Stage(NAME, tasks, prepare)
