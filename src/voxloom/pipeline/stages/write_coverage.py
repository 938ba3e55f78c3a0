"""How many runs of each site cover each voxel, as files beside the group results; one task per site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.io.bids.derivatives import coverage_name, sidecar
from voxloom.io.study.open import open_study
from voxloom.pipeline.coverage import runs_of_sites
from voxloom.pipeline.stages.group import group_tests
from voxloom.pipeline.stored.map_files import NAME, group_entities, write_map
from voxloom.pipeline.workspace import Workspace, content_digest
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def coverage_tasks(ws: Workspace) -> Iterator[Task]:
    """One task per site of a study of several that has group results."""
    output, subjects = ws.analysis.output.dir, ws.subjects()
    runs = [run for subject in ws.combined_subjects() for run in subjects[subject]]
    for site, own in runs_of_sites(runs).items() if group_tests(ws) else ():
        stored = [ws.stored_id(run) for run in own]
        inputs = digest([[name, ws.done("ingest")[name].digest] for name in stored])
        path = coverage_name(site, group_entities(ws.group_runs()))
        yield Task(
            stage=NAME,
            key=f"coverage/{site}/{digest(str(Path(output)))}",
            function=export_coverage,
            kwargs={"store": ws.url, "output": str(output), "path": path, "runs": stored, "inputs": inputs},
            inputs=digest([inputs, path]),
        )


def export_coverage(*, store: str, output: str, path: str, runs: Sequence[str], inputs: str) -> Output:
    """Write the coverage of one site."""
    study = open_study(store)
    counts = study.coverage_of(runs).to_numpy().astype(np.float64)
    content = sidecar("runs", model={}, n=len(runs), runs=runs, inputs=inputs)
    written = write_map(study, Path(output) / path, counts, content)
    read = len(runs) * study.voxel.size  # a byte a voxel
    return Output(digest=content_digest([counts]), bytes_read=read, bytes_written=written, details={"files": [path]})
