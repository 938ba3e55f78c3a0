"""Which voxels a study has: the rule of `data.mask`, the masks of the runs, and what lies outside."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxloom.errors import GridError, InputError, StoreError
from voxloom.io.bids.tree import parse_name
from voxloom.io.nifti.volumes import read_mask, volumes
from voxloom.kernels.volumes.automask import compute_brain_mask
from voxloom.kernels.volumes.nearest import nearest
from voxloom.spec import MASK_RULES, Template

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.io.bids.run_table import RunFile
    from voxloom.io.study.open import Study
    from voxloom.pipeline.prepare import Inputs
    from voxloom.pipeline.workspace import Workspace
    from voxloom.schema import Grid

#: Volumes averaged for the mask of a run that comes without one.
MASK_VOLUMES = 8


def run_mask(run: RunFile, grid: Grid) -> NDArray[np.bool_]:
    """The run's own mask, else one computed from its first volumes."""
    if run.mask is not None:
        mask, mask_grid = read_mask(run.mask)
        grid.require(mask_grid, str(run.mask))
        return mask
    total = np.zeros(grid.shape)
    for volume in islice(volumes(run.bold), MASK_VOLUMES):
        total += volume
    return compute_brain_mask(total / MASK_VOLUMES)


def own_mask(run: RunFile, grid: Grid, rule: str | Template) -> NDArray[np.bool_] | None:
    """Where the run has data; None, the study's voxels, where they are given and the run has no mask of its own."""
    return None if run.mask is None and rule not in MASK_RULES else run_mask(run, grid)


def study_mask(ws: Workspace, inputs: Inputs, grid: Grid) -> NDArray[np.bool_]:
    """The study's voxels by the rule of ``data.mask``: union (default), intersection, a mask file or a template.

    Runs whose mask cannot be used become problems.

    Raises
    ------
    InputError
        No voxel is left.
    """
    rule = ws.analysis.data.mask
    if rule not in MASK_RULES:
        mask = given_mask(ws, rule, grid)
    else:
        mask = np.full(grid.shape, rule == "intersection")
        join = np.logical_and if rule == "intersection" else np.logical_or
        for run in ws.runs:
            found = readable_mask(run, inputs, grid, rule)
            if found is not None:
                join(mask, found, out=mask)
    if not mask.any():
        raise InputError(f"data.mask: {rule}", "holds no voxel.", "Check data.mask and the masks of the runs.")
    return mask


def readable_mask(run: RunFile, inputs: Inputs, grid: Grid, rule: str | Template) -> NDArray[np.bool_] | None:
    """`own_mask` of a run that is not a problem; a mask that cannot be used makes it one."""
    if run.id not in inputs.headers:
        return None
    try:
        return own_mask(run, grid, rule)
    except InputError as error:
        del inputs.headers[run.id]
        inputs.problems[run.id] = error
        return None


def given_mask(ws: Workspace, rule: str | Template, grid: Grid) -> NDArray[np.bool_]:
    """Voxels of a mask image on the study's grid; a template is brought onto it, and a note says so.

    Raises
    ------
    GridError
        A mask on another grid, or a template that by its name is of another space.
    """
    if not isinstance(rule, Template):
        mask, mask_grid = read_mask(rule)
        grid.require(mask_grid, f"data.mask: {rule}", "Write `mask: {template: ...}` to have it resampled.")
        return mask
    _require_space(rule.template, grid)
    mask, mask_grid = read_mask(rule.template)
    if grid.same_as(mask_grid):
        return mask
    found = nearest(mask, mask_grid.matrix, grid.shape, grid.matrix)
    ws.note(
        f"data.mask: {rule.template.name} was resampled by nearest neighbour from {mask_grid.shape} at "
        f"{_sizes(mask_grid)} mm to the study's {grid.shape} at {_sizes(grid)} mm: {np.count_nonzero(found)} voxels"
    )
    return found


def _require_space(template: Path, grid: Grid) -> None:
    """Refuse a template whose name says another space than the study's; without either name nothing is known."""
    entities = parse_name(template).entities
    named = entities.get("tpl", entities.get("space"))
    if named and grid.space and named != grid.space:
        raise GridError(
            f"data.mask: {template}",
            f"is of space {named}, but the study is in {grid.space}.",
            "Transform it to that space; resampling alone does not.",
        )


def _sizes(grid: Grid) -> str:
    return " x ".join(f"{size:.3g}" for size in grid.voxel_sizes)


def require_mask(ws: Workspace, study: Study) -> None:
    """Refuse a mask other than the one the study was made with; of a file, its voxels count, not its name.

    Raises
    ------
    StoreError
        The voxels of a study are fixed when it is made.
    """
    rule, remedy = ws.analysis.data.mask, "Give it another `store:`."
    kept = study.meta.get("mask", "union")
    made_with = kept if isinstance(kept, str) else Template.model_validate(kept)
    if rule in MASK_RULES:
        if rule != made_with:
            raise StoreError(study.url, f"was made with data.mask: {made_with}, but the analysis says {rule}.", remedy)
        return
    if rule == made_with and not Path(rule.template if isinstance(rule, Template) else rule).exists():
        return  # the file is gone, its voxels are in the store
    mask = given_mask(ws, rule, study.grid)
    if not np.array_equal(mask, study.mask):
        what = f"was made with data.mask: {made_with}; the voxels of {rule} are others."
        raise StoreError(study.url, what, remedy)
