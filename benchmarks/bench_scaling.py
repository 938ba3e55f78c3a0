"""Strong scaling: wall time of ingest, fit and infer of one study, with one worker and with two.

The machine must have two idle cores. Workers are started, and have imported and compiled what they need, before a
stage is timed; each stage takes 10 s or more on one worker, so that neither its start nor its last task counts for
much. Four simulated people are met at fourteen sites: what the stages read and do is that of 56 people.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

import voxloom
from voxloom.engine.cluster import connect
from voxloom.engine.events import StageFinished
from voxloom.simulate import write_bids_study

STAGES = ("ingest", "fit", "infer")
BUDGET = 512 * 2**20
#: Subjects of the simulated data set, and how many sites it stands for.
N_SUBJECTS, N_SITES = 4, 14


def write_study(folder: Path, shape: tuple[int, int, int], n_volumes: int) -> Path:
    """Simulate a data set that may stand for any site: the column of its own sites goes."""
    write_bids_study(folder, n_subjects=N_SUBJECTS, n_sites=1, n_runs=1, shape=shape, n_volumes=n_volumes)
    people = folder / "participants.tsv"
    pd.read_csv(people, sep="\t").drop(columns="site").to_csv(people, sep="\t", index=False)
    return folder


def analysis_of(bids: Path, folder: Path, n_perm: int) -> dict[str, Any]:
    """36 columns a run, as with 24 motion parameters; one task of the fit per run, many of the permutation test."""
    return {
        "data": {"sites": {f"site{i}": {"bids_dir": str(bids)} for i in range(N_SITES)}, "task": "faces"},
        "store": {"path": str(folder / "study.zarr")},
        "output": {"dir": str(folder / "results")},
        "first_level": {
            "hrf_model": "spm + derivative + dispersion",
            "confounds": {"strategy": ["motion"], "motion": "full"},
            "contrasts": {"fh": "face - house"},
        },
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
        voxloom.run(analysis_of(warm, folder / "warm", 5000), client, until=STAGES[-1])
        result = voxloom.run(analysis_of(bids, folder, n_perm), client, until=STAGES[-1], on_event=listen)
    assert result.ok, result
    return {stage: seconds[stage] for stage in STAGES}


def run(
    shape: tuple[int, int, int] = (48, 56, 48),
    n_volumes: int = 300,
    n_perm: int = 300_000,
    repeats: int = 3,
) -> dict[str, Any]:
    """Seconds of each stage on one worker and on two, in alternation, and the medians' ratio."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        warm = write_study(root / "warm", (10, 12, 9), n_volumes)
        bids = write_study(root / "bids", shape, n_volumes)
        found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for _ in range(repeats):
            for workers, runs in found.items():
                with tempfile.TemporaryDirectory(dir=root) as folder:
                    runs.append(stage_seconds(bids, warm, Path(folder), workers, n_perm))
    medians = {
        workers: {stage: statistics.median(run[stage] for run in runs) for stage in STAGES}
        for workers, runs in found.items()
    }
    study = {"shape": shape, "n_volumes": n_volumes, "n_runs": N_SUBJECTS * N_SITES, "n_perm": n_perm}
    return {
        "what": "one worker over two, wall time of a stage",
        "study": json.dumps(study),
        "cores": os.cpu_count(),
        "speedup": {stage: medians[1][stage] / medians[2][stage] for stage in STAGES},
        "seconds_on_1_worker": medians[1],
        "seconds_on_2_workers": medians[2],
    }
