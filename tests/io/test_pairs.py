"""Images in two files. Oracle: nibabel, which reads an Analyze header as SPM does."""

from __future__ import annotations

import gzip
import hashlib
import warnings
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxloom.errors import CorruptionError, InputError, VoxloomWarning
from voxloom.io.nifti.images import from_nifti
from voxloom.io.nifti.pairs import image_files
from voxloom.io.nifti.volumes import VolumeReader, read_header, volumes
from voxloom.io.study.ingest import write_run
from voxloom.io.study.open import create_study

if TYPE_CHECKING:
    from pathlib import Path

AFFINE = np.array([[-2, 0, 0, 30], [0, 2.5, 0, -40], [0, 0, 3, 12], [0, 0, 0, 1.0]])
KINDS = [nib.Nifti1Pair, nib.Nifti2Pair, nib.Spm2AnalyzeImage, nib.Spm99AnalyzeImage, nib.AnalyzeImage]
NIFTI = KINDS[:2]


def save_pair(
    path: Path,
    kind: type,
    stored: np.ndarray,
    *,
    slope: float = np.nan,
    origin: tuple[int, int, int] = (0, 0, 0),
    offset: int = 0,
    t_r: float = 2.0,
    gz: bool = False,
) -> Path:
    """Write both files of a pair byte by byte, so that stored values are known; return the image's path."""
    header = kind.header_class(endianness=">" if stored.dtype.byteorder == ">" else "<")
    header.set_data_shape(stored.shape)
    header.set_data_dtype(stored.dtype)
    header.set_zooms((2, 2.5, 3, t_r)[: stored.ndim])
    header["vox_offset"], header["descrip"] = offset, b"kept as it is"
    if "scl_slope" in header:
        header["scl_slope"] = slope
    if kind in NIFTI:
        header.set_sform(AFFINE, 1)
        header["magic"] = b"ni1" if kind is nib.Nifti1Pair else b"ni2\0\r\n\x1a\n"
    elif "origin" in header:
        header["origin"][:3] = origin
    path.with_suffix(".hdr").write_bytes(header.binaryblock)
    data = bytes(offset) + stored.tobytes(order="F")
    image = path.with_suffix(".img.gz" if gz else ".img")
    image.write_bytes(gzip.compress(data, 1) if gz else data)
    return image


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(["u1", "i2", "i4", "f4", "f8"]),
    order=st.sampled_from("<>"),
    shape=st.tuples(*[st.integers(1, 6)] * 3, st.integers(2, 5)),
    slope=st.sampled_from([np.nan, 0.0, 1.0, 0.25]),
    origin=st.sampled_from([(0, 0, 0), (2, 1, 3), (900, 1, 1)]),
    offset=st.sampled_from([0, 16]),
    gz=st.booleans(),
    by_header=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_pairs_equal_nibabel_and_come_back_bit_for_bit(
    tmp_path_factory, kind, dtype, order, shape, slope, origin, offset, gz, by_header, seed
):
    folder, rng = tmp_path_factory.mktemp("pair"), np.random.default_rng(seed)
    bits = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype=np.uint8)
    stored = bits.view(np.dtype(dtype).newbyteorder(order))[..., 0]
    fields = {"slope": slope, "origin": origin, "offset": offset}
    image = save_pair(folder / "a", kind, stored, gz=gz, **fields)
    given_path = folder / "a.hdr" if by_header else image
    wanted = nib.load(save_pair(folder / "plain", kind, stored, **fields))  # nibabel wants both or none compressed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VoxloomWarning)
        info = read_header(given_path)
        study = create_study(folder / "study", info.grid, rng.random(shape[:3]) < 2)
        write_run(study.objects, "r", given_path)
    assert (info.shape, info.t_r, info.path) == (shape, 2.0, str(image))
    np.testing.assert_allclose(info.grid.matrix, wanted.affine, atol=1e-5)
    with np.errstate(all="ignore"):
        physical = np.stack([info.physical(volume) for volume in volumes(given_path)], axis=-1)
        np.testing.assert_array_equal(physical, wanted.get_fdata())

    back = study.export_run("r", folder / "back.img")
    assert back.read_bytes()[offset:] == stored.tobytes(order="F")
    assert (folder / "back.hdr").read_bytes() == (folder / "a.hdr").read_bytes()
    again = nib.load(study.export_run("r", folder / "back.nii.gz"))
    np.testing.assert_allclose(again.affine, wanted.affine, atol=1e-5)
    assert again.get_data_dtype() == stored.dtype
    assert np.asarray(again.dataobj.get_unscaled()).tobytes() == stored.tobytes()
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(again.get_fdata(), wanted.get_fdata())


def test_spm_mat_file_decides_the_affine(tmp_path: Path) -> None:
    shear = AFFINE.copy()
    shear[0, 1] = 0.3
    image = nib.Spm2AnalyzeImage(np.zeros((4, 5, 6), np.int16), shear)
    image.to_filename(tmp_path / "a.img")
    assert (tmp_path / "a.mat").is_file()
    info = read_header(tmp_path / "a.hdr")
    np.testing.assert_allclose(info.grid.matrix, shear)
    np.testing.assert_allclose(info.grid.matrix, nib.load(tmp_path / "a.img").affine)
    assert "origin from a.mat" in info.assumed
    assert image_files(tmp_path / "a.hdr") == tuple(tmp_path / name for name in ("a.hdr", "a.img", "a.mat"))
    (tmp_path / "a.mat").write_bytes(b"no matlab file")
    with pytest.raises(InputError, match=r"a\.mat"):
        read_header(tmp_path / "a.hdr")


@pytest.mark.parametrize(
    ("origin", "said"), [((0, 0, 0), "the centre of the volume"), ((2, 1, 3), "the header's origin field")]
)
def test_what_an_analyze_header_leaves_open_is_said_once_it_matters(tmp_path, origin, said):
    stored = np.arange(4 * 5 * 6 * 3, dtype=np.int16).reshape(4, 5, 6, 3)
    path = save_pair(tmp_path / "a", nib.Spm2AnalyzeImage, stored, origin=origin)
    study = create_study(tmp_path / "study", read_header(path).grid, np.ones((4, 5, 6), bool))
    for reading in (lambda: from_nifti(path), lambda: write_run(study.objects, "r", path)):
        with pytest.warns(VoxloomWarning, match=rf"a\.img: .*Analyze 7\.5.*right to left.*{said}.*seconds"):
            reading()


def test_a_nifti_pair_says_all_and_keeps_its_extensions(tmp_path: Path) -> None:
    stored = np.arange(4 * 5 * 6 * 3, dtype=np.int16).reshape(4, 5, 6, 3)
    image = nib.Nifti1Pair(stored, AFFINE)
    image.header["pixdim"][4] = 2
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"from the scanner"))
    image.to_filename(tmp_path / "a.img")
    info = read_header(tmp_path / "a.img")
    assert info.header_bytes == (tmp_path / "a.hdr").read_bytes()
    assert not info.assumed
    study = create_study(tmp_path / "study", info.grid, np.ones((4, 5, 6), bool))
    write_run(study.objects, "r", tmp_path / "a.hdr")
    back = nib.load(study.export_run("r", tmp_path / "back.nii"))
    assert [e.get_content() for e in back.header.extensions] == [b"from the scanner"]
    np.testing.assert_array_equal(np.asarray(back.dataobj), stored)


def test_sha256_is_of_the_header_file_then_the_image_file(tmp_path: Path) -> None:
    path = save_pair(tmp_path / "a", nib.Nifti1Pair, np.ones((4, 5, 6, 3), np.int16), gz=True)
    both = (tmp_path / "a.hdr").read_bytes() + path.read_bytes()
    with VolumeReader(path) as reader:
        assert len(list(reader)) == 3
    assert (reader.bytes_read, reader.sha256) == (len(both), hashlib.sha256(both).hexdigest())


def test_what_is_no_usable_pair(tmp_path: Path) -> None:
    path = save_pair(tmp_path / "a", nib.Nifti1Pair, np.ones((4, 5, 6, 3), np.int16))
    header = tmp_path / "a.hdr"
    with pytest.raises(InputError, match="header of an Analyze or NIfTI pair"):
        read_header(header.rename(tmp_path / "b.nii"))
    with pytest.raises(InputError, match=r"a\.img: has no a\.hdr beside it"):
        read_header(path)
    (tmp_path / "b.nii").rename(header)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptionError, match=r"a\.img: ends after volume 2 of 3"):
        list(volumes(header))
    header.write_bytes(header.read_bytes()[:100])
    with pytest.raises(CorruptionError, match=r"a\.hdr: ends inside its header"):
        read_header(path)
    nib.Nifti1Image(np.ones((4, 5, 6), np.int16), AFFINE).to_filename(tmp_path / "c.nii")
    header.write_bytes((tmp_path / "c.nii").read_bytes())
    with pytest.raises(InputError, match=r"a\.hdr: says that the data follow in the same file"):
        read_header(path)


def test_a_run_of_one_file_is_not_written_as_a_pair(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((4, 5, 6, 3), np.int16), AFFINE)
    image.header["pixdim"][4] = 2
    image.to_filename(tmp_path / "a.nii")
    study = create_study(tmp_path / "study", read_header(tmp_path / "a.nii").grid, np.ones((4, 5, 6), bool))
    write_run(study.objects, "r", tmp_path / "a.nii")
    with pytest.raises(InputError, match="pair"):
        study.export_run("r", tmp_path / "b.img")


@pytest.mark.parametrize(
    ("name", "what"),
    [("a+orig.HEAD", "AFNI.*3dAFNItoNIFTI"), ("a+orig.BRIK.gz", "AFNI"), ("a.mgz", "FreeSurfer.*mri_convert")],
)
def test_other_formats_are_refused_by_name_with_what_converts_them(tmp_path, name, what):
    with pytest.raises(InputError, match=rf"{name.replace('+', '[+]')}: is an? {what}"):
        read_header(tmp_path / name)


#: What comes of every file of the folder of samples; others are read.
REFUSED = {"example4d+orig.BRIK.gz": "AFNI", "example4d+orig.HEAD": "AFNI", "README.txt": "not a NIfTI"}


def test_every_format_sample_is_read_as_nibabel_reads_it_or_refused_with_a_word(voxloom_data: Path) -> None:
    paths = sorted((voxloom_data / "data/format_samples").iterdir())
    assert len(paths) >= 12
    for path in paths:
        if path.name in REFUSED:
            with pytest.raises(InputError, match=REFUSED[path.name]):
                read_header(path)
            continue
        wanted = nib.load(path)
        info = read_header(path)
        np.testing.assert_allclose(info.grid.matrix, wanted.affine, atol=1e-5)
        last = [info.physical(volume) for volume in volumes(path)][-1]
        np.testing.assert_array_equal(last, wanted.dataobj[..., -1] if wanted.ndim > 3 else wanted.dataobj)
        assert bool(info.assumed) == ("badheader" in path.name)
