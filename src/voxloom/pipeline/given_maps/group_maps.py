"""Group models of given maps, from Python: what `voxloom group` does."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from voxloom.io.study.open import open_study
from voxloom.pipeline.given_maps.analysis import MODEL, maps_analysis
from voxloom.pipeline.given_maps.line import run_maps
from voxloom.pipeline.line import RunResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import distributed
    import xarray as xr

    from voxloom.engine.events import OnEvent

Paths: TypeAlias = "str | PathLike[str] | Sequence[str | PathLike[str]]"


@dataclass(frozen=True, kw_only=True)
class GroupMaps(RunResult):
    """How a group model of given maps ended.

    Parameters
    ----------
    model : str
        Its name.

    Others as in `RunResult`.
    """

    model: str

    @property
    def maps(self) -> xr.Dataset:
        """Statistics, lazy: ``effect``, ``stat``, ``z_score``, corrected p, ... over (group_contrast, voxel)."""
        return open_study(self.store).results(self.group_names[self.model]).isel(contrast=0, drop=True)


def group_maps(
    maps: Paths,
    *,
    output: str | PathLike[str],
    variances: Paths = (),
    mask: str | PathLike[str] | None = None,
    table: Paths = (),
    formula: str | None = None,
    contrasts: Mapping[str, Any] | None = None,
    estimator: str = "ols",
    groups: str | None = None,
    visits: str | None = None,
    missing: str = "raise",
    min_n: int = 1,
    inference: Mapping[str, Any] | None = None,
    name: str = MODEL,
    store: str | PathLike[str] | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    memory_budget: int | str | None = None,
    seed: int | None = None,
    client: distributed.Client | None = None,
    on_event: OnEvent | None = None,
) -> GroupMaps:
    """Fit a group model to maps that are there as files, out of core; or go on where an earlier call stopped.

    Parameters
    ----------
    maps : path or sequence of path
        One 4-D image, 3-D images, patterns (``"maps/*.nii.gz"``), or lists: ``.txt`` (a path a line), ``.tsv`` or
        ``.csv`` (a column ``path``, ``map`` or ``file``; maybe ``variance``, and covariates).
    output : path
        Folder for the NIfTI files, a BIDS derivative.
    variances : path or sequence of path
        Variances of the maps, in their order; `reml`, `paule-mandel` and `fixed` weight by them.
    mask : path, optional
        Mask image; else voxels that are finite in every map and not 0 in all of them.
    table : path or sequence of path
        Covariates, joined with the maps by file or by BIDS entities (``participant_id``, ``session_id``, ...), or in
        their order: tables, or BIDS datasets (``participants.tsv`` and ``sub-*_sessions.tsv``). Without a formula, the
        numbers of the first are the design.
    formula : str, optional
        Right-hand side over the covariates and the entities that all maps have.
    contrasts : mapping of str to str, optional
        Expressions of the design's columns by name; the mean without a formula.
    estimator, groups, visits : str
        As in `fit_group`; `groups` and `visits` name columns.
    missing : {"raise", "drop"}
        What becomes of maps without a row, without a finite covariate, or without the other map of their person.
    min_n : int
        Least number of maps of a voxel that is fitted.
    inference : mapping, optional
        As ``inference`` in the analysis file; by default Bonferroni and FDR.
    name : str
        Of the model, for the names of the files.
    store : path, optional
        Where maps are kept while they are worked on; ``<output>.zarr`` when not given.
    cluster, workers, memory_budget, seed : optional
        As in the analysis file.
    client : distributed.Client, optional
        Cluster to run on, in place of `cluster`.
    on_event : callable, optional
        Called with each event of the engine.

    Returns
    -------
    GroupMaps
        `ok`, `maps` (the statistics), `output`, `store`, and what failed.

    Raises
    ------
    InputError
        Maps, variances, tables, design or contrasts do not go together; the message names files, maps or terms.
    MemoryBudgetError
        Not even the smallest piece fits the budget.
    """
    model = {
        "formula": formula,
        "contrasts": dict(contrasts or {}),
        "estimator": estimator,
        "groups": groups,
        "visits": visits,
        "missing": missing,
        "min_n": min_n,
        "inference": {"method": ["bonferroni", "fdr"], **(inference or {})},
    }
    analysis = maps_analysis(
        several(maps),
        model=model,
        output=output,
        variances=several(variances),
        mask=mask,
        tables=several(table),
        store=store,
        name=name,
        cluster=cluster,
        workers=workers,
        memory_budget=memory_budget,
        seed=seed,
    )
    return GroupMaps(**vars(run_maps(analysis, client, on_event=on_event)), model=name)


def several(given: Paths) -> list[str | PathLike[str]]:
    """One path or several, as several."""
    return [given] if isinstance(given, (str, PathLike)) else list(given)
