"""Sums of given maps for `voxloom group --export-sums`: a shard of voxels a task, then all of them as one file.

With sums that are there, the maps are added to them or taken away: nobody else's maps are needed for that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.maps.sums import block_voxels, open_sums, write_sums
from voxloom.io.store.arrays import create_array
from voxloom.io.store.objects import Objects
from voxloom.io.store.regions import read_region
from voxloom.io.study.open import describe_results
from voxloom.models.group.about_sums import AboutSums
from voxloom.models.group.sums import DIMS, group_sums, merge_sums, subtract_sums
from voxloom.pipeline.given_maps import gather
from voxloom.pipeline.given_maps.analysis import MODEL
from voxloom.pipeline.given_maps.design import rows_and_design
from voxloom.pipeline.given_maps.gather import MapsWorkspace
from voxloom.pipeline.planning.memory import sums_memory, sums_piece
from voxloom.pipeline.site_sums.stored import about_file, dataset_of
from voxloom.pipeline.stages.consolidate import NAME as GATHERED
from voxloom.pipeline.stages.group import GroupTest, inputs_of, load_effects, places_of
from voxloom.pipeline.stored.maps import map_chunks, write_block
from voxloom.pipeline.workspace import Stage, content_digest
from voxloom.schema import shard_slices
from voxloom.spec import digest
from voxloom.spec.maps import MAPS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

    from voxloom.io.maps.files import MapFiles
    from voxloom.io.maps.sums import SumsFile
    from voxloom.spec import MapsAnalysis

NAME = "sums"


@dataclass(frozen=True, kw_only=True)
class Export:
    """What sums are wanted.

    Parameters
    ----------
    path : Path
        File to write.
    site : str
    min_n : int
    base : SumsFile, optional
        Sums that the maps are added to, or taken from.
    sign : int
        1 or -1.
    """

    path: Path
    site: str = ""
    min_n: int
    base: SumsFile | None = None
    sign: int = 1


@dataclass
class SumsWorkspace(MapsWorkspace):
    """Given maps of which sums are wanted.

    Parameters
    ----------
    test : GroupTest
        Their design.
    export : Export

    Others as in `MapsWorkspace`.
    """

    test: GroupTest = field(kw_only=True)
    export: Export = field(kw_only=True)


def sums_test(analysis: MapsAnalysis, maps: MapFiles, export: Export) -> GroupTest:
    """The design of the maps, and a name for their sums.

    Raises
    ------
    InputError
        As `rows_and_design`; the design is not that of the sums it is to join; small cells.
    """
    _, design = rows_and_design(analysis, MODEL, maps)
    about = about_maps(design, export, ())
    base = None
    if export.base is not None:
        base = export.base.checksum
        about = about_file(export.base).with_others(about, export.sign, str(export.base.path))
    about.require_told()
    kept = ("formula", "covariates", "table", "missing")
    model = {key: analysis.group[MODEL].model_dump(mode="json")[key] for key in kept}
    named = digest([NAME, analysis.combine_digest, model, base, export.sign])
    return GroupTest(
        name=MODEL,
        results=named,
        source=analysis.combine_digest,
        subjects=tuple(design.index),
        places=places_of(design, maps.labels),
        first_level=(MAPS,),
        rows=(0,),
        design=design,
        contrasts={},
    )


def about_maps(design: pd.DataFrame, export: Export, digests: tuple[str, ...]) -> AboutSums:
    """What the sums of these maps alone are."""
    site = export.site
    if not site and export.base is not None and len(own := export.base.attrs["sites"]) == 1:
        site = next(iter(own))
    return AboutSums.of(design, export.min_n, site, digests)


def tasks(ws: SumsWorkspace) -> list[Task]:
    """One task per shard of voxels, once the maps lie together."""
    if not ws.complete(gather.tasks(ws)):
        return []
    _, shard = map_chunks(len(ws.voxel))
    base, min_n = ws.export.base, ws.export.min_n
    inputs = digest([inputs_of(ws, ws.test), min_n, None if base is None else base.checksum, ws.export.sign])
    return [
        Task(
            stage=NAME,
            key=f"{ws.test.results}/{voxels.start:09d}",
            function=sum_shard,
            kwargs={
                "store": ws.url,
                "test": ws.test,
                "min_n": min_n,
                "base": None if base is None else str(base.path),
                "sign": ws.export.sign,
                "start": voxels.start,
                "stop": voxels.stop,
                "memory_budget": ws.analysis.memory_budget,
            },
            inputs=inputs,
        )
        for voxels in shard_slices(len(ws.voxel), shard)
    ]


def prepare(ws: SumsWorkspace) -> None:
    """Room for the sums."""
    describe_results(ws.objects, ws.test.results, level="sums", coords={"part": ["high", "low"]})
    make_sums(ws.objects, ws.test, len(ws.voxel))


def make_sums(objects: Objects, test: GroupTest, n_voxels: int) -> None:
    """Create the arrays of sums, a block of voxels a chunk."""
    width = test.design.shape[1]
    for name, dims in DIMS.items():
        lengths = [2 if dim == "part" else width for dim in dims]
        create_array(
            objects,
            f"{test.path}/{name}",
            dims=(*dims, "voxel"),
            shape=(*lengths, n_voxels),
            chunks=(*lengths, min(block_voxels(width), n_voxels)),
        )


def sum_shard(
    *,
    store: str,
    test: GroupTest,
    min_n: int,
    base: str | None,
    sign: int,
    start: int,
    stop: int,
    memory_budget: int,
) -> Output:
    """Sum one shard of voxels, a block at a time."""
    objects, file = Objects(store), None if base is None else open_sums(base)
    size = block_voxels(test.design.shape[1])
    step = sums_piece(memory_budget, *test.design.shape, size)
    digests, read, written = list[str](), 0, 0
    for piece in shard_slices(stop - start, step):
        effects = load_effects(objects, test, 0, slice(start + piece.start, start + piece.stop))
        read += effects["effect"].nbytes
        for block in shard_slices(piece.stop - piece.start, size):
            check_cancelled()
            first = start + piece.start + block.start
            own = group_sums(effects.isel(voxel=block), test.design, min_n=min_n if file is None else 1)
            sums = own if file is None else joined(file, own, sign, slice(first, first + own.sizes["voxel"]))
            arrays = {name: sums[name].transpose(*dims, "voxel").to_numpy() for name, dims in DIMS.items()}
            for name, values in arrays.items():
                write_block(objects, f"{test.path}/{name}", (*(0 for _ in DIMS[name]), first), values)
            digests.append(content_digest(arrays.values()))
            written += sum(values.nbytes for values in arrays.values())
    return Output(
        digest=digest(digests),
        bytes_read=read,
        bytes_written=written,
        wrote=[f"{test.path}/{name}" for name in DIMS],
    )


def sums_task(n_voxels: int, test: GroupTest, budget: int) -> int:
    """Bytes that a task of sums holds."""
    n, width = test.design.shape
    block = block_voxels(width)
    return sums_memory(n, min(n_voxels, sums_piece(budget, n, width, block)), width, block)


def joined(file: SumsFile, own: xr.Dataset, sign: int, voxels: slice) -> xr.Dataset:
    """Sums of a file with those of maps added or taken away; which maps they are was compared before."""
    base = dataset_of(file, voxels).assign_attrs(maps=[])
    own = own.assign_attrs(min_n=base.attrs["min_n"])
    return merge_sums(base, own) if sign > 0 else subtract_sums(base, own)


def finish(ws: SumsWorkspace) -> None:
    """Write all sums as one file, once they are complete; it says which maps they are of by digests of their values."""
    if not ws.complete(tasks(ws)) or not ws.done(NAME):
        return
    assert ws.study is not None, "the study is made before the first stage"
    found = {label: one for record in ws.done(GATHERED).values() for label, one in record.details["digests"].items()}
    about = about_maps(ws.test.design, ws.export, tuple(found[label] for label in ws.test.subjects))
    if ws.export.base is not None:
        about = about_file(ws.export.base).with_others(about, ws.export.sign, str(ws.export.base.path))
    about.require_told()
    blocks = shard_slices(len(ws.voxel), block_voxels(about.width))
    write_sums(ws.export.path, about.to_attrs(), ws.study.grid, ws.voxel, (stored(ws, block) for block in blocks))


def stored(ws: SumsWorkspace, block: slice) -> dict[str, NDArray[np.float64]]:
    """Sums of one block of voxels."""
    return {
        name: read_region(ws.objects, f"{ws.test.path}/{name}", [*(slice(None) for _ in dims), block])
        for name, dims in DIMS.items()
    }


STAGE = Stage(NAME, tasks, prepare, finish)
