"""Which files an analysis writes, by name; and how one map is written."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from voxloom.engine.worker import check_cancelled
from voxloom.io.bids.derivative_dataset import DESCRIPTION, IGNORED
from voxloom.io.bids.derivatives import (
    clusters_name,
    coverage_name,
    design_name,
    group_design_name,
    group_mask_name,
    group_name,
    influence_name,
    mask_name,
    mask_sidecar,
    null_name,
    run_name,
    subject_name,
    write_sidecar,
)
from voxloom.io.nifti.images import to_nifti, write_nifti
from voxloom.pipeline.coverage import runs_of_sites
from voxloom.pipeline.inference.corrections import nulls_named, p_maps, stat_maps
from voxloom.pipeline.levels import levels_of
from voxloom.schema import voxel_coords

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxloom.io.bids.run_table import RunFile
    from voxloom.io.study.open import Study
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.pipeline.workspace import GroupWorkspace, Workspace

NAME = "export"
#: Files of every data set of results.
DATASET = (DESCRIPTION, IGNORED)
#: Statistic in a file name, by variable of a group model in the store, by type of the contrast.
GROUP_FILES = {
    "t": {
        "effect": "effect",
        "variance": "variance",
        "stat": "t",
        "z_score": "z",
        "p_value": "p",
        "dof": "dof",
        "n": "n",
    },
    "F": {"stat": "F", "z_score": "z", "p_value": "p", "dof": "dof", "n": "n"},
}
#: Statistics written of a subject's contrast.
SUBJECT_FILES = {
    "t": ("effect", "variance", "t", "z", "p", "dof"),
    "F": ("F", "z", "p", "dof"),
    "conjunction": ("z", "p"),
}
#: Of the values of an exported map.
MAP_DTYPE = np.dtype(np.float32)
MASK_DTYPE = np.dtype(np.uint8)


def planned_files(ws: Workspace, runs: Sequence[RunFile], tests: Sequence[GroupTest]) -> Iterator[str]:
    """Names of the files an analysis will write from these runs, each beside its sidecar."""
    yield from (
        f"{folder}{name}" for folder in ("", *(f"{site}/" for site in ws.analysis.data.sites)) for name in DATASET
    )
    sites = runs_of_sites(runs) if tests else ()
    covered = [coverage_name(site, group_entities(runs)) for site in sites]
    yield from with_sidecars((*planned_subject_files(ws, runs), *planned_group_files(ws, runs, tests), *covered))


def with_sidecars(names: Iterable[str]) -> Iterator[str]:
    """Files, each beside its sidecar."""
    for name in dict.fromkeys(names):
        yield from (name, f"{name.partition('.')[0]}.json")


def planned_subject_files(ws: Workspace, runs: Sequence[RunFile]) -> Iterator[str]:
    """Designs of the runs and maps of the subjects and of their sessions."""
    yield from (design_name(run.entities) for run in runs)
    yield from (run_name(run.entities, stat="rsquared") for run in runs)
    sessions = ws.analysis.subject_level.sessions
    for subject in dict.fromkeys(run.subject for run in runs):
        own = [run for run in runs if run.subject == subject]
        for joined in levels_of(subject, own, sessions=sessions).values():
            entities = shared_entities([run.entities for run in joined])
            yield mask_name(entities)
            for name, wanted in ws.analysis.first_level.contrasts.items():
                stats = SUBJECT_FILES[wanted.stat_type]
                yield from (subject_name(entities, contrast=name, stat=stat) for stat in stats)


def planned_group_files(ws: GroupWorkspace, runs: Sequence[RunFile], tests: Sequence[GroupTest]) -> Iterator[str]:
    """Designs and maps of the group models."""
    for test in tests:
        entities = group_entities(runs)
        yield group_design_name(test.name)
        wanted = ws.analysis.group[test.name].inference
        made: list[tuple[str, str | None]] = [("p", p.desc) for p in p_maps(wanted).values()]
        made += [(one.stat, one.desc) for one in stat_maps(wanted).values()]
        for first, (name, question) in product(test.first_level, test.contrasts.items()):
            if nulls_named(wanted):
                yield null_name(test.name, contrast=first, test=name, entities=entities)
            if ws.analysis.group[test.name].influence and question.stat_type == "t":
                yield influence_name(test.name, contrast=first, test=name, entities=entities)
            yield clusters_name(test.name, contrast=first, test=name, entities=entities)
            yield group_mask_name(test.name, contrast=first, test=name, entities=entities)
            fitted = [(stat, None) for stat in GROUP_FILES[question.stat_type].values()]
            yield from (
                group_name(test.name, contrast=first, test=name, stat=stat, entities=entities, desc=desc)
                for stat, desc in (*fitted, *made)
            )


def group_entities(runs: Sequence[RunFile]) -> dict[str, str]:
    """Entities of a group map: those that all runs share, subject and site apart."""
    shared = shared_entities([run.entities for run in runs])
    return {key: value for key, value in shared.items() if key not in ("sub", "site")}


def shared_entities(runs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Entities that all runs have with one value: those of the map made of them."""
    first = runs[0] if runs else {}
    return {key: value for key, value in first.items() if all(run.get(key) == value for run in runs)}


def write_mask(study: Study, path: Path, inside: NDArray[np.bool_], inputs: str) -> int:
    """Write which of the study's voxels have a result, the sidecar first; return the bytes of the volume's values."""
    write_sidecar(path, mask_sidecar(inputs))
    array = xr.DataArray(inside, dims="voxel", coords=voxel_coords(study.grid, study.voxel))
    image = to_nifti(array, dtype=MASK_DTYPE)
    write_nifti(image, path)
    return int(image.dataobj.nbytes)


def write_map(study: Study, path: Path, values: NDArray[np.float64], content: Mapping[str, Any]) -> int:
    """Write one map over the study's voxels as NIfTI, its sidecar first: an image is never without one.

    Returns the bytes of the volume's values.
    """
    check_cancelled()
    write_sidecar(path, content)
    background = 1.0 if "_stat-p_" in path.name else 0.0
    array = xr.DataArray(values, dims="voxel", coords=voxel_coords(study.grid, study.voxel))
    image = to_nifti(array, fill=background, dtype=MAP_DTYPE)
    write_nifti(image, path)
    return int(image.dataobj.nbytes)
