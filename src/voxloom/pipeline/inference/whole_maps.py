"""Tasks of spatial statistics: maps of the statistic under rearrangements, and what is made of each as a whole.

The maps of a batch are made where they are used (`maxima_of_effects`), or by stretches of voxels in tasks of their own
(`write_maps`) and read row by row (`maxima_of_maps`). The numbers are the same to the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.engine.runner import Output
from voxloom.engine.worker import check_cancelled
from voxloom.io.store.objects import Objects
from voxloom.io.store.regions import read_region
from voxloom.io.study.open import open_study
from voxloom.models.inference.permutation import rearranged_stat, tiles
from voxloom.models.inference.spatial import SpatialTest, null_spatial, observed_spatial, spatial_maxima
from voxloom.pipeline.inference.nulls import SPATIAL_BATCH, maps_path, prepared, prepared_for, spatial_statistics
from voxloom.pipeline.stages.group import load_effects
from voxloom.pipeline.stored.maps import write_block
from voxloom.pipeline.workspace import content_digest
from voxloom.schema import shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.spec import Inference

    FloatArray = NDArray[np.float64]
    Maxima = Mapping[str, FloatArray]


def spatial_batch(
    *,
    store: str,
    null_path: str,
    path: str,
    test: GroupTest,
    row: int,
    column: int,
    batch: tuple[int, int],
    place: int,
    inference: Inference,
    seed: int,
    stored_rows: int | None,
) -> Output:
    """Greatest value of every spatial statistic in each rearrangement of a batch; the first leaves the observed maps.

    `stored_rows` maps are read at a time where they are in the store; None where they are made here.
    """
    study = open_study(store)
    setup = prepared_for(study, test, inference, seed, column)
    statistics, rearrangements = spatial_statistics(inference), slice(*batch)
    spatial = SpatialTest(setup, statistics, study.voxel, study.grid.shape)
    if stored_rows is None:
        read, maxima = maxima_of_effects(study.objects, spatial, test, row, rearrangements)
    else:
        read, maxima = maxima_of_maps(study.objects, spatial, null_path, rearrangements, stored_rows)
    block = np.full((1, len(statistics), SPATIAL_BATCH), np.nan)
    block[0, :, : batch[1] - batch[0]] = np.stack([maxima[name] for name in statistics])
    write_block(study.objects, f"{path}/maxima", (place, 0, 0), block)
    contents, wrote = [block], [f"{path}/maxima/c/{place}/*/*"]
    if place == 0:
        stat = read_region(study.objects, f"{null_path}/stat", (slice(None),))
        observed = observed_spatial(spatial, stat)
        contents.append(np.stack([observed[name] for name in statistics]))
        write_block(study.objects, f"{path}/observed", (0, 0), contents[-1])
        read += stat.nbytes
        wrote.append(f"{path}/observed/c/*/*")
    return Output(
        digest=content_digest(contents),
        bytes_read=read,
        bytes_written=sum(content.nbytes for content in contents),
        details={"permutations": float(batch[1] - batch[0]), "n_perm": setup.n_perm, "alpha": inference.alpha},
        wrote=wrote,
    )


def maxima_of_effects(
    objects: Objects, spatial: SpatialTest, test: GroupTest, row: int, batch: slice
) -> tuple[int, Maxima]:
    """Bytes read, and the maxima of a batch whose maps are made here."""
    Y = load_effects(objects, test, test.rows[row], slice(None))["effect"].to_numpy()
    parts = []
    for start, stop in tiles(batch.start, batch.stop):
        check_cancelled()
        parts.append(null_spatial(spatial, Y, start=start, stop=stop))
    return Y.nbytes, joined(parts)


def maxima_of_maps(
    objects: Objects, spatial: SpatialTest, null_path: str, batch: slice, n_rows: int
) -> tuple[int, Maxima]:
    """Bytes read, and the maxima of a batch whose maps are in the store."""
    read, parts = 0, []
    for rows in shard_slices(batch.stop - batch.start, n_rows):
        check_cancelled()
        maps = read_region(objects, maps_path(null_path, batch.start), (rows, slice(None)))
        read += maps.nbytes
        parts.append(spatial_maxima(spatial, maps))
    return read, joined(parts)


def joined(parts: Sequence[Maxima]) -> Maxima:
    """Maxima of consecutive rearrangements by statistic."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_maps(
    *,
    store: str,
    null_path: str,
    test: GroupTest,
    row: int,
    column: int,
    voxels: tuple[int, int],
    batches: Sequence[tuple[int, int]],
    inference: Inference,
    seed: int,
) -> Output:
    """Maps of the statistic under the rearrangements of some batches, over a stretch of voxels."""
    objects, setup = Objects(store), prepared(test, inference, seed, column)
    Y = load_effects(objects, test, test.rows[row], slice(*voxels))["effect"].to_numpy()
    digests, written = list[str](), 0
    for batch in batches:
        maps = np.empty((batch[1] - batch[0], Y.shape[1]))
        for start, stop in tiles(*batch):
            check_cancelled()
            maps[start - batch[0] : stop - batch[0]] = rearranged_stat(setup, Y, start=start, stop=stop)
        write_block(objects, maps_path(null_path, batch[0]), (0, voxels[0]), maps)
        digests.append(content_digest([maps]))
        written += maps.nbytes
    return Output(digest=digest(digests), bytes_read=Y.nbytes, bytes_written=written)
