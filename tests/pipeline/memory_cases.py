"""One task of every stage over made-up data of a given size, and what the plan says it holds."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.engine.ledger import Ledger
from voxloom.io.bids.run_table import RunFile
from voxloom.io.nifti.volumes import read_header
from voxloom.io.nifti.write import make_image, single_file_header, write_nifti, write_volumes
from voxloom.io.store.arrays import create_array
from voxloom.io.store.objects import Objects
from voxloom.io.study.open import create_study, open_study
from voxloom.kernels.first_level.noise_models import NOISE_MODELS
from voxloom.kernels.group.influence import Totals
from voxloom.kernels.noise.ar import from_partial
from voxloom.models.group.estimators import ESTIMATORS
from voxloom.models.group.sums import group_sums
from voxloom.pipeline.given_maps import gather
from voxloom.pipeline.inference import corrections, nulls, rounds, whole_maps
from voxloom.pipeline.planning import group_sizes, harmonise_sizes, inference_sizes, memory
from voxloom.pipeline.site_sums import export as sums
from voxloom.pipeline.site_sums import pooled
from voxloom.pipeline.site_sums.api import pooled_analysis
from voxloom.pipeline.site_sums.stored import save_sums
from voxloom.pipeline.stages import (
    combine,
    consolidate,
    correct,
    design,
    fit,
    group,
    harmonise,
    infer,
    influence,
    ingest,
    noise,
    smooth,
    spatial,
    write_subject,
)
from voxloom.pipeline.stages.group_contrasts import contrasts_of
from voxloom.pipeline.stages.harmony import harmonised
from voxloom.pipeline.stored.fit import make_room
from voxloom.pipeline.stored.maps import STATISTICS, make_map_array, make_maps, write_block
from voxloom.pipeline.stored.noise import make_noise_room, write_noise
from voxloom.schema import MAP_SHARD_VOXELS, Grid, MiB, bold_chunks, shard_slices, voxel_coords
from voxloom.spec import Contrast, FirstLevel, GroupModel, Inference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

T_R = 2.0
#: A test whose statistics are of whole maps.
WHOLE = Inference(n_perm=200, statistics=["max_stat", "tfce", "cluster_size"])
#: Whole maps that are made: as many as are made at once.
FEW = 32
PROBE = Path(__file__).with_name("memory_probe.py")


class Case(NamedTuple):
    """A task, ready to run, and the bytes it is said to hold at most."""

    function: Callable[..., Any]
    kwargs: dict[str, Any]
    predicted: int


def measured(tiny: Case, case: Case, folder: Path) -> int:
    """Peak bytes of a task above the base of a fresh process that has run a tiny one like it."""
    paths = []
    for name, found in (("tiny", tiny), ("case", case)):
        paths.append(folder / f"{name}.pickle")
        paths[-1].write_bytes(pickle.dumps((found.function, found.kwargs)))
    # what dask's nanny sets for the workers
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, PROBE, *paths], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def study(folder: Path, n_voxels: int) -> tuple[Objects, Grid]:
    """A store whose voxels are about half of its volume."""
    side = math.ceil((2 * n_voxels) ** (1 / 3))
    grid = Grid.of((side, side, side), np.diag([2.0, 2.0, 2.0, 1.0]))
    mask = np.zeros(side**3, bool)
    mask[side**3 // 4 :][:n_voxels] = True
    create_study(folder / "study.zarr", grid, mask.reshape(grid.shape))
    return Objects(folder / "study.zarr"), grid


def ingest_case(
    folder: Path, n_voxels: int, n_volumes: int, *, fwhm: float | None = None, budget: int = 512 * MiB
) -> Case:
    """The ingest of a run of int16."""
    objects, grid = study(folder, n_voxels)
    rng = np.random.default_rng(0)
    image = make_image(np.zeros(grid.shape, np.int16), grid, t_r=T_R)
    image.header.set_data_shape((*grid.shape, n_volumes))
    volumes = (rng.integers(900, 1100, grid.shape, np.int16) for _ in range(n_volumes))
    bold = write_volumes(folder / "bold.nii", single_file_header(image.header), volumes)
    mask = write_nifti(open_study(objects.url).mask, folder / "mask.nii", grid)
    run = RunFile(id="sub-01", entities={"sub": "01"}, bold=bold, mask=mask, t_r=T_R)
    kwargs = {"store": objects.url, "run_id": "sub-01", "run": run, "t_r": None, "smoothing_fwhm": fwhm}
    kwargs |= {"max_error_sd": None, "rule": "union", "sources": []}
    predicted = memory.ingest_memory(read_header(bold), n_voxels, fwhm, budget, streams=objects.streams)
    return Case(ingest.ingest_run, kwargs | {"memory_budget": budget}, predicted)


def spilled_case(folder: Path, n_voxels: int, n_volumes: int) -> Case:
    """An ingest that goes through a file."""
    return ingest_case(folder, n_voxels, n_volumes, budget=128 * MiB)


def smoothed_case(folder: Path, n_voxels: int, n_volumes: int) -> Case:
    """An ingest that smooths."""
    return ingest_case(folder, n_voxels, n_volumes, fwhm=6.0)


def fit_case(
    folder: Path, n_voxels: int, n_volumes: int, n_regressors: int, noise_model: str = "ar1", n_left_out: int = 0
) -> Case:
    """The fit of the first shard of such a run, single volumes left out."""
    case = ingest_case(folder, n_voxels, n_volumes)
    case.function(**case.kwargs)
    objects = Objects(folder / "study.zarr")
    found = random_run(n_volumes, n_regressors, n_left_out)
    shards = make_room(objects, "f/sub-01", found, n_voxels, 2, FirstLevel(noise_model=noise_model))
    kwargs = {"run_id": "sub-01", "fit_path": "f/sub-01", "start": shards[0].start, "stop": shards[0].stop}
    size = memory.FitSize(n_voxels, n_volumes, 2, False, len(found.kept), n_regressors, noise_model)
    return Case(fit.fit_shard, {"store": objects.url, "signal_scaling": None, **kwargs}, memory.fit_memory(size))


def noise_case(folder: Path, n_voxels: int, n_volumes: int, n_regressors: int, noise_model: str) -> Case:
    """The noise of the first shard of such a run."""
    case = fit_case(folder, n_voxels, n_volumes, n_regressors, noise_model)
    rule, parameters = bold_chunks(n_voxels, n_volumes, 2), NOISE_MODELS[noise_model].parameters
    make_noise_room(Objects(folder / "study.zarr"), "n/sub-01", parameters, n_voxels, rule)
    size = memory.FitSize(n_voxels, n_volumes, 2, False, n_volumes, n_regressors, noise_model)
    return Case(noise.fit_noise, case.kwargs | {"noise_path": "n/sub-01"}, memory.noise_memory(size))


def smooth_case(folder: Path, n_voxels: int, noise_model: str) -> Case:
    """The smoothing of the noise of a run."""
    objects, grid = study(folder, n_voxels)
    parameters, everywhere = NOISE_MODELS[noise_model].parameters, slice(0, n_voxels)
    make_noise_room(objects, "n/sub-01", parameters, n_voxels, bold_chunks(n_voxels, 100, 2))
    values = np.random.default_rng(8).uniform(0.1, 0.3, (len(parameters), n_voxels))
    write_noise(objects, "n/sub-01", parameters, values, everywhere)
    kwargs = {"store": objects.url, "noise_path": "n/sub-01", "smooth_path": "s/sub-01", "noise_model": noise_model}
    predicted = memory.smooth_memory(n_voxels, math.prod(grid.shape), noise_model)
    return Case(smooth.smooth_run, kwargs | {"fwhm": 6.0}, predicted)


def random_run(n_volumes: int, n_regressors: int, n_left_out: int = 0) -> design.RunDesign:
    """A random design of a run, of which every other volume is left out up to so many."""
    kept = np.setdiff1d(np.arange(n_volumes), 1 + 2 * np.arange(n_left_out))
    return design.RunDesign(random_design(n_volumes, n_regressors).iloc[kept], kept, n_volumes, 0, n_left_out)


def random_design(n_volumes: int, n_regressors: int) -> pd.DataFrame:
    """Random columns a, b, c2, c3, ... and a constant."""
    X = np.random.default_rng(1).standard_normal((n_volumes, n_regressors))
    X[:, -1] = 1.0
    names = ["a", "b", *(f"c{i}" for i in range(2, n_regressors - 1)), "constant"]
    return pd.DataFrame(X, columns=names, index=pd.Index(T_R * np.arange(n_volumes), name="time"))


def combine_case(
    folder: Path,
    n_voxels: int,
    n_regressors: int,
    n_runs: int,
    contrasts: dict[str, Any],
    noise_model: str = "ar1",
    n_volumes: int = 100,
    n_left_out: int = 0,
) -> Case:
    """The maps of a subject with several fitted runs."""
    objects, _ = study(folder, n_voxels)
    rng, paths = np.random.default_rng(2), {}
    found, parameters = random_run(n_volumes, n_regressors, n_left_out), NOISE_MODELS[noise_model].parameters
    for run in range(n_runs):
        paths[f"run-{run}"] = path = f"f/run-{run}"
        for shard in make_room(objects, path, found, n_voxels, 2, FirstLevel(noise_model=noise_model)):
            n = shard.stop - shard.start
            noise = random_noise(rng, n, len(parameters))
            write_block(objects, f"fits/{path}/beta", (0, shard.start), rng.standard_normal((n_regressors, n)))
            for name, values in zip(("sigma2", *parameters), (rng.chisquare(50, n), *noise)):
                write_block(objects, f"fits/{path}/{name}", (shard.start,), values)
    wanted = {name: Contrast.model_validate(expression) for name, expression in contrasts.items()}
    levels = {"subjects/sub-01": list(paths)}
    kwargs = {"results": "r", "levels": levels, "fits": paths, "contrasts": wanted, "n_voxels": n_voxels}
    shapes = [(len(found.kept), n_volumes, n_regressors)] * n_runs
    predicted = memory.combine_memory(n_voxels, shapes, wanted.values(), noise_model)
    return Case(combine.combine_subject, {"store": objects.url, "precision_weighted": False, **kwargs}, predicted)


def random_noise(rng: np.random.Generator, n_voxels: int, order: int) -> NDArray[np.float64]:
    """Phi (order, n_voxels) as 100 volumes tell it, where autocorrelation is 0 to 0.8."""
    partial = rng.normal(0, 0.12, (n_voxels, order))
    partial[:, 0] += rng.uniform(0, 1.1, n_voxels)
    return from_partial(np.tanh(partial)).T


def consolidate_case(folder: Path, n_voxels: int, n_subjects: int) -> Case:
    """The first block of the maps of some subjects."""
    objects, _ = study(folder, n_voxels)
    rng, names = np.random.default_rng(3), [f"sub-{i:03d}" for i in range(n_subjects)]
    for name in names:
        make_maps(objects, f"results/r/subjects/{name}", ["a"], n_voxels)
        for statistic in STATISTICS:
            values = rng.standard_normal((1, n_voxels))
            write_block(objects, f"results/r/subjects/{name}/{statistic}", (0, 0), values)
    leading = {"subject": n_subjects, "contrast": 1}
    for statistic in consolidate.CONSOLIDATED:
        make_map_array(objects, f"results/r/{statistic}", leading, n_voxels, chunk=(min(128, n_subjects), 1))
    kwargs = {"results": "r", "subjects": names[:128], "n_contrasts": 1, "first": 0, "start": 0}
    predicted = memory.consolidate_memory(n_voxels, n_subjects)
    return Case(consolidate.consolidate, {"store": objects.url, "stop": min(n_voxels, 65_536), **kwargs}, predicted)


def group_test(objects: Objects, n_voxels: int, n_subjects: int, n_columns: int) -> group.GroupTest:
    """A group model over made-up consolidated effects."""
    rng = np.random.default_rng(4)
    make_map_array(
        objects, "results/r/effect", {"subject": n_subjects, "contrast": 1}, n_voxels, chunk=(min(128, n_subjects), 1)
    )
    for block in shard_slices(n_subjects, 128):
        values = rng.standard_normal((block.stop - block.start, 1, n_voxels))
        write_block(objects, "results/r/effect", (block.start, 0, 0), values)
    subjects = [f"sub-{i:03d}" for i in range(n_subjects)]
    columns = ["intercept", *(f"x{i}" for i in range(1, n_columns))]
    matrix = pd.DataFrame(rng.standard_normal((n_subjects, n_columns)), columns=columns, index=subjects)
    matrix["intercept"] = 1.0
    contrasts = {"mean": "intercept"} | {name: name for name in columns[1:]}
    return group.GroupTest(
        name="g",
        results="g",
        source="r",
        subjects=tuple(subjects),
        first_level=("a",),
        rows=(0,),
        design=matrix,
        contrasts=contrasts_of(GroupModel(covariates=columns[1:], contrasts=contrasts), matrix, "group.g"),
    )


def make_group_arrays(objects: Objects, test: group.GroupTest, n_voxels: int, values: bool = False) -> None:
    leading = {"contrast": 1, "group_contrast": len(test.contrasts)}
    for name in (*group.GROUP_STATISTICS, *(corrections.p_maps(Inference()) if values else ())):
        make_map_array(objects, f"{test.path}/{name}", leading, n_voxels)
        if values:
            maps = np.random.default_rng(5).uniform(0.1, 1, (1, len(test.contrasts), n_voxels))
            write_block(objects, f"{test.path}/{name}", (0, 0, 0), maps)


def group_case(folder: Path, n_voxels: int, n_subjects: int, n_columns: int, budget: int = 512 * MiB) -> Case:
    """A group model on its first shard of voxels."""
    objects, _ = study(folder, n_voxels)
    test = group_test(objects, n_voxels, n_subjects, n_columns)
    make_group_arrays(objects, test, n_voxels)
    kwargs = {"store": objects.url, "test": test, "start": 0, "stop": min(n_voxels, 65_536), "memory_budget": budget}
    return Case(group.fit_group_shard, kwargs, group_sizes.group_task(n_voxels, test, budget))


def tight_group_case(folder: Path, n_voxels: int, n_subjects: int, n_columns: int) -> Case:
    """A group model that is fitted in pieces."""
    return group_case(folder, n_voxels, n_subjects, n_columns, budget=128 * MiB)


def estimator_case(folder: Path, n_voxels: int, n_subjects: int, n_columns: int, estimator: str) -> Case:
    """A group model by another estimator on its first shard of voxels; groups of four."""
    objects, _ = study(folder, n_voxels)
    how = ESTIMATORS[estimator]
    test = replace(group_test(objects, n_voxels, n_subjects, n_columns), estimator=estimator)
    if how.groups != "none":
        labels = tuple(i // 4 if estimator != "unequal-variances" else i % 2 for i in range(n_subjects))
        test = replace(test, groups="site", labels={"site": labels})
    if how.needs_variance:
        make_map_array(
            objects,
            "results/r/variance",
            {"subject": n_subjects, "contrast": 1},
            n_voxels,
            chunk=(min(128, n_subjects), 1),
        )
        for block in shard_slices(n_subjects, 128):
            values = np.random.default_rng(10).gamma(3, 0.3, (block.stop - block.start, 1, n_voxels))
            write_block(objects, "results/r/variance", (block.start, 0, 0), values)
    make_group_arrays(objects, test, n_voxels)
    kwargs = {"store": objects.url, "test": test, "start": 0, "stop": min(n_voxels, 65_536), "memory_budget": 512 * MiB}
    return Case(group.fit_group_shard, kwargs, group_sizes.group_task(n_voxels, test, 512 * MiB))


def influence_case(folder: Path, n_voxels: int, n_subjects: int, n_columns: int) -> Case:
    """Influence of every subject on a group model."""
    objects, _ = study(folder, n_voxels)
    test = group_test(objects, n_voxels, n_subjects, n_columns)
    shape = (1, 1, len(test.contrasts), len(Totals._fields), n_subjects)
    dims = ("shard", "contrast", "group_contrast", "total", "subject")
    create_array(objects, f"{test.path}/{group.TOTALS}", dims=dims, shape=shape, chunks=shape)
    kwargs = {"store": objects.url, "test": test, "keep": False, "place": 0, "start": 0, "stop": min(n_voxels, 65_536)}
    return Case(influence.influence_shard, kwargs, influence.influence_task(n_voxels, test, keep=False))


def harmonised_test(folder: Path, n_voxels: int, n_subjects: int, n_sites: int) -> tuple[Any, group.GroupTest]:
    """A group model whose sites are made alike, and room for what they are."""
    objects, _ = study(folder, n_voxels)
    test = group_test(objects, n_voxels, n_subjects, 1)
    test = replace(test, labels={"site": tuple(i % n_sites for i in range(n_subjects))})
    model = GroupModel(harmonise="combat")
    test = harmonised(test, model, pd.DataFrame(index=test.design.index))
    assert test.harmony is not None
    site, path = {"contrast": 1, "site": n_sites}, harmonise.path_of(test)
    leading = harmonise.leading_of(test, test.harmony) | dict.fromkeys(harmonise.SHRUNKEN, site)
    for name, dims in leading.items():
        make_map_array(objects, f"{path}/{name}", dims, n_voxels)
    subjects = {"subject": n_subjects, "contrast": 1}
    make_map_array(objects, f"{path}/effect", subjects, n_voxels, chunk=(min(128, n_subjects), 1))
    shape = (1, 1, harmonise.MOMENTS, n_sites)
    dims = ("contrast", "shard", "moment", "site")
    create_array(objects, f"{path}/moments", dims=dims, shape=shape, chunks=shape)
    return objects, test


def combat_case(folder: Path, n_voxels: int, n_subjects: int, n_sites: int) -> Case:
    """What maps tell of their sites, over a shard of voxels."""
    objects, test = harmonised_test(folder, n_voxels, n_subjects, n_sites)
    where = {"contrast": 0, "place": 0, "start": 0, "stop": min(n_voxels, 65_536)}
    kwargs = {"store": objects.url, "test": test, "memory_budget": 512 * MiB}
    return Case(harmonise.describe_shard, kwargs | where, harmonise_sizes.combat_task(n_voxels, test, 512 * MiB))


def harmonise_case(folder: Path, n_voxels: int, n_subjects: int, n_sites: int) -> Case:
    """Harmonised maps of a shard of voxels."""
    first = combat_case(folder, n_voxels, n_subjects, n_sites)
    first.function(**first.kwargs)
    kwargs = {key: value for key, value in first.kwargs.items() if key != "memory_budget"}
    predicted = harmonise_sizes.harmonise_task(n_voxels, first.kwargs["test"])
    return Case(harmonise.harmonise_shard, kwargs, predicted)


def partial_case(folder: Path, n_voxels: int, n_subjects: int, n_columns: int, n_perm: int) -> Case:
    """The same of maps with holes, each voxel's its own."""
    case, rng = infer_case(folder, n_voxels, n_subjects, n_columns, n_perm), np.random.default_rng(11)
    for block in shard_slices(n_subjects, 128):
        values = rng.standard_normal((block.stop - block.start, 1, n_voxels))
        values[rng.random(values.shape) < 0.03] = np.nan
        write_block(Objects(case.kwargs["store"]), "results/r/effect", (block.start, 0, 0), values)
    return case


def infer_case(
    folder: Path, n_voxels: int, n_subjects: int, n_columns: int, n_perm: int, groups: int = 1, budget: int = 512 * MiB
) -> Case:
    """The first batch of permutations over the first stretch of voxels, with so many variance groups."""
    objects, _ = study(folder, n_voxels)
    test, wanted = group_test(objects, n_voxels, n_subjects, n_columns), Inference(n_perm=n_perm)
    if groups > 1:
        test = replace(test, labels={"side": tuple(i % groups for i in range(n_subjects))})
        wanted = Inference(n_perm=n_perm, variance_groups="side")
    stretches = infer.voxel_stretches(n_voxels, test, wanted, budget)
    batch = min(nulls.BATCH, n_perm)
    null = nulls.nulls_of(test, wanted, 0)[-1]
    infer.make_null(objects, null, stretches, on_replace=list)
    kwargs = {"path": null.path, "place": 0, "share": 1.0, "test": test, "row": 0, "column": null.column, "stretch": 0}
    kwargs["batch"] = (0, batch)
    voxels = (stretches[0].start, stretches[0].stop)
    kwargs |= {"store": objects.url, "voxels": voxels, "inference": wanted, "seed": 0}
    return Case(infer.null_batch, kwargs, inference_sizes.infer_task(n_voxels, test, wanted, budget))


def correct_case(folder: Path, n_voxels: int) -> Case:
    """Every correction of one map."""
    objects, _ = study(folder, n_voxels)
    test, wanted = group_test(objects, 64, 12, 1), Inference(n_perm=2_000)
    make_group_arrays(objects, test, n_voxels, values=True)
    rng, null = np.random.default_rng(6), nulls.nulls_of(test, wanted, 0)[0]
    n_perm, path = null.setup.n_perm, f"{null.path}/max_stat"
    infer.make_null(objects, null, [slice(0, n_voxels)], on_replace=list)
    write_block(objects, path, (0, 0), rng.uniform(3, 6, (1, n_perm)))
    write_block(objects, f"{null.path}/stat", (0,), rng.standard_normal(n_voxels))
    write_block(objects, "results/g/n", (0, 0, 0), np.full((1, 1, n_voxels), float(len(test.subjects))))
    for batch in range(len(null.batches)):
        write_block(objects, f"{null.path}/reached", (batch, 0), rng.integers(0, 500, (1, n_voxels)))
    create_array(
        objects,
        "results/g/null_max_stat",
        dims=("contrast", "group_contrast", "permutation"),
        shape=(1, 1, n_perm),
        chunks=(1, 1, n_perm),
    )
    kwargs = {"store": objects.url, "test": test, "row": 0, "column": 0, "inference": wanted, "seed": 0}
    return Case(correct.correct, kwargs, memory.correct_memory(n_voxels, wanted.method))


def spatial_case(folder: Path, n_voxels: int, n_subjects: int, stored_rows: int | None = None) -> Case:
    """The first maps of a batch, made here or read from the store, that many at a time."""
    objects, _ = study(folder, n_voxels)
    test, wanted = group_test(objects, n_voxels, n_subjects, 1), WHOLE
    null = nulls.nulls_of(test, wanted, 0)[0]
    ws: Any = SimpleNamespace(objects=objects, ledger=Ledger(objects), voxel=np.arange(n_voxels))
    infer.make_null(objects, null, [slice(0, n_voxels)], on_replace=list)
    rng = np.random.default_rng(8)
    write_block(objects, f"{null.path}/stat", (0,), rng.standard_normal(n_voxels))
    spatial.make_spatial(ws, null, wanted)
    kwargs = {"store": objects.url, "null_path": null.path, "test": test, "row": 0, "column": 0, "inference": wanted}
    if stored_rows is not None:
        maps, path = rng.standard_normal((FEW, n_voxels)), nulls.maps_path(null.path, 0)
        rounds.make_maps(objects, path, maps.shape, MAP_SHARD_VOXELS, on_replace=list)
        write_block(objects, path, (0, 0), maps)
    kwargs |= {"path": nulls.spatial_path(null, wanted), "batch": (0, FEW), "place": 0, "seed": 0}
    need = memory.spatial_memory(n_voxels, n_subjects)
    if stored_rows is not None:
        need = memory.stored_spatial_memory(n_voxels, stored_rows)
    return Case(whole_maps.spatial_batch, kwargs | {"stored_rows": stored_rows}, need)


def stored_spatial_case(folder: Path, n_voxels: int, n_rows: int) -> Case:
    """A batch of whole maps from the store."""
    return spatial_case(folder, n_voxels, 12, n_rows)


def rearrange_case(folder: Path, n_voxels: int, n_subjects: int) -> Case:
    """Maps of a block of batches over a stretch of voxels."""
    objects, _ = study(folder, n_voxels)
    test, wanted = group_test(objects, n_voxels, n_subjects, 1), WHOLE
    null = nulls.nulls_of(test, wanted, 0)[0]
    batches = [(batch.start, batch.stop) for batch in nulls.spatial_batches(null.setup.n_perm)]
    for start, stop in batches:
        path = nulls.maps_path(null.path, start)
        rounds.make_maps(objects, path, (stop - start, n_voxels), MAP_SHARD_VOXELS, on_replace=list)
    kwargs = {"store": objects.url, "null_path": null.path, "test": test, "row": 0, "column": 0, "inference": wanted}
    kwargs |= {"voxels": (0, n_voxels), "batches": batches, "seed": 0}
    return Case(whole_maps.write_maps, kwargs, memory.rearrange_memory(n_subjects, n_voxels))


def gather_case(folder: Path, n_voxels: int, n_maps: int, kinds: Sequence[str] = ("effect",)) -> Case:
    """A block of given maps, maybe with their variances."""
    objects, grid = study(folder, n_voxels)
    rng, chunk, files = np.random.default_rng(9), (min(128, n_maps), 1), {}
    for kind in kinds:
        paths = [folder / f"{kind}-{i}.nii" for i in range(n_maps)]
        files[kind] = [write_nifti(rng.uniform(1, 2, grid.shape), path, grid) for path in paths]
        make_map_array(objects, f"results/m/{kind}", {"map": n_maps, "contrast": 1}, n_voxels, chunk=chunk)
    kwargs = {"store": objects.url, "path": "results/m", "files": files, "first": 0}
    kwargs |= {"labels": [f"{i}" for i in range(n_maps)], "memory_budget": 512 * MiB}
    shard, n_volume = memory.map_voxels(n_voxels), math.prod(grid.shape)
    piece = min(n_voxels, memory.gather_piece(512 * MiB, n_voxels, n_maps, n_volume, len(kinds)))
    return Case(gather.gather, kwargs, memory.gather_memory(n_maps, piece, n_volume, shard, len(kinds)))


def sums_case(folder: Path, n_voxels: int, n_maps: int, n_columns: int, budget: int = 512 * MiB) -> Case:
    """Sums of given maps over their first shard of voxels."""
    objects, _ = study(folder, n_voxels)
    test = group_test(objects, n_voxels, n_maps, n_columns)
    sums.make_sums(objects, test, n_voxels)
    kwargs = {"store": objects.url, "test": test, "start": 0, "stop": min(n_voxels, 65_536), "memory_budget": budget}
    kwargs |= {"min_n": 1, "base": None, "sign": 1}
    return Case(sums.sum_shard, kwargs, sums.sums_task(n_voxels, test, budget))


def pooled_case(folder: Path, n_voxels: int, n_sites: int, n_columns: int) -> Case:
    """The pooled model of sites on the first shard of voxels."""
    objects, grid = study(folder, n_voxels)
    rng, voxel = np.random.default_rng(11), np.arange(n_voxels)
    design = pd.DataFrame(rng.standard_normal((60, n_columns)), columns=[f"x{i}" for i in range(n_columns)])
    coords = voxel_coords(grid, voxel)
    paths = [folder / f"{i}.npz" for i in range(n_sites)]
    for path in paths:
        effects = xr.DataArray(rng.standard_normal((60, n_voxels)), dims=("map", "voxel"), coords=coords)
        save_sums(group_sums(effects, design), path)
    model = {"contrasts": {f"c{i}": f"x{i}" for i in range(4)}, "inference": {"method": ["fdr"]}}
    wanted = pooled_analysis(paths, output=folder / "out", model=model)
    test = pooled.planned_pooled(wanted.analysis, wanted.about)[0]
    make_group_arrays(objects, test, n_voxels)
    kwargs = {"store": objects.url, "test": test, "start": 0, "stop": min(n_voxels, 65_536), "memory_budget": 0}
    return Case(pooled.fit_pooled_shard, kwargs, pooled.pooled_memory(n_voxels, wanted.about, wanted.files[0].block, 4))


def export_case(folder: Path, n_voxels: int) -> Case:
    """The maps of one subject with a t and an F."""
    objects, grid = study(folder, n_voxels)
    contrasts = {"f": Contrast.model_validate(["a", "b"]), "t": Contrast.model_validate("a")}
    make_room(objects, "f/run-1", random_run(100, 8), n_voxels, 2, FirstLevel(noise_model="ar1"))
    make_maps(objects, "results/r/subjects/sub-01", list(contrasts), n_voxels)
    write_block(objects, "fits/f/run-1/r_squared", (0,), np.random.default_rng(6).uniform(size=n_voxels))
    for statistic in STATISTICS:
        values = np.random.default_rng(7).uniform(1, 9, (2, n_voxels))
        write_block(objects, f"results/r/subjects/sub-01/{statistic}", (0, 0), values)
    kwargs = {"store": objects.url, "output": str(folder / "out"), "results": "r"}
    levels = {"subjects/sub-01": [write_subject.LevelRun("run-1", {"sub": "01"}, "f/run-1")]}
    kwargs |= {"levels": levels, "contrasts": contrasts, "model": {}, "inputs": "i"}
    return Case(write_subject.export_subject, kwargs, memory.export_memory(n_voxels, math.prod(grid.shape)))
