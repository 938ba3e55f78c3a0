"""Ingest of a `.nii.gz`: CPU over bare decoding and over nibabel, memory over the length, against nifti-zarr-py.

a: CPU of one ingest over the CPU of `isal` decoding the same file; b: over `nibabel` `get_fdata`, both in one process.
c: peak memory above the base of the process at several lengths, and the budget. d: the run of nilearn's issue #5588
(64 x 76 x 64 x 6804, int16) in a whole process with a budget of 512 MiB. e: whole processes, imports and all, against
nifti-zarr-py's converter without its pyramid (`pip install '.[bench]'`; left out where it is not installed).
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from isal import igzip

from benchmarks._harness import one_thread, paired, process_usage, whole_process
from voxloom.io.nifti.write import make_image, single_file_header, write_nifti
from voxloom.io.study.ingest import write_run
from voxloom.io.study.open import create_study
from voxloom.schema import Grid, MiB

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A run of 3 mm voxels, a third of whose volume is brain.
SHAPE, N_VOLUMES = (64, 64, 40), 320
LENGTHS, LENGTHS_BUDGET = (320, 1280, 5120), 256 * MiB
LONG_SHAPE, LONG_VOLUMES, LONG_BUDGET = (64, 76, 64), 6804, "512MiB"
#: Volumes that differ; longer files repeat them, for a gzip file may consist of many parts.
BLOCK = 54
ENV = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

OURS = """
import sys
import voxloom
voxloom.ingest(sys.argv[1], sys.argv[2], mask=sys.argv[3], memory_budget=sys.argv[4])
"""
THEIRS = """
import sys
from niizarr import nii2zarr
nii2zarr(sys.argv[1], sys.argv[2], nb_levels=0)
"""
PEAK = """
import sys
from pathlib import Path
import voxloom
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
short, long, store, mask, budget = sys.argv[1:]
voxloom.ingest(short, store, mask=mask, memory_budget=budget)
base = peak()
voxloom.ingest(long, store, memory_budget=budget)
print(peak() - base)
"""


def run(repeats: int = 5, *, shorten: int = 1) -> dict[str, Any]:
    """All figures; `shorten` divides the lengths of the runs, to try the benchmark itself."""
    with tempfile.TemporaryDirectory() as name, one_thread():
        folder = Path(name)
        lengths = [max(BLOCK, n // shorten) for n in LENGTHS]
        return {
            "shape": [*SHAPE, N_VOLUMES // shorten],
            **in_process(folder, max(BLOCK, N_VOLUMES // shorten), repeats),
            "c_memory": {str(n): memory(folder, n) for n in lengths},
            "d_long_run": long_run(folder, max(BLOCK, LONG_VOLUMES // shorten)),
            "e_nifti_zarr": against_nifti_zarr(folder, max(BLOCK, N_VOLUMES // shorten), max(1, repeats // 2)),
        }


def in_process(folder: Path, n_volumes: int, repeats: int) -> dict[str, Any]:
    """CPU of one ingest over that of the other side, pair by pair."""
    path, mask = write_series(folder / "run.nii.gz", SHAPE, n_volumes), brain(SHAPE)
    study = create_study(folder / "study", grid_of(SHAPE), mask)

    def ours() -> None:
        write_run(study.objects, "run", path)

    decode = paired(lambda: read_gzip(path), ours, repeats=repeats)
    nibabel = paired(lambda: nib.load(path).get_fdata(), ours, repeats=repeats)
    return {
        "file_mib": path.stat().st_size / MiB,
        "a_cpu_over_isal_decode": decode["ratio_b_over_a"]["cpu"]["median"],
        "b_cpu_over_nibabel": nibabel["ratio_b_over_a"]["cpu"]["median"],
        "a": decode,
        "b": nibabel,
    }


def memory(folder: Path, n_volumes: int) -> dict[str, float]:
    """Peak above the base of an ingest, after a short one has loaded the libraries."""
    short, long = (
        write_series(folder / f"{name}.nii.gz", SHAPE, n) for name, n in (("short", BLOCK), ("long", n_volumes))
    )
    store, mask = folder / f"memory-{n_volumes}.zarr", write_mask(folder / "mask.nii.gz", SHAPE)
    command = [sys.executable, "-c", PEAK, str(short), str(long), str(store), str(mask), str(LENGTHS_BUDGET)]
    done = subprocess.run(command, env={**os.environ, **ENV}, capture_output=True, text=True, check=True)
    values = int(brain(SHAPE).sum()) * n_volumes * 2
    return {"above_base_mib": int(done.stdout) / MiB, "budget_mib": LENGTHS_BUDGET / MiB, "values_mib": values / MiB}


def long_run(folder: Path, n_volumes: int) -> dict[str, float]:
    """One whole process."""
    path = write_series(folder / "long.nii.gz", LONG_SHAPE, n_volumes)
    mask = write_mask(folder / "long-mask.nii.gz", LONG_SHAPE)
    usage = process_usage(
        [sys.executable, "-c", OURS, str(path), str(folder / "long.zarr"), str(mask), LONG_BUDGET], ENV
    )
    path.unlink()
    return {"n_volumes": n_volumes, **{name: usage[name] for name in ("cpu", "wall", "peak_mib")}}


def against_nifti_zarr(folder: Path, n_volumes: int, repeats: int) -> dict[str, Any]:
    """Side a is voxloom, b nifti-zarr-py."""
    if importlib.util.find_spec("niizarr") is None:
        return {"left_out": "niizarr is not installed"}
    path, mask = write_series(folder / "run.nii.gz", SHAPE, n_volumes), write_mask(folder / "mask.nii.gz", SHAPE)
    ours, theirs = folder / "ours.zarr", folder / "theirs.nii.zarr"
    # a fresh store every time: the shell removes it first, which costs milliseconds
    script = 'rm -rf "$3"; exec "$0" -c "$1" "$2" "$3" "$4" "$5"'
    a = ["sh", "-c", script, sys.executable, OURS, str(path), str(ours), str(mask), LONG_BUDGET]
    b = ["sh", "-c", script, sys.executable, THEIRS, str(path), str(theirs), "", ""]
    return whole_process(a, b, repeats, env=ENV)


def read_gzip(path: Path) -> None:
    """Decode a file to its end."""
    with igzip.open(path) as file:
        while file.read(MiB):
            pass


def grid_of(shape: tuple[int, int, int]) -> Grid:
    """Voxels of 3 mm."""
    return Grid.of(shape, np.diag([3.0, 3.0, 3.0, 1.0]))


def brain(shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """An ellipsoid that fills a third of the volume."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return sum((a / 0.86) ** 2 for a in axes) < 1


def write_mask(path: Path, shape: tuple[int, int, int]) -> Path:
    """The brain as a file."""
    return write_nifti(brain(shape), path, grid_of(shape))


def write_series(path: Path, shape: tuple[int, int, int], n_volumes: int, seed: int = 0) -> Path:
    """A `.nii.gz` of int16 like BOLD: smooth anatomy, AR(1) noise of 1.2% in the brain, little outside."""
    rng, inside = np.random.default_rng(seed), brain(shape)
    mean = np.where(inside, 9000 + 1500 * np.sin(np.linspace(0, 9, shape[0]))[:, None, None], 300)
    image = make_image(np.zeros((*shape, 1), np.int16), grid_of(shape), t_r=2.0)
    image.header.set_data_shape((*shape, n_volumes))
    noise, block = np.zeros(shape, np.float32), b""
    for _ in range(min(BLOCK, n_volumes)):
        noise = 0.4 * noise + rng.standard_normal(shape, np.float32) * (0.012 * mean)
        block += (mean + noise).astype(np.int16).tobytes(order="F")
    packed, volume = gzip.compress(block, 6), len(block) // min(BLOCK, n_volumes)
    times, rest = divmod(n_volumes, BLOCK)
    with open(path, "wb") as file:
        file.write(gzip.compress(single_file_header(image.header), 6))
        for _ in range(times):
            file.write(packed)
        file.write(gzip.compress(block[: rest * volume], 6))
    return path
