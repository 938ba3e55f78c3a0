"""Oracle: nibabel, on synthetic files of every kind and on real files of several programs."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from voxloom.errors import CorruptionError, InputError
from voxloom.io.nifti.volumes import VolumeReader, read_header, read_mask, volumes
from voxloom.io.nifti.write import write_nifti
from voxloom.schema import Grid

if TYPE_CHECKING:
    from pathlib import Path

AFFINE = np.array([[-2, 0, 0, 30], [0, 2.5, 0, -40], [0, 0, 3, 12], [0, 0, 0, 1.0]])


def save(path: Path, data: np.ndarray, kind: type = nib.Nifti1Image, order: str = "<", **fields: float) -> Path:
    """Write an image with nibabel: its own dtype, byte order and header fields."""
    header = kind.header_class(endianness=order)
    image = kind(data, AFFINE, header=header, dtype=data.dtype)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path


@pytest.fixture
def series() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, (5, 4, 3, 7)).astype(np.int16)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_volumes_equal_nibabel(tmp_path: Path, series: np.ndarray, kind: type, order: str, ending: str) -> None:
    path = save(tmp_path / f"a{ending}", series, kind, order)
    info = read_header(path)
    assert (info.shape, info.n_volumes, info.dtype.byteorder in "=<") == (series.shape, 7, order == "<")
    np.testing.assert_allclose(info.grid.matrix, nib.load(path).affine)
    for t, volume in enumerate(volumes(path)):
        assert volume.flags.f_contiguous
        np.testing.assert_array_equal(volume, series[..., t])
    assert t == 6


def test_a_name_does_not_decide_whether_a_file_is_gzip(tmp_path: Path, series: np.ndarray) -> None:
    path = save(tmp_path / "a.nii", series).rename(tmp_path / "a.nii.gz")
    assert len(list(volumes(path))) == 7


@pytest.mark.parametrize(
    ("slope", "inter", "wanted"),
    [(2.5, -3, (2.5, -3)), (0, 5, (1, 0)), (np.nan, 5, (1, 0)), (np.inf, 0, (1, 0)), (0.5, np.nan, (0.5, 0))],
)
def test_scaling(tmp_path: Path, series: np.ndarray, slope: float, inter: float, wanted: tuple) -> None:
    path = save(tmp_path / "a.nii", series)
    header = bytearray(path.read_bytes())
    header[112:120] = np.array([slope, inter], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(header)
    info = read_header(path)
    assert (info.slope, info.inter) == wanted
    if np.isfinite(inter):
        physical = np.stack([info.physical(v) for v in volumes(path)], axis=-1)
        np.testing.assert_array_equal(physical, nib.load(path).get_fdata())


@pytest.mark.parametrize(
    ("zoom", "unit", "wanted"),
    [(0.8, "sec", 0.8), (2000, "msec", 2.0), (1.35e6, "usec", 1.35), (2.2, 0, 2.2), (0, "sec", None), (5, "hz", None)],
)
def test_repetition_time(tmp_path: Path, series: np.ndarray, zoom: float, unit: str, wanted: float | None) -> None:
    image = nib.Nifti1Image(series, AFFINE)
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = zoom
    image.to_filename(tmp_path / "a.nii")
    assert read_header(tmp_path / "a.nii").t_r == (wanted if wanted is None else pytest.approx(wanted, rel=1e-12))


def test_extensions_are_kept(tmp_path: Path, series: np.ndarray) -> None:
    image = nib.Nifti1Image(series, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"from the scanner"))
    image.to_filename(tmp_path / "a.nii")
    info = read_header(tmp_path / "a.nii")
    assert b"from the scanner" in info.header_bytes
    assert info.header_bytes == (tmp_path / "a.nii").read_bytes()[: info.data_offset]


def test_sha256_and_size_are_those_of_the_file(tmp_path: Path, series: np.ndarray) -> None:
    import hashlib

    path = save(tmp_path / "a.nii.gz", series)
    with VolumeReader(path) as reader:
        for _ in reader:
            pass
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert reader.bytes_read == path.stat().st_size


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_truncation_names_the_volume(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 2**15, (32, 32, 16, 20)).astype(np.int16)
    path = save(tmp_path / f"a{ending}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptionError, match=r"ends after volume (9|10) of 20"):
        list(volumes(path))
    path.write_bytes(path.read_bytes()[:9])
    with pytest.raises(CorruptionError, match="header"):
        read_header(path)


def test_every_kind_of_damage_to_a_gzip_stream_is_found(tmp_path: Path, series: np.ndarray) -> None:
    good = save(tmp_path / "a.nii.gz", series).read_bytes()
    path = tmp_path / "b.nii.gz"
    rng = np.random.default_rng(1)
    # the first 10 bytes are the gzip header: flags and time, no data
    for place in [*range(10, 40), *rng.integers(10, len(good) - 8, 60), *range(len(good) - 8, len(good))]:
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        with pytest.raises((CorruptionError, InputError)):
            list(volumes(path))


def test_a_cut_checksum_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.ones((32, 32, 16, 20), np.int16))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptionError, match="ends"):
        list(volumes(path))


def test_what_is_not_a_usable_nifti(tmp_path: Path, series: np.ndarray) -> None:
    path = tmp_path / "a.nii.gz"
    with pytest.raises(InputError, match="is not a file"):
        read_header(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="0 bytes"):
        read_header(path)
    path.write_bytes(b"not an image at all, but some text" * 50)
    with pytest.raises(InputError, match="not a NIfTI"):
        read_header(path)
    save(tmp_path / "c.nii", series.astype(np.complex64))
    with pytest.raises(InputError, match="complex64"):
        read_header(tmp_path / "c.nii")
    save(tmp_path / "d.nii", series[..., 0])
    with pytest.raises(InputError, match="4-D"):
        read_header(tmp_path / "d.nii").require_4d()


def test_mask(tmp_path: Path) -> None:
    values = np.zeros((5, 4, 3), np.float32)
    values[1, 2, 0], values[3, 3, 2], values[0, 0, 0] = 1, -0.5, np.nan
    mask, grid = read_mask(save(tmp_path / "m.nii.gz", values[..., np.newaxis]))
    np.testing.assert_array_equal(np.argwhere(mask), [[1, 2, 0], [3, 3, 2]])
    assert grid.same_as(Grid.of(values.shape, AFFINE))
    with pytest.raises(InputError, match="empty mask"):
        read_mask(save(tmp_path / "e.nii", np.zeros((5, 4, 3), np.uint8)))
    with pytest.raises(InputError, match="3-D"):
        read_mask(save(tmp_path / "t.nii", np.ones((5, 4, 3, 2), np.uint8)))


def test_written_bytes_are_the_same_each_time_and_nibabel_reads_them(tmp_path: Path, series: np.ndarray) -> None:
    image = nib.Nifti1Image(series, AFFINE)
    first = write_nifti(image, tmp_path / "one" / "a.nii.gz").read_bytes()
    assert first == write_nifti(image, tmp_path / "b.nii.gz").read_bytes()
    assert gzip.decompress(first) == write_nifti(image, tmp_path / "a.nii").read_bytes()
    back = nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(np.asarray(back.dataobj), series)
    np.testing.assert_allclose(back.affine, AFFINE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii", "b.nii.gz", "one"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, series: np.ndarray) -> None:
    from voxloom.io.nifti.write import write_volumes

    path = write_nifti(series[..., 0], tmp_path / "a.nii.gz", Grid.of(series.shape, AFFINE))
    before = path.read_bytes()

    def broken():
        yield series[..., 0]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_volumes(path, bytes(352), broken())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    with pytest.raises(InputError, match="grid"):
        write_nifti(series, tmp_path / "x.nii")
    with pytest.raises(InputError, match="name"):
        write_nifti(nib.Nifti1Image(series, AFFINE), tmp_path / "x.img")


def test_real_files_equal_nibabel(voxloom_data: Path) -> None:
    folder = voxloom_data / "data"
    paths = [p for p in sorted(folder.rglob("*.nii*")) if p.stat().st_size and p.name.endswith((".nii", ".nii.gz"))]
    read = 0
    for path in paths[::3] + sorted((folder / "format_samples").glob("*.nii*")):
        try:
            wanted = nib.load(path)
        except Exception:
            continue
        with VolumeReader(path) as reader:
            assert reader.info.shape[:3] == wanted.shape[:3]
            np.testing.assert_allclose(reader.info.grid.matrix, wanted.affine, atol=1e-6)
            first = next(iter(reader))
        expected = np.asarray(wanted.dataobj[..., 0] if wanted.ndim > 3 else wanted.dataobj)
        np.testing.assert_allclose(reader.info.physical(first), expected, rtol=1e-6, atol=1e-6)
        read += 1
    assert read > 10
