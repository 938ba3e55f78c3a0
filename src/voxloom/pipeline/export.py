"""Stage 9: maps in the store become NIfTI files with sidecars; one task per subject and per group test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from voxloom.engine.runner import Output, Task
from voxloom.io.derivatives import group_name, subject_name, write_description, write_sidecar
from voxloom.io.images import to_nifti, write_nifti
from voxloom.io.store import Objects, read_block
from voxloom.io.study import open_study
from voxloom.kernels.tails import f_to_p, f_to_z, t_to_p, t_to_z
from voxloom.pipeline.correct import CORRECTED, read_map
from voxloom.pipeline.group import GroupTest, group_tests
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import voxel_coords
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from voxloom.spec import Analysis

NAME = "export"
#: Statistic in a file name, by variable of the store.
GROUP_FILES = {
    "effect": "effect",
    "variance": "variance",
    "stat": "t",
    "z_score": "z",
    "p_value": "p",
    "dof": "dof",
    "n": "n",
}
#: ``desc`` entity of a corrected p map.
CORRECTED_DESC = {"p_bonferroni": "bonferroni", "p_fdr": "fdr", "p_max_stat": "fwe"}


def tasks(ws: Workspace) -> list[Task]:
    """Tasks of all subjects and group tests that are done."""
    return [*subject_tasks(ws), *group_tasks(ws)]


def prepare(ws: Workspace) -> None:
    """Describe the output folder; forget what was written into files that are gone."""
    output = ws.analysis.output.dir
    output.mkdir(parents=True, exist_ok=True)
    write_description(output, name=ws.analysis.results_title)
    for key, record in ws.ledger.read(NAME).items():
        files = record.details.get("files", [])
        if record.details.get("output") == str(output) and not all((output / f).exists() for f in files):
            ws.ledger.forget(NAME, key)
'''
