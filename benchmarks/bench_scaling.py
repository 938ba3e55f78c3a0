"""Strong scaling: wall time of ingest, fit and infer of one study, with one worker and with two.

The machine must have two idle cores. Workers are started, and have imported and compiled what they need, before a
stage is timed.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import voxloom
from voxloom.engine.cluster import connect
from voxloom.engine.events import StageFinished
from voxloom.simulate import write_bids_study

STAGES = ("ingest", "fit", "infer")
BUDGET = 512 * 2**20


def analysis_of(bids: Path, folder: Path, n_perm: int) -> dict[str, Any]:
    """One task of the fit per run and shard, many of the permutation test."""
    return {
        "data": {"bids_dir": str(bids), "task": "faces"},
        "store": {"path": str(folder / "study.zarr")},
        "output": {"dir": str(folder / "results")},
        "first_level": {"confounds": ["trans_?", "rot_?"], "contrasts": {"fh": "face - house"}},
        "group": {"age": {"covariates": ["age"], "contrasts": {"age": "age"}, "inference": {"n_perm": n_perm}}},
        "memory_budget": BUDGET,
    }


def stage_seconds(bids: Path, warm: Path, folder: Path, workers: int, n_perm: int) -> dict[str, float]:
    """Wall seconds of the stages on so many workers."""
    seconds: dict[str, float] = {}

    def listen(event: object) -> None:
        if isinstance(event, StageFinished):
            seconds[event.stage] = event.seconds

    with connect("local", workers=workers, memory_budget=BUDGET) as client:
        voxloom.run(analysis_of(warm, folder / "warm", 200), client)
        result = voxloom.run(analysis_of(bids, folder, n_perm), client, on_event=listen)
    assert result.ok, result
    return {stage: seconds[stage] for stage in STAGES}


def run(
    shape: tuple[int, int, int] = (60, 72, 60),
    n_volumes: int = 300,
    n_subjects: int = 24,
    n_perm: int = 200_000,
    repeats: int = 3,
) -> dict[str, Any]:
    """Seconds of each stage on one worker and on two, in alternation, and the medians' ratio."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_bids_study(root / "warm", n_subjects=6, n_runs=1, shape=(10, 12, 9), n_volumes=n_volumes)
        write_bids_study(root / "bids", n_subjects=n_subjects, n_runs=1, shape=shape, n_volumes=n_volumes)
        found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for i in range(repeats):
            for workers, runs in found.items():
                folder = root / f"{workers}-{i}"
                runs.append(stage_seconds(root / "bids", root / "warm", folder, workers, n_perm))
    medians = {
        workers: {stage: statistics.median(run[stage] for run in runs) for stage in STAGES}
        for workers, runs in found.items()
    }
    return {
        "what": "one worker over two, wall time of a stage",
        "study": json.dumps({"shape": shape, "n_volumes": n_volumes, "n_subjects": n_subjects, "n_perm": n_perm}),
        "cores": os.cpu_count(),
        "speedup": {stage: medians[1][stage] / medians[2][stage] for stage in STAGES},
        "seconds_on_1_worker": medians[1],
        "seconds_on_2_workers": medians[2],
    }
