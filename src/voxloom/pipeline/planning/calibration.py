"""How fast this machine is: the kernels of every stage on small made-up data, in well under two seconds.

One core, this process; a study's times follow by proportion (`voxloom.pipeline.planning.effort`).
"""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from isal import igzip
from threadpoolctl import threadpool_limits

from voxloom.io.nifti.write import GZIP_LEVEL
from voxloom.io.store.arrays import create_array
from voxloom.io.store.objects import Objects
from voxloom.io.store.regions import read_voxels, write_voxels
from voxloom.io.store.shard import encode_shard
from voxloom.kernels.maps.multiplicity import fdr
from voxloom.kernels.permutation.stat_maps import PERMUTATIONS as TILE
from voxloom.kernels.tails import t_to_z
from voxloom.models.contrasts import contrast
from voxloom.models.first_level.fit import fit_first_level
from voxloom.models.first_level.noise import smooth_noise
from voxloom.models.group.fit import fit_group
from voxloom.models.inference.permutation import null_max_stat, prepare_test, rearranged_stat
from voxloom.models.inference.spatial import SpatialTest, spatial_maxima
from voxloom.schema import Grid, voxel_coords
from voxloom.spec import TFCE

if TYPE_CHECKING:
    from collections.abc import Callable

#: Voxels of the made-up data, and most subjects and volumes; longer studies are scaled up from these.
VOXELS, MOST_SUBJECTS, MOST_VOLUMES = 4096, 100, 300
#: Rearrangements of the made-up permutation test: enough for products by table.
PERMUTATIONS = 2500
#: Where these voxels lie.
CUBE = voxel_coords(Grid.of((16, 16, 16), np.diag([2.0, 2.0, 2.0, 1.0])), np.arange(VOXELS))
#: Each figure is the least of so many calls after one that loads what is compiled.
REPEATS = 2


class Rates(NamedTuple):
    """Seconds of one core.

    Attributes
    ----------
    decode, encode, gzip : float
        Per raw byte: gzip file to voxel-major rows, array to shard, volume to ``.nii.gz``.
    fit, refit : float
        Per voxel, volume and column: with the noise to be found, and given.
    smooth : float
        Per voxel whose noise is smoothed.
    table, test, contrast : float
        Per design whose contrasts are asked for, per contrast of it, and per voxel of that.
    group, permutation, product : float
        Per voxel and subject; per voxel, subject and rearrangement, of maxima alone and of whole maps.
    whole : float
        Per voxel of a map that a spatial statistic is made of.
    tails, sort : float
        Per voxel: z and p; order of p.
    array : float
        Per array that is made, written or opened.
    """

    decode: float
    encode: float
    gzip: float
    fit: float
    refit: float
    smooth: float
    table: float
    test: float
    contrast: float
    group: float
    permutation: float
    product: float
    whole: float
    tails: float
    sort: float
    array: float


def measure(n_volumes: int, n_regressors: int, n_subjects: int, noise_model: str) -> Rates:
    """Rates of this machine for runs and groups of about this size."""
    rng = np.random.default_rng(0)
    n_subjects = int(np.clip(n_subjects, 8, MOST_SUBJECTS))
    with threadpool_limits(1):
        return Rates(
            *_byte_rates(rng),
            *_fit_rates(rng, int(np.clip(n_volumes, 2 * n_regressors, MOST_VOLUMES)), n_regressors, noise_model),
            *_group_rates(rng, n_subjects),
            *_map_rates(rng),
            _array_rate(),
        )


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of a call, the least of `REPEATS` after a first one."""
    call()
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return max(min(found), 1e-9)


def _byte_rates(rng: np.random.Generator) -> tuple[float, float, float]:
    noise = rng.normal(1000, 12, (2**19,)).astype(np.int16)
    packed, rows = gzip.compress(noise.tobytes(), 1), noise.reshape(-1, 128)

    def decode() -> None:
        hashlib.sha256(packed).digest()
        np.ascontiguousarray(np.frombuffer(igzip.decompress(packed), np.int16).reshape(128, -1).T)

    volume = rng.standard_normal(2**17).astype(np.float32).tobytes()
    return (
        seconds(decode) / noise.nbytes,
        seconds(lambda: encode_shard(rows, rows.shape, None, 0)) / noise.nbytes,
        seconds(lambda: gzip.compress(volume, GZIP_LEVEL)) / len(volume),
    )


def _fit_rates(
    rng: np.random.Generator, n_volumes: int, n_regressors: int, noise_model: str
) -> tuple[float, float, float, float, float, float]:
    X = rng.standard_normal((n_volumes, n_regressors))
    X[:, -1] = 1.0
    design = pd.DataFrame(X, columns=[f"x{i}" for i in range(n_regressors)])
    Y, rho = rng.standard_normal((n_volumes, VOXELS)), rng.uniform(0, 0.7, VOXELS)
    for t in range(1, n_volumes):  # as many values of rho as real voxels have
        Y[t] += rho * Y[t - 1]
    bold = xr.DataArray(np.ascontiguousarray(1000 + Y.T), dims=("voxel", "time"), name="bold", coords=CUBE)
    fit = fit_first_level(bold, design, noise_model=noise_model)
    longer = fit.isel(voxel=np.tile(np.arange(VOXELS), 4))
    fitting = seconds(lambda: fit_first_level(bold, design, noise_model=noise_model))
    fresh = (fit.assign(design=fit["design"] * factor) for factor in (2.0, 3.0, 4.0))  # tables are kept by design
    first = seconds(lambda: contrast(next(fresh), "x0", tails=False))
    short = seconds(lambda: contrast(fit, "x0", tails=False))
    each = max(seconds(lambda: contrast(longer, "x0", tails=False)) - short, 1e-9) / (3 * VOXELS)
    fixed = max(short - each * VOXELS, 0.0)
    refitting, smoothing = (0.0, 0.0) if noise_model == "ols" else _noise_seconds(bold, design, fit)
    cells = VOXELS * n_volumes * n_regressors
    return fitting / cells, refitting / cells, smoothing / VOXELS, max(first - short, 0.0), fixed, each


def _noise_seconds(bold: xr.DataArray, design: pd.DataFrame, fit: xr.Dataset) -> tuple[float, float]:
    """A fit with given noise, and its smoothing."""
    name = fit.attrs["noise_model"]
    refitting = seconds(lambda: fit_first_level(bold, design, noise_model=name, noise=fit))
    return refitting, seconds(lambda: smooth_noise(fit, 6.0))


def _group_rates(rng: np.random.Generator, n_subjects: int) -> tuple[float, float, float, float]:
    effects = rng.standard_normal((n_subjects, VOXELS))
    maps = xr.DataArray(effects, dims=("map", "voxel"), name="effect")
    design = pd.DataFrame({"intercept": np.ones(n_subjects)})
    setup = prepare_test(design, "intercept", n_perm=2 * PERMUTATIONS)
    n_perm, few = min(PERMUTATIONS, setup.n_perm), effects[:, :1024]
    nulls = seconds(lambda: null_max_stat(setup, few, start=0, stop=n_perm))
    product = seconds(lambda: rearranged_stat(setup, few, start=0, stop=TILE))
    spatial = SpatialTest(setup, {"tfce": TFCE()}, np.arange(VOXELS), (16, 16, VOXELS // 256))
    stat = rng.standard_normal((4, VOXELS))
    return (
        seconds(lambda: fit_group(maps, design)) / effects.size,
        nulls / (few.size * n_perm),
        product / (few.size * TILE),
        seconds(lambda: spatial_maxima(spatial, stat)) / stat.size,
    )


def _map_rates(rng: np.random.Generator) -> tuple[float, float]:
    t, p = rng.standard_normal(2 * VOXELS), rng.uniform(size=8 * VOXELS)
    return 2 * seconds(lambda: t_to_z(t, 20.0)) / t.size, seconds(lambda: fdr(p)) / p.size


def _array_rate() -> float:
    values = np.zeros(16)
    with tempfile.TemporaryDirectory() as folder:
        objects = Objects(folder)

        def use() -> None:
            for _ in range(4):
                create_array(objects, "a/b", dims=("voxel",), shape=(16,), chunks=(16,))
                write_voxels(objects, "a/b", slice(0, 16), values)
                read_voxels(objects, "a/b", slice(0, 16))

        return seconds(use) / 12
