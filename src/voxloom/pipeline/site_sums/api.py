"""Sites that share sums in place of maps: what `voxloom group --export-sums` and `--merge-sums` do, from Python."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from voxloom.engine.cluster import connect
from voxloom.engine.lock import StoreLock
from voxloom.errors import InputError
from voxloom.io.maps.files import find_maps, maps_mask
from voxloom.io.maps.sums import open_sums
from voxloom.io.store.objects import Objects, clean_partial
from voxloom.io.study.open import create_study
from voxloom.pipeline.given_maps import gather
from voxloom.pipeline.given_maps.analysis import MODEL, maps_analysis
from voxloom.pipeline.given_maps.group_maps import GroupMaps, Paths, several
from voxloom.pipeline.given_maps.line import go
from voxloom.pipeline.line import RunResult
from voxloom.pipeline.planning import memory
from voxloom.pipeline.planning.memory import require
from voxloom.pipeline.site_sums import export as sums
from voxloom.pipeline.site_sums.export import Export, SumsWorkspace, sums_test
from voxloom.pipeline.site_sums.pooled import (
    STAGES,
    PooledWorkspace,
    export_merged,
    planned_pooled,
    require_pooled_memory,
)
from voxloom.pipeline.site_sums.stored import about_files, load_sums
from voxloom.spec import parse_sums_analysis

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    import distributed
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

    from voxloom.engine.events import OnEvent
    from voxloom.io.maps.files import MapFiles
    from voxloom.io.maps.sums import SumsFile
    from voxloom.models.group.about_sums import AboutSums
    from voxloom.spec import GroupAnalysis, MapsAnalysis, SumsAnalysis

#: Least number of maps that sums tell of, where nothing else is agreed on.
MIN_N = 10


@dataclass(frozen=True, kw_only=True)
class ExportedSums(RunResult):
    """How making a file of sums ended.

    Parameters
    ----------
    path : Path
        The file; written when `ok`.

    Others as in `RunResult`.
    """

    path: Path

    @property
    def sums(self) -> xr.Dataset:
        """What is in the file."""
        return load_sums(self.path)


def export_sums(
    maps: Paths,
    path: str | PathLike[str],
    *,
    mask: str | PathLike[str] | None = None,
    table: Paths = (),
    formula: str | None = None,
    missing: str = "raise",
    min_n: int | None = None,
    site: str = "",
    add_to: str | PathLike[str] | None = None,
    remove_from: str | PathLike[str] | None = None,
    store: str | PathLike[str] | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    memory_budget: int | str | None = None,
    client: distributed.Client | None = None,
    on_event: OnEvent | None = None,
) -> ExportedSums:
    """Make a file of sums of a group model, for `pool_sums`; it holds no map, and tells of no fewer than `min_n`.

    Parameters
    ----------
    maps : path or sequence of path
        As in `group_maps`; a single map will do to change sums that are there.
    path : path
        File to write, such as ``oslo.npz``.
    mask : path, optional
        The mask that all sites use. Not needed with `add_to` and `remove_from`, which know theirs.
    table, formula, missing : optional
        As in `group_maps`. All sites need the same columns, coded alike: ``C(site, levels=['kiel', 'oslo'])`` names
        levels that a site lacks, ``I(age - 40)`` centres alike.
    min_n : int, optional
        Least number of maps: of all, of each level of a factor, and of both at each voxel. 10 when not given, or as in
        the sums that are changed.
    site : str
        Name of the site; the file's when not given.
    add_to, remove_from : path, optional
        Sums that the maps are added to, or taken from.
    store : path, optional
        Where maps are kept while they are worked on; ``<path>.zarr`` when not given.
    cluster, workers, memory_budget : optional
        As in the analysis file.
    client : distributed.Client, optional
        Cluster to run on, in place of `cluster`.
    on_event : callable, optional
        Called with each event of the engine.

    Returns
    -------
    ExportedSums
        `ok`, `path`, `sums`, and what failed.

    Raises
    ------
    InputError
        As `group_maps`; a cell is too small; the maps are not those of the sums that are changed, or already there.
    """
    base = _base(add_to, remove_from)
    if base is None and mask is None:
        what = "is missing: sums of sites need the same voxels."
        raise InputError("mask", what, "Give the mask image that all sites use.")
    wanted = Export(
        path=Path(path),
        site=site or ("" if base else _stem(Path(path))),
        min_n=min_n or (MIN_N if base is None else base.attrs["min_n"]),
        base=base,
        sign=1 if remove_from is None else -1,
    )
    analysis = maps_analysis(
        several(maps),
        model={"formula": formula, "missing": missing, "contrasts": {"mean": "intercept"} if formula else {}},
        output=f"{path}-results",
        mask=mask,
        tables=several(table),
        store=store or f"{path}.zarr",
        cluster=cluster,
        workers=workers,
        memory_budget=memory_budget,
    )
    return ExportedSums(**vars(_export(analysis, wanted, client, on_event)), path=wanted.path)


def _base(add_to: str | PathLike[str] | None, remove_from: str | PathLike[str] | None) -> SumsFile | None:
    if add_to is not None and remove_from is not None:
        raise InputError("add_to", "is given beside remove_from.", "Do one after the other.")
    path = add_to or remove_from
    return None if path is None else open_sums(str(path))


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _export(
    analysis: MapsAnalysis, wanted: Export, client: distributed.Client | None, on_event: OnEvent | None
) -> RunResult:
    base = wanted.base
    maps = find_maps(analysis.maps.files, least=1)
    if base is not None:
        base.grid.require(maps.grid, str(maps.files[0]))
    test = sums_test(analysis, maps, wanted)
    with ExitStack() as stack:
        ws = SumsWorkspace(analysis, Objects(analysis.store.path), on_event, maps=maps, test=test, export=wanted)
        stack.enter_context(StoreLock(ws.objects, on_event=on_event))
        clean_partial(ws.objects)
        ws.study = create_study(ws.url, maps.grid, _mask(base, maps, analysis))
        shard = memory.map_voxels(len(ws.voxel))
        need = memory.gather_memory(len(maps.labels), shard, math.prod(maps.grid.shape), shard)
        require("maps", need, analysis.memory_budget)
        require("sums", sums.sums_task(len(ws.voxel), test, analysis.memory_budget), analysis.memory_budget)
        client = client or stack.enter_context(connected(analysis))
        return go(ws, client, (gather.STAGE, sums.STAGE))


def _mask(base: SumsFile | None, maps: MapFiles, analysis: MapsAnalysis) -> NDArray[np.bool_]:
    if base is None:
        return maps_mask(maps, analysis.maps.mask)
    return base.mask


def connected(analysis: GroupAnalysis) -> Any:
    """The cluster that an analysis asks for."""
    return connect(analysis.cluster, workers=analysis.workers, memory_budget=analysis.memory_budget)


def pool_sums(
    files: Paths,
    *,
    output: str | PathLike[str],
    contrasts: Mapping[str, Any] | None = None,
    min_n: int = 1,
    inference: Mapping[str, Any] | None = None,
    export: str | PathLike[str] | None = None,
    name: str = MODEL,
    store: str | PathLike[str] | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    memory_budget: int | str | None = None,
    client: distributed.Client | None = None,
    on_event: OnEvent | None = None,
) -> GroupMaps:
    """Fit the pooled group model of several sites from their sums: the least squares fit to all of their maps.

    Parameters
    ----------
    files : path or sequence of path
        From `export_sums` or `save_sums`.
    output : path
        Folder for the NIfTI files, a BIDS derivative.
    contrasts : mapping of str to str, optional
        Expressions of the design's columns by name; the mean when not given.
    min_n : int
        Least number of maps of a voxel that is fitted.
    inference : mapping, optional
        As ``inference`` in the analysis file; Bonferroni and FDR when not given. Sums cannot be permuted.
    export : path, optional
        File for the merged sums.
    name : str
        Of the model, for the names of the files.
    store : path, optional
        Where maps are kept while they are worked on; ``<output>.zarr`` when not given.
    cluster, workers, memory_budget : optional
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
        The sums are of other designs, codings, grids, voxels or versions, or a map is in several; a contrast names what
        the design has not.
    CorruptionError
        A file is damaged; the message names file and place.
    """
    pooled = pooled_analysis(
        files,
        output=output,
        model={
            "contrasts": dict(contrasts or {}),
            "min_n": min_n,
            "inference": {"method": ["bonferroni", "fdr"], **(inference or {})},
        },
        name=name,
        store=store,
        cluster=cluster,
        workers=workers,
        memory_budget=memory_budget,
    )
    return GroupMaps(**vars(run_pooled(pooled, export, client, on_event)), model=name)


class Pooled(NamedTuple):
    """What is wanted of sums of sites, and these.

    Attributes
    ----------
    analysis : SumsAnalysis
    files : tuple of SumsFile
    about : AboutSums
        Of all of them together.
    """

    analysis: SumsAnalysis
    files: tuple[SumsFile, ...]
    about: AboutSums


def pooled_analysis(
    files: Paths,
    *,
    output: str | PathLike[str],
    model: Mapping[str, Any],
    name: str = MODEL,
    store: str | PathLike[str] | None = None,
    **given: Any,
) -> Pooled:
    """Open sums, and check them and what is asked of them; errors as `pool_sums`.

    `model` has keys of `GroupModel`, `given` of `GroupAnalysis`.
    """
    paths = [Path(path) for path in several(files)]
    opened = tuple(open_sums(path) for path in paths)
    about = about_files(opened)
    raw = {
        "sums": {"files": [str(path) for path in paths], "checksums": [file.checksum for file in opened]},
        "group": {name: dict(model)},
        "output": {"dir": str(output)},
        "store": {"path": str(store or f"{output}.zarr")},
    }
    analysis = parse_sums_analysis(raw | given)
    planned_pooled(analysis, about)
    require_pooled_memory(analysis, opened, about)
    return Pooled(analysis, opened, about)


def run_pooled(
    pooled: Pooled,
    export: str | PathLike[str] | None = None,
    client: distributed.Client | None = None,
    on_event: OnEvent | None = None,
) -> RunResult:
    """Fit what is wanted of sums, or go on with it; write the merged sums where they are wanted."""
    analysis, files, about = pooled
    if export is not None:
        export_merged(files, about, Path(export))
    with ExitStack() as stack:
        ws = PooledWorkspace(analysis, Objects(analysis.store.path), on_event, files=files, about=about)
        stack.enter_context(StoreLock(ws.objects, on_event=on_event))
        clean_partial(ws.objects)
        ws.study = create_study(ws.url, files[0].grid, files[0].mask)
        client = client or stack.enter_context(connected(analysis))
        return go(ws, client, STAGES)
