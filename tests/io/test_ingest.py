"""Laws: lossless round trip, the budget does not show in the result, equal bytes each time, bounded memory."""

from __future__ import annotations

import gzip
import subprocess
import sys
from functools import partialmethod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nilearn.image import smooth_img

from voxloom.errors import CorruptionError, GridError, InputError, MemoryBudgetError, StoreError
from voxloom.io.nifti.volumes import read_header
from voxloom.io.nifti.write import write_nifti
from voxloom.io.store.access import Objects, read_voxels
from voxloom.io.study.ingest import write_run
from voxloom.io.study.open import Study, create_study, open_study, read_bold, read_run
from voxloom.io.study.run_memory import RunMemory
from voxloom.io.study.run_values import RunValues
from voxloom.io.study.transpose import Transposer
from voxloom.schema import Grid, MiB

AFFINE = np.array([[-3, 0, 0, 30], [0, 3, 0, -40], [0, 0, 3.5, 12], [0, 0, 0, 1.0]])
SHAPE = (7, 6, 5)
GRID = Grid.of(SHAPE, AFFINE)


def save(path: Path, data: np.ndarray, *, kind: type = nib.Nifti1Image, order: str = "<", t_r: float = 2.0) -> Path:
    image = kind(data, AFFINE, header=kind.header_class(endianness=order), dtype=data.dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = t_r
    image.to_filename(path)
    return path


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(1).random(SHAPE) < 0.6


@pytest.fixture
def study(tmp_path: Path, mask: np.ndarray) -> Study:
    return create_study(tmp_path / "study", GRID, mask)


@pytest.fixture
def data() -> np.ndarray:
    return np.random.default_rng(2).integers(-500, 900, (*SHAPE, 12)).astype(np.int16)


def contents(objects: Objects, prefix: str) -> dict[str, bytes | None]:
    return {key: objects.get(key) for key in objects.list(prefix)}


#: Every real type that NIfTI has, but for float128, which is refused.
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
SCALINGS = [(np.nan, 0.0), (1.0, 0.0), (0.25, -7.0), (-3.5, 0.0), (0.0, 3.0), (0.5, np.nan), (np.inf, 1.0)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from("<>"),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    shape=st.tuples(*[st.integers(1, 6)] * 3, st.integers(2, 9)),
    scaling=st.sampled_from(SCALINGS),
    extensions=st.sampled_from(
        [bytes(4), b"\1\0\0\0" + np.array([16, 6], "<i4").tobytes() + b"scanner\0", b"\7\3\1\2" + bytes(40)]
    ),
    gz=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_nifti_to_store_to_nifti_is_bit_exact(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    order: str,
    kind: type,
    shape: tuple[int, ...],
    scaling: tuple[float, float],
    extensions: bytes,
    gz: bool,
    seed: int,
) -> None:
    folder, rng = tmp_path_factory.mktemp("trip"), np.random.default_rng(seed)
    bits = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype=np.uint8)  # NaN payloads and all
    stored = bits.view(np.dtype(dtype).newbyteorder(order))[..., 0]
    header = kind.header_class(endianness=order)
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_sform(AFFINE, 4)
    header["scl_slope"], header["scl_inter"] = scaling
    header["pixdim"][4], header["descrip"] = 1.25, b"kept as it is"
    offset = header.sizeof_hdr + len(extensions)
    header["vox_offset"] = offset
    header["magic"] = b"n+1" if kind is nib.Nifti1Image else b"n+2\0\r\n\x1a\n"
    raw = header.binaryblock + extensions + stored.tobytes(order="F")
    (folder / "source.nii").write_bytes(raw)
    mask = rng.random(shape[:3]) < 0.7
    mask.flat[0] = True
    study = create_study(folder / "study", Grid.of(shape, AFFINE), mask)

    write_run(study.objects, "r", folder / "source.nii")
    back = study.export_run("r", folder / ("back.nii.gz" if gz else "back.nii"))

    written = gzip.decompress(back.read_bytes()) if gz else back.read_bytes()
    assert written[:offset] == raw[:offset]
    again = np.frombuffer(written[offset:], stored.dtype).reshape(shape, order="F")
    assert again[mask].tobytes() == stored[mask].tobytes()
    assert not again[~mask].any()
    physical = read_bold(study.objects, "r", slice(0, study.voxel.size))
    slope, inter = np.nan_to_num(scaling) if np.isfinite(scaling[0]) and scaling[0] != 0 else (1.0, 0.0)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(physical, stored[mask].astype(float) * slope + inter)


def test_what_is_kept_with_a_run(tmp_path: Path, study: Study, data: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    run_mask = rng.random(SHAPE) < 0.7
    path = save(tmp_path / "b.nii.gz", data)
    events = pd.DataFrame({"onset": [0.0, 4.5], "duration": [1.0, np.nan], "trial_type": ["a", "b"]})
    confounds = pd.DataFrame({"csf": rng.normal(size=12), "fd": [np.nan, *range(11)]})
    keep = np.arange(12) > 1
    summary = write_run(
        study.objects,
        "sub-01_run-1",
        path,
        mask=write_nifti(run_mask, tmp_path / "mask.nii.gz", GRID),
        events=events,
        confounds=confounds,
        entities={"sub": "01", "run": 1},
        sample_mask=keep,
    )
    run, in_mask = read_run(study.objects, "sub-01_run-1"), run_mask.ravel()[study.voxel]
    pd.testing.assert_frame_equal(run.events, events)
    pd.testing.assert_frame_equal(run.confounds, confounds)
    np.testing.assert_array_equal(run.sample_mask, keep)
    assert (run.t_r, run.n_volumes, run.n_voxels, run.itemsize) == (2.0, 12, study.voxel.size, 2)
    assert summary.n_outside == np.count_nonzero(run_mask & ~study.mask)
    assert (summary.n_volumes, summary.n_nonfinite, summary.bytes_read) == (12, 0, path.stat().st_size)

    ds = study.run("sub-01_run-1")
    series = data.reshape(-1, 12)[study.voxel]
    assert ds["bold"].chunks is not None
    np.testing.assert_array_equal(ds["bold"], np.where(in_mask[:, None], series, 0))
    np.testing.assert_array_equal(ds["in_mask"], in_mask)
    np.testing.assert_array_equal(ds["time"], 2.0 * np.arange(12))
    np.testing.assert_allclose(ds["mean"], np.where(in_mask, series.mean(axis=1), np.nan), rtol=1e-6)
    tsnr = series.mean(axis=1) / series.std(axis=1)
    np.testing.assert_allclose(ds["tsnr"], np.where(in_mask, tsnr, np.nan), rtol=1e-5)
    assert list(ds["name"].values) == ["csf", "fd"]
    row = open_study(study.url).runs.loc["sub-01_run-1"]
    assert (row["sub"], row["run"], row["n_volumes"], row["source"]) == ("01", 1, 12, str(path))


def test_scaled_integers_read_as_nibabel_reads_them(tmp_path: Path, study: Study, data: np.ndarray) -> None:
    image = nib.Nifti1Image(data, AFFINE)
    image.header.set_slope_inter(0.1, 37.3)
    image.header["pixdim"][4] = 2
    image.to_filename(tmp_path / "b.nii")
    header = bytearray((tmp_path / "b.nii").read_bytes())
    header[112:120] = np.array([0.1, 37.3], "<f4").tobytes()
    (tmp_path / "b.nii").write_bytes(header)
    write_run(study.objects, "r", tmp_path / "b.nii")
    wanted = nib.load(tmp_path / "b.nii").get_fdata().reshape(-1, 12)[study.voxel]
    np.testing.assert_array_equal(study.run("r")["bold"], wanted)
    np.testing.assert_array_equal(read_bold(study.objects, "r", slice(5, 50)), wanted[5:50])
    np.testing.assert_allclose(study.run("r")["mean"], wanted.mean(axis=1), rtol=1e-6)
    assert read_bold(study.objects, "r", slice(5, 50), raw=True).dtype == np.int16


def test_smoothing_equals_nilearn(tmp_path: Path, study: Study, data: np.ndarray) -> None:
    path = save(tmp_path / "b.nii.gz", data)
    write_run(study.objects, "s", path, smoothing_fwhm=6)
    wanted = smooth_img(path, 6).get_fdata().reshape(-1, 12)[study.voxel]
    np.testing.assert_allclose(study.run("s")["bold"], wanted, rtol=1e-5, atol=1e-3)
    exported = nib.load(study.export_run("s", tmp_path / "s.nii.gz"))
    assert exported.get_data_dtype() == np.float32
    np.testing.assert_array_equal(exported.get_fdata()[study.mask], study.run("s")["bold"])
    assert exported.header.get_zooms()[3] == 2.0


def test_non_finite_values_are_counted_and_kept(tmp_path: Path, study: Study, data: np.ndarray) -> None:
    values = data.astype(np.float32)
    i, j, k = np.unravel_index(study.voxel[[3, 8]], SHAPE)
    values[i, j, k, 5] = np.nan, np.inf
    summary = write_run(study.objects, "r", save(tmp_path / "b.nii", values))
    assert summary.n_nonfinite == 2
    stored = read_bold(study.objects, "r", slice(0, study.voxel.size))
    np.testing.assert_array_equal(stored, values.reshape(-1, 12)[study.voxel])


@pytest.mark.parametrize("times", [1, 3, 5, 12])
def test_turning_in_slabs_equals_a_transpose(data: np.ndarray, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxloom.io.study.transpose.STRETCH_BYTES", 100)
    rows = data.reshape(-1, 12).T
    with Transposer(rows.shape[1], 12, rows.dtype, times * rows[0].nbytes + 1) as turned:
        for row in rows:
            turned.next_row()[:] = row
            turned.commit()
        assert turned.spills == (times < 12)
        turned.release_slab()
        for start, stop in ((0, rows.shape[1]), (0, 0), (7, 130)):
            np.testing.assert_array_equal(turned.voxels(start, stop), rows.T[start:stop])
    with pytest.raises(MemoryBudgetError):
        Transposer(1000, 12, rows.dtype, 1999)


def test_budget_does_not_show_and_writing_again_changes_nothing(tmp_path: Path, study: Study, data: np.ndarray) -> None:
    path = save(tmp_path / "b.nii.gz", data)
    first = write_run(study.objects, "r", path)
    before = contents(study.objects, "runs")
    info = read_header(path)
    memory = RunMemory.of(info, study.voxel.size, RunValues.of(info, None, None), streams=True)
    small = memory.peak(64 * MiB) - 7 * memory.row  # a slab of 5 of the 12 volumes
    assert memory.slab(small) // memory.row == 5
    assert write_run(study.objects, "r", path, memory_budget=small) == first
    assert contents(study.objects, "runs") == before
    # and nothing of a run that was longer stays behind
    write_run(study.objects, "r", save(tmp_path / "c.nii", np.concatenate([data, data], axis=-1)))
    write_run(study.objects, "r", path)
    assert contents(study.objects, "runs") == before


def test_digest_changes_with_what_results_depend_on(tmp_path: Path, study: Study, data: np.ndarray) -> None:
    path = save(tmp_path / "b.nii", data)
    other = data.copy()
    other.flat[0] += 1
    confounds = pd.DataFrame({"a": np.arange(12.0)})
    digests = [
        write_run(study.objects, "r", path, **options).digest
        for options in (
            {},
            {"t_r": 1.9},
            {"confounds": confounds},
            {"confounds": confounds + 1},
            {"events": pd.DataFrame({"onset": [1.0]})},
            {"smoothing_fwhm": 4},
            {"sample_mask": np.arange(12) > 0},
            {"mask": np.arange(np.prod(SHAPE)).reshape(SHAPE) > 9},
        )
    ]
    digests.append(write_run(study.objects, "r", save(tmp_path / "c.nii", other)).digest)
    assert len(set(digests)) == len(digests)
    (tmp_path / "moved").mkdir()
    assert write_run(study.objects, "q", path.rename(tmp_path / "moved" / "b.nii")).digest == digests[0]


def test_a_run_is_there_only_when_it_is_whole(
    tmp_path: Path, study: Study, data: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "b.nii.gz", data)
    write_run(study.objects, "whole", path)
    wanted = contents(study.objects, "runs/whole")
    n_puts = len(wanted)
    puts = {"put": Objects.put, "put_pieces": Objects.put_pieces}
    for allowed in range(n_puts):
        study.objects.delete_tree("runs/r")  # what an attempt before has left would be kept, and be fewer writes
        left = [allowed]

        def dying(self: Objects, key: str, value: Any, put: Any, left: list[int] = left) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            put(self, key, value)

        for name, put in puts.items():
            monkeypatch.setattr(Objects, name, partialmethod(dying, put=put))
        with pytest.raises(KeyboardInterrupt):
            write_run(study.objects, "r", path)
        monkeypatch.undo()
        assert list(study.runs.index) == ["whole"]
        with pytest.raises(StoreError, match="no complete run 'r'"):
            study.run("r")
    write_run(study.objects, "r", path)
    assert contents(study.objects, "runs/r") == {k.replace("whole", "r"): v for k, v in wanted.items()}


def test_a_bad_file_leaves_the_older_run(tmp_path: Path, study: Study, data: np.ndarray) -> None:
    path = save(tmp_path / "b.nii.gz", data)
    write_run(study.objects, "r", path)
    before = contents(study.objects, "runs")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CorruptionError, match=r"b\.nii\.gz"):
        write_run(study.objects, "r", path)
    assert contents(study.objects, "runs") == before


def test_bad_input(tmp_path: Path, study: Study, data: np.ndarray) -> None:
    path = save(tmp_path / "b.nii", data)
    with pytest.raises(InputError, match="4-D"):
        write_run(study.objects, "r", save(tmp_path / "3d.nii", data[..., 0]))
    with pytest.raises(InputError, match="repetition time"):
        write_run(study.objects, "r", save(tmp_path / "t.nii", data, t_r=0))
    with pytest.raises(InputError, match="12 volumes, but the confounds 11 rows"):
        write_run(study.objects, "r", path, confounds=pd.DataFrame({"a": range(11)}))
    with pytest.raises(InputError, match="sample mask"):
        write_run(study.objects, "r", path, sample_mask=np.ones(5, bool))
    with pytest.raises(GridError, match=r"g\.nii"):
        write_run(study.objects, "r", save(tmp_path / "g.nii", data[1:]))
    with pytest.raises(GridError, match="mask"):
        write_run(study.objects, "r", path, mask=np.ones((2, 2, 2), bool))
    with pytest.raises(InputError, match="cannot name"):
        write_run(study.objects, "a/b", path)
    with pytest.raises(MemoryBudgetError, match="memory budget"):
        write_run(study.objects, "r", path, memory_budget=1000)
    assert study.runs.empty


MEASURE = """
import sys
from pathlib import Path
from voxloom.io.study.ingest import write_run
from voxloom.io.study.open import open_study

def peak():  # of this program; ru_maxrss would begin with that of the parent
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

store, small, large, budget, fwhm = sys.argv[1:]
study, options = open_study(store), {"smoothing_fwhm": float(fwhm), "max_error_sd": 0.1 if fwhm == "8" else None}
write_run(study.objects, "small", small, **options)
study.export_run("small", f"{store}/small.nii")
base = peak()
write_run(study.objects, "large", large, memory_budget=int(budget), scratch=store, **options)
print(peak() - base)
study.export_run("large", f"{store}/large.nii", memory_budget=int(budget))
print(peak() - base)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's VmHWM")
@pytest.mark.parametrize(
    ("ending", "n", "fwhm"),
    [
        pytest.param(".nii", 3000, 0, id="nii"),
        pytest.param(".nii.gz", 4000, 0, id="nii.gz, scaled"),
        pytest.param(".img.gz", 3000, 0, id="pair", marks=pytest.mark.slow),
        pytest.param(".nii", 1600, 8, id="smoothed and rounded"),
    ],
)
def test_memory_follows_the_budget_not_the_length(tmp_path: Path, ending: str, n: int, fwhm: float) -> None:
    shape, budget = (40, 40, 20), 160 * MiB  # 183 to 244 MiB of values; a shard of 47 to 62 MiB
    rng = np.random.default_rng(0)
    block = rng.integers(0, 4000, (*shape, 50)).astype(np.int16)
    image = nib.Nifti1Image(block, AFFINE)
    image.header["pixdim"][4] = 2
    if ending == ".nii.gz":
        image.header.set_slope_inter(0.25, -7)
    small, large = (
        save_blocks(tmp_path / f"{name}{ending}", image.header, block, times)
        for name, times in (("s", 1), ("l", n // 50))
    )
    study = create_study(tmp_path / "study", Grid.of(shape, AFFINE), np.ones(shape, bool))
    command = [sys.executable, "-c", MEASURE, study.url, str(small), str(large), str(budget), str(fwhm)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for above_base in map(int, done.stdout.split()):
        assert above_base <= budget + 64 * MiB, above_base / MiB
    last = slice(study.voxel.size - 9, study.voxel.size)
    if not fwhm:
        wanted = np.tile(block.reshape(-1, 50)[-9:], n // 50)
        np.testing.assert_array_equal(read_voxels(study.objects, "runs/large/bold", last), wanted)
    back = nib.load(tmp_path / "study/large.nii")
    row = np.asarray(back.dataobj[-1, -1, -1] if fwhm else back.dataobj.get_unscaled()[-1, -1, -1])
    np.testing.assert_array_equal(row, read_bold(study.objects, "large", last, raw=True)[-1])


def save_blocks(path: Path, header: nib.Nifti1Header, block: np.ndarray, times: int) -> Path:
    """Write a block of volumes again and again; a gzip file may consist of many parts, so it is packed once."""
    header = header.copy()
    header.set_data_shape((*block.shape[:3], block.shape[3] * times))
    header["vox_offset"] = 352
    pack = (lambda data: gzip.compress(data, 1)) if path.name.endswith(".gz") else bytes
    start = header.binaryblock + bytes(4)
    if ".img" in path.name:
        header["magic"], header["vox_offset"] = b"ni1", 0
        path.with_name(path.name.replace(".img.gz", ".hdr")).write_bytes(header.binaryblock)
        start = b""
    packed = pack(block.tobytes(order="F"))
    with open(path, "wb") as file:
        file.write(pack(start))
        for _ in range(times):
            file.write(packed)
    return path


def test_rounding_is_bounded_recorded_and_noted_in_exports_and_saves_space(tmp_path: Path, study: Study) -> None:
    rng = np.random.default_rng(3)
    mean = rng.uniform(4_000, 12_000, SHAPE)[..., None]
    data = (mean + rng.normal(0, 0.015, (*SHAPE, 200)) * mean).astype(np.int16)
    path = save(tmp_path / "b.nii.gz", data)
    exact = write_run(study.objects, "exact", path)
    rounded = write_run(study.objects, "rounded", path, max_error_sd=0.02)
    smooth = write_run(study.objects, "smooth", path, smoothing_fwhm=5, max_error_sd=0.02)
    assert len({exact.digest, rounded.digest, smooth.digest}) == 3
    size = {name: sum(map(len, contents(study.objects, f"runs/{name}/bold").values())) for name in study.runs.index}
    assert size["rounded"] < 0.88 * size["exact"]
    whole = slice(0, study.voxel.size)
    before = read_bold(study.objects, "exact", whole)
    error = np.abs(read_bold(study.objects, "rounded", whole) - before).max(axis=1)
    assert (error <= 0.02 * before.std(axis=1)).all()
    assert error.max() > 0
    np.testing.assert_array_equal(study.runs.max_error_sd.astype(float), [np.nan, 0.02, 0.02])
    note = b"voxloom: no value differs by more than 0.02 of its voxel's temporal SD"
    for run_id in ("rounded", "smooth"):
        back = nib.load(study.export_run(run_id, tmp_path / f"{run_id}.nii.gz"))
        assert [e.get_content().rstrip(b"\0") for e in back.header.extensions] == [note]
        np.testing.assert_array_equal(back.get_fdata()[study.mask], read_bold(study.objects, run_id, whole))
    assert not nib.load(study.export_run("exact", tmp_path / "exact.nii")).header.extensions
