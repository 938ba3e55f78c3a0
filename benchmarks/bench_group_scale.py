"""A group of 10,000 maps: one block consolidated, all of them read and fitted by pieces within a memory budget.

Bytes are those that the process asked of files (``rchar`` of /proc/self/io), over the raw bytes that were needed:
1.0 means that compression made up for all that was read beside the point.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._harness import one_thread, timed
from voxloom.io.store.arrays import create_array
from voxloom.io.store.objects import Objects
from voxloom.io.store.regions import read_voxels, write_voxels
from voxloom.io.study.open import create_study
from voxloom.pipeline.stages import consolidate, group
from voxloom.pipeline.stages.group_contrasts import contrasts_of
from voxloom.pipeline.stored.maps import STATISTICS, make_map_array, make_maps, write_block
from voxloom.schema import MAP_CHUNK_MAPS, Grid, bold_chunks, shard_slices
from voxloom.spec import GroupModel

MiB = 2**20
N_MAPS, N_VOXELS, BUDGET = 10_000, 8_192, 512 * MiB
N_VOLUMES, BOLD_VOXELS = 200, 131_072


def run(n_maps: int = N_MAPS) -> dict[str, Any]:
    """Stored bytes read per useful byte of both levels, CPU seconds, and peak memory beside the budget."""
    with tempfile.TemporaryDirectory() as name, one_thread():
        objects = Objects(Path(name) / "study.zarr")
        create_study(objects.url, Grid.of((N_VOXELS, 1, 1), np.eye(4)), np.ones((N_VOXELS, 1, 1), bool))
        return {
            "first_level": _first_level(objects),
            "consolidate_128_maps": _consolidate(objects),
            "group": _group(objects, n_maps),
        }


def _asked() -> int:
    """Bytes this process has asked of files and pipes so far."""
    found = re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())
    return int(found[1]) if found else 0


def _peak(reset: bool = False) -> int:
    """Greatest resident memory since the last reset, bytes."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


def _measured(call: Any, useful: int) -> dict[str, float]:
    base, asked = _peak(reset=True), _asked()
    cpu = timed(call).cpu
    return {
        "read_per_useful_byte": (_asked() - asked) / useful,
        "cpu_seconds": cpu,
        "peak_mib": (_peak() - base) / MiB,
    }


def _first_level(objects: Objects) -> dict[str, float]:
    """All shards of a run, as fit reads them."""
    rng, rule = np.random.default_rng(0), bold_chunks(BOLD_VOXELS, N_VOLUMES, 2)
    shape = (BOLD_VOXELS, N_VOLUMES)
    create_array(
        objects,
        "bold",
        dims=("voxel", "time"),
        shape=shape,
        dtype="<i2",
        chunks=(rule.chunk, N_VOLUMES),
        shards=(rule.shard, N_VOLUMES),
    )
    shards = shard_slices(BOLD_VOXELS, rule.shard)
    for shard in shards:
        mean = rng.uniform(5000, 12_000, (shard.stop - shard.start, 1))
        values = mean * (1 + 0.012 * rng.standard_normal((shard.stop - shard.start, N_VOLUMES)))
        write_voxels(objects, "bold", shard, values.astype(np.int16))
    return _measured(lambda: [read_voxels(objects, "bold", shard).shape for shard in shards], 2 * int(np.prod(shape)))


def _consolidate(objects: Objects) -> dict[str, float]:
    """One block of subjects, every statistic."""
    rng, names = np.random.default_rng(1), [f"sub-{i:05d}" for i in range(MAP_CHUNK_MAPS)]
    for subject in names:
        make_maps(objects, f"results/a/subjects/{subject}", ["c"], N_VOXELS)
        for statistic in STATISTICS:
            path = f"results/a/subjects/{subject}/{statistic}"
            write_block(objects, path, (0, 0), rng.standard_normal((1, N_VOXELS)))
    for statistic in consolidate.CONSOLIDATED:
        _room(objects, f"results/a/{statistic}", len(names))
    arguments = {"results": "a", "subjects": names, "n_contrasts": 1, "first": 0, "start": 0, "stop": N_VOXELS}
    useful = len(consolidate.CONSOLIDATED) * len(names) * N_VOXELS * 8
    return _measured(lambda: consolidate.consolidate(store=objects.url, **arguments), useful)


def _room(objects: Objects, path: str, n_maps: int) -> None:
    make_map_array(objects, path, {"subject": n_maps, "contrast": 1}, N_VOXELS, chunk=(min(MAP_CHUNK_MAPS, n_maps), 1))


def _group(objects: Objects, n_maps: int) -> dict[str, float]:
    """The mean of all maps, a task of the group stage."""
    rng = np.random.default_rng(2)
    _room(objects, "results/b/effect", n_maps)
    for block in shard_slices(n_maps, MAP_CHUNK_MAPS):
        values = rng.standard_normal((block.stop - block.start, 1, N_VOXELS))
        write_block(objects, "results/b/effect", (block.start, 0, 0), values)
    subjects = [f"sub-{i:05d}" for i in range(n_maps)]
    design = pd.DataFrame({"intercept": np.ones(n_maps)}, index=subjects)
    test = group.GroupTest(
        name="g",
        results="g",
        source="b",
        subjects=tuple(subjects),
        first_level=("c",),
        rows=(0,),
        design=design,
        contrasts=contrasts_of(GroupModel(), design, "group.g"),
    )
    for name in group.GROUP_STATISTICS:
        make_map_array(objects, f"{test.path}/{name}", {"contrast": 1, "group_contrast": 1}, N_VOXELS)
    budget = max(BUDGET, group.group_memory(n_maps, 4096, 7 * N_VOXELS))

    def fit() -> None:
        group.fit_group_shard(store=objects.url, test=test, start=0, stop=N_VOXELS, memory_budget=budget)

    return _measured(fit, n_maps * N_VOXELS * 8) | {"budget_mib": budget / MiB, "maps": n_maps}
