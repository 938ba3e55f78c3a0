"""The pooled model of sites from their sums: merge -> group -> correct -> export, for `voxloom group --merge-sums`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from voxloom.engine.worker import check_cancelled
from voxloom.io.maps.sums import ARRAYS, open_sums, write_sums
from voxloom.io.store.objects import Objects
from voxloom.models.group.design import require_min_n
from voxloom.models.group.sums import fit_sums, merge_sums
from voxloom.pipeline.given_maps.line import EXPORT_STAGE
from voxloom.pipeline.planning.memory import FLOAT64, require
from voxloom.pipeline.site_sums.stored import dataset_of
from voxloom.pipeline.stages import correct, group
from voxloom.pipeline.stages.group import (
    GROUP_STATISTICS,
    GroupTest,
    answer,
    empty_statistics,
    group_tests,
    write_statistics,
)
from voxloom.pipeline.stages.group_contrasts import contrasts_of
from voxloom.pipeline.stored.maps import map_chunks
from voxloom.pipeline.workspace import GroupWorkspace, Stage
from voxloom.schema import TASK_OVERHEAD, shard_slices
from voxloom.spec.maps import MAPS, SumsAnalysis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import xarray as xr

    from voxloom.engine.runner import Output
    from voxloom.io.maps.sums import SumsFile
    from voxloom.models.group.about_sums import AboutSums


@dataclass(frozen=True, kw_only=True)
class PooledTest(GroupTest):
    """A group model of the maps in sums; `design` has the rows that X'X is made of, as many as columns.

    Parameters
    ----------
    sums : tuple of str
        Files.
    gram : list of list of float
        X'X.
    sites : dict of str to int
        Maps by site.

    Others as in `GroupTest`.
    """

    sums: tuple[str, ...]
    gram: list[list[float]]
    sites: dict[str, int]

    @property
    def function(self) -> Callable[..., Output]:
        """What fits it to a shard of voxels."""
        return fit_pooled_shard

    @property
    def written_design(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """X'X, since the rows of the design are not known."""
        gram = pd.DataFrame(self.gram, index=self.design.columns, columns=self.design.columns)
        about = {"Description": "X'X, the products of the columns of the design summed over maps", "Sites": self.sites}
        return gram.rename_axis(index="regressor"), super().written_design[1] | about


@dataclass
class PooledWorkspace(GroupWorkspace):
    """Sums of sites at work on one store.

    Parameters
    ----------
    files : tuple of SumsFile
    about : AboutSums
        Of all of them together.

    Others as in `GroupWorkspace`.
    """

    analysis: SumsAnalysis
    files: tuple[SumsFile, ...] = field(kw_only=True)
    about: AboutSums = field(kw_only=True)


@group_tests.register(PooledWorkspace)
def tests_of_sums(ws: PooledWorkspace) -> list[GroupTest]:
    """The group models of the sums."""
    return list(planned_pooled(ws.analysis, ws.about))


def planned_pooled(analysis: SumsAnalysis, about: AboutSums) -> list[PooledTest]:
    """The group models of an analysis of sums.

    Raises
    ------
    InputError
        A contrast names other columns than those of the sums.
    """
    values, vectors = np.linalg.eigh(np.asarray(about.gram))
    root = np.sqrt(np.maximum(values, 0))[:, np.newaxis] * vectors.T  # root' root = X'X: it spans the rows of X
    design = pd.DataFrame(root, columns=list(about.regressors))
    design.attrs = {"terms": dict(about.terms), "coding": dict(about.coding)}
    return [pooled_test(analysis, name, about, design) for name in analysis.group]


def pooled_test(analysis: SumsAnalysis, name: str, about: AboutSums, design: pd.DataFrame) -> PooledTest:
    """One group model of sums."""
    model = analysis.group[name]
    require_min_n(model.min_n, about.n)
    return PooledTest(
        name=name,
        results=analysis.group_digest(name),
        source=analysis.combine_digest,
        subjects=about.maps or tuple(f"{i:04d}" for i in range(about.n)),
        first_level=(MAPS,),
        rows=(0,),
        design=design,
        contrasts=contrasts_of(model, design, f"group.{name}"),
        sums=tuple(map(str, analysis.sums.files)),
        min_n=model.min_n,
        gram=about.gram,
        sites=dict(about.sites),
    )


def merged(files: Sequence[SumsFile], voxels: slice) -> xr.Dataset:
    """Sums of all files at a stretch of voxels; which maps they are of was compared before."""
    return merge_sums(*(dataset_of(file, voxels).assign_attrs(maps=[]) for file in files))


def fit_pooled_shard(*, store: str, test: PooledTest, start: int, stop: int, memory_budget: int) -> Output:
    """Fit one model to the merged sums of one shard of voxels, a block at a time."""
    del memory_budget  # a block is small by itself
    files, maps = [open_sums(path) for path in test.sums], empty_statistics(test, stop - start)
    read = 0
    for piece in shard_slices(stop - start, files[0].block):
        check_cancelled()
        sums = merged(files, slice(start + piece.start, start + piece.stop))
        read += len(files) * sum(sums[name].nbytes for name in ARRAYS)
        fit = fit_sums(sums)
        told = {name: fit[name].where(fit["n"] >= test.min_n) for name in ("beta", "sigma2")}
        answer(test, fit.assign(told), maps, 0, piece)
    return write_statistics(Objects(store), test, start, maps, read)


def pooled_memory(n_voxels: int, about: AboutSums, block: int, n_contrasts: int) -> int:
    """Statistics of a shard; sums of a block as they are read, added and solved, with the eigenvectors of X'X."""
    square = about.width**2
    sums = 2 * (square + about.width + 1) + 1
    statistics = len(GROUP_STATISTICS) * n_contrasts * map_chunks(n_voxels)[1]
    return TASK_OVERHEAD + FLOAT64 * (statistics + block * 4 * (sums + square))


def require_pooled_memory(analysis: SumsAnalysis, files: Sequence[SumsFile], about: AboutSums) -> None:
    """Raise `MemoryBudgetError` for models that do not fit the budget."""
    n_voxels = len(files[0].voxel)
    for name, model in analysis.group.items():
        need = pooled_memory(n_voxels, about, files[0].block, len(model.contrasts))
        require(f"group.{name}", need, analysis.memory_budget)


def export_merged(files: Sequence[SumsFile], about: AboutSums, path: Path) -> None:
    """Write the sums of all files as one, a block at a time."""
    blocks = ({name: merged(files, block)[name].to_numpy() for name in ARRAYS} for block in files[0].blocks())
    write_sums(path, about.to_attrs(), files[0].grid, files[0].voxel, blocks)


STAGES: tuple[Stage[PooledWorkspace], ...] = (group.STAGE, correct.STAGE, EXPORT_STAGE)
