"""Before the first stage: which grid, which voxels. Makes or opens the study's store."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from voxloom.errors import GridError, InputError
from voxloom.io.nifti.volumes import read_header, read_mask
from voxloom.io.study.open import create_study, is_study, open_study
from voxloom.pipeline.masks import require_mask, study_mask
from voxloom.pipeline.sources import check_sources
from voxloom.schema import Grid
from voxloom.spec import MASK_RULES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxloom.io.bids.run_table import RunFile
    from voxloom.io.nifti.info import NiftiInfo
    from voxloom.io.study.open import Study
    from voxloom.pipeline.workspace import Workspace
    from voxloom.spec import Template


class Inputs(NamedTuple):
    """Headers of the runs that can be read, and why the others cannot."""

    headers: dict[str, NiftiInfo]
    problems: dict[str, InputError]


def read_headers(runs: tuple[RunFile, ...]) -> Inputs:
    """Header of every run's image; an unreadable or 3-D image becomes a problem, not an end."""
    headers, problems = {}, {}
    for run in runs:
        try:
            info = read_header(run.bold)
            if info.n_volumes < 2:
                raise InputError(
                    str(run.bold),
                    f"has shape {info.shape}, but a run must be 4-D with several volumes.",
                    "Point the analysis at the BOLD series.",
                )
            headers[run.id] = info
        except InputError as error:
            problems[run.id] = error
    return Inputs(headers, problems)


def space_of(runs: Sequence[RunFile]) -> str:
    """Name of the space of the images; none where their names do not say one."""
    spaces = {run.entities.get("space", "") for run in runs}
    return spaces.pop() if len(spaces) == 1 else ""


def common_grid(headers: Mapping[str, NiftiInfo], mask: str | Template, space: str) -> Grid:
    """Grid of the study: that of a given mask file, else the one most runs have (the first of equals)."""
    if isinstance(mask, str) and mask not in MASK_RULES:
        grid = read_mask(mask)[1]
        return Grid(shape=grid.shape, affine=grid.affine, space=space)
    kinds: list[Grid] = []
    votes: Counter[int] = Counter()
    for info in headers.values():
        place = next((i for i, grid in enumerate(kinds) if grid.same_as(info.grid)), len(kinds))
        if place == len(kinds):
            kinds.append(info.grid)
        votes[place] += 1
    grid = kinds[votes.most_common(1)[0][0]]
    return Grid(shape=grid.shape, affine=grid.affine, space=space)


def study_grid(ws: Workspace, inputs: Inputs) -> Grid:
    """Grid of a study to be made; runs on another one become problems.

    Raises
    ------
    GridError
        The given mask is on the grid of no run.
    """
    mask = ws.analysis.data.mask
    grid = common_grid(inputs.headers, mask, space_of(ws.runs))
    if not any(grid.same_as(i.grid) for i in inputs.headers.values()):  # only a given mask can lie elsewhere
        next(iter(inputs.headers.values())).grid.require(grid, f"data.mask: {mask}")
    check_grids(inputs, grid)
    return grid


def check_grids(inputs: Inputs, grid: Grid) -> None:
    """Move runs on another grid from the headers to the problems."""
    for run_id, info in list(inputs.headers.items()):
        try:
            grid.require(
                info.grid,
                str(info.path),
                "One study is one grid: resample the run, or give it a study of its own.",
            )
        except GridError as error:
            del inputs.headers[run_id]
            inputs.problems[run_id] = error


def prepare_study(ws: Workspace) -> tuple[Study, Inputs]:
    """Open the store of this analysis, or make it from the masks of its runs.

    Raises
    ------
    StoreError
        The store was made with another mask.
    InputError
        No run can be read, or the mask is empty.
    """
    inputs = read_headers(tuple(ws.runs))
    if is_study(ws.objects):
        study = open_study(ws.url)
        require_mask(ws, study)
        check_grids(inputs, study.grid)
        check_sources(ws, inputs)
        return study, inputs
    if not inputs.headers:
        raise InputError(
            "data",
            "no image can be read:\n  " + "\n  ".join(map(str, inputs.problems.values())),
        )
    grid = study_grid(ws, inputs)
    mask = study_mask(ws, inputs, grid)
    return create_study(ws.url, grid, mask, meta={"mask": ws.analysis.to_dict()["data"]["mask"]}), inputs
