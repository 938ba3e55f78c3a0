"""Given maps are written as the group stage reads them, (128 maps x 4,096 voxels) a chunk: stage 5 without runs.

Each file is decoded once where its block of maps fits the budget, else once for every stretch of voxels that does.
Variances are written beside the maps that they belong to, and checked against them.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.errors import InputError
from voxloom.io.maps.files import map_volumes
from voxloom.io.study.open import describe_results, open_study
from voxloom.pipeline.planning.memory import gather_piece
from voxloom.pipeline.stages.consolidate import NAME
from voxloom.pipeline.stored.maps import make_map_array, write_block
from voxloom.pipeline.workspace import GroupWorkspace, Stage
from voxloom.schema import MAP_CHUNK_MAPS, MAP_SHARD_VOXELS, shard_slices
from voxloom.spec import digest
from voxloom.spec.maps import MAPS, MapsAnalysis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxloom.io.maps.files import MapFiles
    from voxloom.io.store.objects import Objects


@dataclass
class MapsWorkspace(GroupWorkspace):
    """An analysis of given maps at work on one store.

    Parameters
    ----------
    maps : MapFiles

    Others as in `GroupWorkspace`.
    """

    analysis: MapsAnalysis
    maps: MapFiles = field(kw_only=True)


def tasks(ws: MapsWorkspace) -> list[Task]:
    """One task per block of maps; one for all where they are in one file."""
    return [
        Task(
            stage=NAME,
            key=f"{ws.analysis.combine_digest}/{block.start:06d}",
            function=gather,
            kwargs={
                "store": ws.url,
                "path": maps_path(ws),
                "files": {name: found[files] for name, found in kinds(ws.maps).items()},
                "labels": ws.maps.labels[block],
                "first": block.start,
                "memory_budget": ws.analysis.memory_budget,
            },
            inputs=digest([ws.maps.stamps[files], str(ws.analysis.maps.mask)]),
        )
        for files, block in blocks(ws.maps)
    ]


def blocks(maps: MapFiles) -> list[tuple[slice, slice]]:
    """Which files, and which maps they hold, belong to each task."""
    if len(maps.files) == 1:
        return [(slice(0, 1), slice(0, len(maps.labels)))]
    return [(block, block) for block in shard_slices(len(maps.labels), MAP_CHUNK_MAPS)]


def kinds(maps: MapFiles) -> dict[str, tuple[Path, ...]]:
    """Files by the variable that they hold."""
    return {"effect": maps.files} | ({"variance": maps.variances} if maps.variances else {})


def maps_path(ws: MapsWorkspace) -> str:
    """Where the maps lie in the store."""
    return f"results/{ws.analysis.combine_digest}"


def prepare(ws: MapsWorkspace) -> None:
    """Create ``results/<name>/effect(map, contrast, voxel)``, and ``variance``; other files of the names replace it."""
    name, labels = ws.analysis.combine_digest, list(ws.maps.labels)
    coords = {"map": labels, "contrast": [MAPS]}
    describe_results(ws.objects, name, level="maps", coords=coords)
    for variable in kinds(ws.maps):
        make_map_array(
            ws.objects,
            f"{maps_path(ws)}/{variable}",
            {"map": len(labels), "contrast": 1},
            len(ws.voxel),
            chunk=(min(MAP_CHUNK_MAPS, len(labels)), 1),
            attrs={"inputs": digest([ws.maps.stamps])},
            on_replace=partial(ws.ledger.forget_all, NAME, name),
        )


def gather(
    *,
    store: str,
    path: str,
    files: Mapping[str, Sequence[Path]],
    labels: Sequence[str],
    first: int,
    memory_budget: int,
) -> Output:
    """Read some maps, and their variances, at the study's voxels and write them.

    Raises
    ------
    InputError
        A map has no finite value at them, or is 0 at all; or its variance is negative, or 0 where the map is not.
    """
    study = open_study(store)
    contents = Contents(labels)
    n_volume = math.prod(study.grid.shape)
    for piece in gather_pieces(len(study.voxel), len(labels), n_volume, memory_budget, len(files)):
        place = np.unravel_index(study.voxel[piece], study.grid.shape)
        block = np.empty((len(files), min(MAP_CHUNK_MAPS, len(labels)), 1, piece.stop - piece.start))
        for i, volumes in enumerate(zip(*map(map_volumes, files.values()), strict=True)):
            check_cancelled()
            row = i % MAP_CHUNK_MAPS
            for kind, volume in zip(block, volumes, strict=True):
                kind[row, 0] = volume[place]
            contents.add(i, block[:, row, 0])
            if row == block.shape[1] - 1 or i == len(labels) - 1:
                for name, kind in zip(files, block, strict=True):
                    write_maps(study.objects, f"{path}/{name}", first + i - row, piece.start, kind[: row + 1])
    contents.require()
    moved = 8 * len(files) * len(labels) * len(study.voxel)
    last = first + len(labels)
    return Output(
        digest=digest(contents.digests),
        bytes_read=sum(path.stat().st_size for found in files.values() for path in found),
        bytes_written=moved,
        details={"digests": dict(zip(labels, contents.digests))},
        wrote=[
            f"{path}/{name}/c/{i}/*/*"
            for name in files
            for i in range(first // MAP_CHUNK_MAPS, -(-last // MAP_CHUNK_MAPS))
        ],
    )


def gather_pieces(n_voxels: int, n_maps: int, n_volume: int, budget: int, n_kinds: int = 1) -> list[slice]:
    """Stretches of voxels whose block of maps fits the budget, in whole shards."""
    return shard_slices(n_voxels, gather_piece(budget, n_voxels, n_maps, n_volume, n_kinds))


def write_maps(objects: Objects, path: str, first: int, start: int, block: NDArray[np.float64]) -> None:
    """Write a block of maps, one shard at a time: encoded, it is held twice."""
    for voxels in shard_slices(block.shape[2], MAP_SHARD_VOXELS):
        write_block(objects, path, (first, 0, start + voxels.start), block[:, :, voxels])


class Contents:
    """What was read of each map: a digest of its values, whether there were any, and whether variances are ones."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self.hashes = [hashlib.sha256() for _ in labels]
        self.finite, self.nonzero = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
        self.unusable = np.zeros(len(labels), int)

    def add(self, i: int, values: NDArray[np.float64]) -> None:
        """Take in a stretch of map i, (1 or 2, voxels): its values, and their variances."""
        self.hashes[i].update(np.ascontiguousarray(values[0]).data)
        self.finite[i] |= np.isfinite(values[0]).any()
        self.nonzero[i] |= (np.nan_to_num(values[0]) != 0).any()
        if len(values) > 1:  # both 0: outside of the map's own mask
            effect, variance = values
            self.unusable[i] += np.count_nonzero((variance < 0) | ((variance == 0) & (np.nan_to_num(effect) != 0)))

    @property
    def digests(self) -> list[str]:
        """Of the values of each map."""
        return [h.hexdigest()[:16] for h in self.hashes]

    def require(self) -> None:
        """Raise `InputError` for a map that holds nothing, or whose variance is none."""
        for label, finite, nonzero, unusable in zip(self.labels, self.finite, self.nonzero, self.unusable):
            if not nonzero:
                what = "is 0 at every voxel of the mask" if finite else "has no finite value in the mask"
                raise InputError(
                    f"map {label}", f"{what}.", "Check the file, or leave it out with its row of the design."
                )
            if unusable:
                raise InputError(
                    f"variance of map {label}",
                    f"is negative or 0 at {unusable} voxels.",
                    "Give the variances of the effects (varcope, squared standard error), NaN where there is none.",
                )


def require_distinct(ws: MapsWorkspace) -> None:
    """Refuse two maps of the same values, whatever their files are called.

    Raises
    ------
    InputError
        Names the two.
    """
    seen: dict[str, str] = {}
    for record in ws.done(NAME).values():
        for label, found in record.details["digests"].items():
            if (other := seen.setdefault(found, label)) != label:
                raise InputError(
                    f"maps {other} and {label}", "hold the same values.", "Each map counts once; leave one out."
                )


STAGE = Stage(NAME, tasks, prepare, require_distinct)
