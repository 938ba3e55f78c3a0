"""Sites that share sums: the pooled model of their files is that of all maps; what does not fit together is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import voxloom
from voxloom.cli import app
from voxloom.errors import CorruptionError, InputError
from voxloom.io.maps import sums as sums_file
from voxloom.pipeline.site_sums.api import pooled_analysis

if TYPE_CHECKING:
    from pathlib import Path

SHAPE, AFFINE = (6, 7, 5), np.diag([3.0, 3.0, 3.0, 1.0])
SITES = {"oslo": 7, "kiel": 6, "rome": 8}
FORMULA = "1 + I(age - 40) + C(site, levels=['kiel', 'oslo', 'rome']) + C(sex, levels=['f', 'm'])"
SITE = "C(site, levels=['kiel', 'oslo', 'rome'])"
CONTRASTS = {"age": "I(age - 40)", "site": SITE}


def save(values: np.ndarray, path: Path, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Maps of three sites, some voxels missing, one table each and one of all, and the files of sums."""
    folder = tmp_path_factory.mktemp("sites")
    rng = np.random.default_rng(8)
    rows = []
    for site, n in SITES.items():
        for i in range(n):
            values = rng.standard_normal(SHAPE) * 50 + 1000
            values[rng.random(SHAPE) < 0.02] = np.nan
            name = f"sub-{site}{i}_cope.nii.gz"
            save(values, folder / name)
            rows.append({"path": name, "site": site, "age": round(rng.uniform(20, 70), 1), "sex": "fm"[i % 2]})
    table = pd.DataFrame(rows)
    table.to_csv(folder / "all.tsv", sep="\t", index=False)
    save(rng.random(SHAPE) < 0.9, folder / "mask.nii.gz")
    for site, own in table.groupby("site"):
        own.to_csv(folder / f"{site}.tsv", sep="\t", index=False)
        assert export(folder, folder / f"{site}.npz", folder / f"{site}.tsv").ok
    return folder


def export(folder: Path, path: Path, maps: Any, **options: Any) -> Any:
    given = {"mask": folder / "mask.nii.gz", "formula": FORMULA, "min_n": 1, "cluster": "threads"}
    return voxloom.export_sums(maps, path, **given | options)


def files(folder: Path) -> list[Path]:
    return [folder / f"{site}.npz" for site in SITES]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("whole") / "out"
    options = {"mask": folder / "mask.nii.gz", "formula": FORMULA, "contrasts": CONTRASTS, "cluster": "threads"}
    return voxloom.group_maps(folder / "all.tsv", output=output, **options).maps.load()


def require_equal(found: Any, whole: Any) -> None:
    for name in ("n", "dof"):
        np.testing.assert_array_equal(found[name], whole[name], err_msg=name)
    for name in ("effect", "variance", "stat", "z_score", "p_value", "p_fdr"):
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-9, atol=1e-12, err_msg=name)
    kept = np.isfinite(whole["stat"]).all("group_contrast")
    scale = np.abs(whole["effect"][0]).max()
    assert float(np.abs(found["effect"][0] - whole["effect"][0]).where(kept).max() / scale) < 1e-12


def test_the_pooled_model_of_three_sites_is_that_of_all_maps(
    folder: Path, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"contrasts": CONTRASTS, "cluster": "threads"}
    found = voxloom.pool_sums(files(folder), output=tmp_path / "pooled", export=tmp_path / "all.npz", **options)
    assert found.ok
    require_equal(found.maps, whole)
    assert found.maps.attrs["stat_type"] == ["t", "F"]
    again = voxloom.pool_sums(tmp_path / "all.npz", output=tmp_path / "again", **options)
    require_equal(again.maps, whole)
    (path,) = (tmp_path / "pooled/group/maps").glob("*test-age_stat-t_statmap.nii.gz")
    mask = nibabel.load(folder / "mask.nii.gz").get_fdata() > 0
    np.testing.assert_allclose(nibabel.load(path).get_fdata()[mask], whole["stat"][0], rtol=1e-6)
    assert json.loads(path.with_name("model-maps_design.json").read_text())["Sites"] == SITES


def test_voxels_with_few_maps_are_left_out_as_of_maps(folder: Path, whole: Any, tmp_path: Path) -> None:
    least = sum(SITES.values())
    options = {"contrasts": CONTRASTS, "min_n": least, "cluster": "threads"}
    found = voxloom.pool_sums(files(folder), output=tmp_path / "out", **options).maps
    for name in ("effect", "variance", "stat", "p_value"):
        np.testing.assert_allclose(found[name], whole[name].where(whole["n"] == least), rtol=1e-9)
    with pytest.raises(InputError, match="min_n"):
        voxloom.pool_sums(files(folder), output=tmp_path / "no", **options | {"min_n": 99})


def test_sums_in_memory_and_in_files_are_the_same(folder: Path, whole: Any, tmp_path: Path) -> None:
    maps = voxloom.from_nifti(sorted(folder.glob("sub-oslo*")), mask=folder / "mask.nii.gz", dim="map")
    table = pd.read_csv(folder / "oslo.tsv", sep="\t").set_index(maps["map"].to_index())
    own = voxloom.group_sums(maps.chunk(voxel=50), voxloom.group_design(table, FORMULA))
    found = voxloom.load_sums(voxloom.save_sums(own, tmp_path / "oslo.npz", site="oslo"))
    for sums in (own.compute(), voxloom.load_sums(folder / "oslo.npz")):
        for name in ("xtx", "xty", "yty", "n", "voxel"):
            np.testing.assert_array_equal(found[name], sums[name])
    assert found.attrs["sites"] == {"oslo": 7}
    pooled = voxloom.merge_sums(*map(voxloom.load_sums, files(folder)))
    fit = voxloom.contrast(voxloom.fit_sums(pooled), "I(age - 40)")
    np.testing.assert_allclose(fit["stat"], whole["stat"][0], rtol=1e-9)


def test_no_sum_depends_on_blocks_or_stretches(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("stored.maps", "stages.group", "given_maps.gather"):
        monkeypatch.setattr(f"voxloom.pipeline.{module}.MAP_SHARD_VOXELS", 64)
    monkeypatch.setattr("voxloom.pipeline.stored.maps.MAP_CHUNK_VOXELS", 32)
    monkeypatch.setattr(sums_file, "LEAST", 16)
    monkeypatch.setattr(sums_file, "BLOCK_BYTES", 1)
    assert export(folder, tmp_path / "rome.npz", folder / "rome.tsv").ok
    with zipfile.ZipFile(tmp_path / "rome.npz") as archive:
        assert "000010/xtx.npy" in archive.namelist()
    cut = voxloom.load_sums(tmp_path / "rome.npz")
    monkeypatch.undo()
    for name, values in voxloom.load_sums(folder / "rome.npz").data_vars.items():
        np.testing.assert_array_equal(cut[name], values)


def test_one_person_joins_and_leaves_without_the_others_maps(folder: Path, tmp_path: Path) -> None:
    table = pd.read_csv(folder / "rome.tsv", sep="\t")
    table["path"] = [str(folder / name) for name in table["path"]]
    table[:-1].to_csv(tmp_path / "rest.tsv", sep="\t", index=False)
    table[-1:].to_csv(tmp_path / "last.tsv", sep="\t", index=False)
    rest, last = tmp_path / "rest.npz", tmp_path / "last.tsv"
    export(folder, rest, tmp_path / "rest.tsv", site="rome")
    assert export(folder, tmp_path / "with.npz", last, add_to=rest, mask=None, min_n=None).ok
    assert export(folder, tmp_path / "without.npz", last, remove_from=folder / "rome.npz", mask=None, min_n=None).ok
    for found, wanted in (("with.npz", folder / "rome.npz"), ("without.npz", rest)):
        one, two = voxloom.load_sums(tmp_path / found), voxloom.load_sums(wanted)
        for name in ("xtx", "xty", "yty"):
            np.testing.assert_array_equal(one[name][0], two[name][0], err_msg=f"{found} {name}")
        np.testing.assert_array_equal(one["n"], two["n"])
        kept = ("sites", "cells", "regressors", "coding", "min_n")
        assert {key: one.attrs[key] for key in kept} == {key: two.attrs[key] for key in kept}
        assert sorted(one.attrs["maps"]) == sorted(two.attrs["maps"])
    with pytest.raises(InputError, match="1 of the maps are in both, by their values"):
        export(folder, tmp_path / "no.npz", last, add_to=folder / "rome.npz", mask=None)
    with pytest.raises(InputError, match="1 of the maps are not in them, by their values"):
        export(folder, tmp_path / "no.npz", last, remove_from=rest, mask=None)


def test_small_cells_are_refused_and_left_out(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fewer than 10 maps \(maps: 7, intercept: 7,"):
        export(folder, tmp_path / "no.npz", folder / "oslo.tsv", min_n=None)
    with pytest.raises(InputError, match=r"fewer than 4 maps \(C\(sex, levels=\['f', 'm'\]\)\[T.m\]: 3\)"):
        export(folder, tmp_path / "no.npz", folder / "oslo.tsv", min_n=4)
    table = pd.read_csv(folder / "rome.tsv", sep="\t").assign(sex=["f", *"mmmmmmm"])  # the reference is one person
    table["path"] = [str(folder / name) for name in table["path"]]
    table.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match=r"fewer than 3 maps \(without C\(sex, levels=\['f', 'm'\]\): 1\)"):
        export(folder, tmp_path / "no.npz", tmp_path / "t.tsv", min_n=3)
    assert not (tmp_path / "no.npz").exists()
    export(folder, tmp_path / "oslo.npz", folder / "oslo.tsv", min_n=3)
    sums = voxloom.load_sums(tmp_path / "oslo.npz")
    men = sums["xtx"].sel(part="high", regressor="C(sex, levels=['f', 'm'])[T.m]")[-1]
    assert set(np.unique(men)) <= {0, 3}  # at a voxel where one is missing, two are not told
    assert (men == 0).any()


def changed(folder: Path, work: Path, formula: str = FORMULA, affine: np.ndarray = AFFINE, mask: Any = None) -> Path:
    """Sums of Rome of another design, grid or mask."""
    table = pd.read_csv(folder / "rome.tsv", sep="\t")
    for name in table["path"]:
        save(nibabel.load(folder / name).get_fdata(), work / name, affine)
    table.to_csv(work / "rome.tsv", sep="\t", index=False)
    mask = save(
        nibabel.load(folder / "mask.nii.gz").get_fdata() if mask is None else mask, work / "mask.nii.gz", affine
    )
    export(folder, work / "rome.npz", work / "rome.tsv", formula=formula, mask=mask)
    return work / "rome.npz"


def rewritten(folder: Path, work: Path, **changes: Any) -> Path:
    """Sums of Rome whose header says something else, sealed anew."""
    found = sums_file.open_sums(folder / "rome.npz")
    blocks = (found.read(block) for block in found.blocks())
    return sums_file.write_sums(work / "rome.npz", found.attrs | changes, found.grid, found.voxel, blocks)


def newer(folder: Path, work: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums_file, "VERSION", 9)
        return rewritten(folder, work)


def flipped(folder: Path, work: Path) -> Path:
    shutil.copy(folder / "rome.npz", work / "rome.npz")
    raw = bytearray((work / "rome.npz").read_bytes())
    raw[len(raw) // 2] ^= 1
    (work / "rome.npz").write_bytes(raw)
    return work / "rome.npz"


def cut_short(folder: Path, work: Path) -> Path:
    (work / "rome.npz").write_bytes((folder / "rome.npz").read_bytes()[:-500])
    return work / "rome.npz"


REFUSED = {
    "another design": (lambda f, w: changed(f, w, FORMULA.replace("I(age - 40)", "age")), "are of the designs"),
    "another centre": (lambda f, w: changed(f, w, FORMULA.replace("I(age - 40)", "center(age)")), "of the designs"),
    "another coding": (
        lambda f, w: rewritten(f, w, coding={SITE: "treatment coding of rome, oslo, kiel"}),
        "are coded as .* Code and centre covariates alike",
    ),
    "another grid": (lambda f, w: changed(f, w, affine=np.diag([2.0, 2, 2, 1])), "grid of shape .* is wanted"),
    "another mask": (lambda f, w: changed(f, w, mask=np.ones(SHAPE)), "are of other voxels"),
    "another version of sums": (lambda f, w: rewritten(f, w, sums_version=2), "have the version 2, but 1 is wanted"),
    "a newer file": (newer, "is voxloom sums 9, .*Update voxloom"),
    "the same maps": (lambda f, w: f / "oslo.npz", "7 of the maps are in both"),
    "no file": (lambda f, w: w / "none.npz", "none.npz: no such file"),
    "another kind of file": (lambda f, w: f / "all.tsv", "all.tsv: is no file of sums"),
    "a file cut short": (cut_short, "rome.npz: is no file of sums, or cut short"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_sums_that_do_not_go_together_are_refused(folder: Path, tmp_path: Path, case: str) -> None:
    make, text = REFUSED[case]
    path = make(folder, tmp_path)
    with pytest.raises(InputError, match=text):
        pooled_analysis([folder / "oslo.npz", folder / "kiel.npz", path], output=tmp_path / "out", model={})
    assert not (tmp_path / "out.zarr").exists()


def test_a_damaged_block_is_named_and_costs_the_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CorruptionError, match=r"rome.npz: 000000/\w+.npy"):
        voxloom.load_sums(flipped(folder, tmp_path))
    found = voxloom.pool_sums([folder / "oslo.npz", tmp_path / "rome.npz"], output=tmp_path / "out", cluster="threads")
    assert not found.ok
    assert "Ask for the file again" in found.quarantined[0].reason


def test_the_command_merges_and_says_what_is_wrong(folder: Path, whole: Any, tmp_path: Path) -> None:
    def said(*args: object) -> Any:
        return CliRunner().invoke(app, ["group", *map(str, args), "--cluster", "threads"])

    args = [folder / "kiel.tsv", "--mask", folder / "mask.nii.gz", "--formula", FORMULA]
    made = said(*args, "--export-sums", tmp_path / "kiel.npz", "--min-n", 3)
    assert made.exit_code == 0, made.output
    assert "kiel.npz: 6 maps (6 of kiel), 5 regressors" in made.stdout
    merge = ["--merge-sums", folder / "oslo.npz", tmp_path / "kiel.npz", folder / "rome.npz"]
    done = said(*merge, "--contrast", "age = I(age - 40)", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "sites  7 of oslo, 6 of kiel, 8 of rome" in done.stdout
    wrong = {
        (*merge,): "--output: is missing",
        (*merge, "-o", tmp_path / "no", "--formula", "age"): "--formula: is given beside --merge-sums",
        (*merge, "-o", tmp_path / "no", "--estimator", "sandwich"): "Sums tell of the pooled least squares alone",
        (*merge, "-o", tmp_path / "no", "--n-perm", 100): "Sums have no maps to rearrange",
        (*merge, "-o", tmp_path / "no", "--contrast", "agee"): "not found in design matrix: 'agee'",
        (args[0], "--formula", FORMULA, "--export-sums", tmp_path / "no.npz"): "mask: is missing",
        (*args, "-o", tmp_path / "no", "--add-to", folder / "oslo.npz"): "--add-to: is given beside maps alone",
        ("--export-sums", tmp_path / "no.npz"): "MAPS: are missing",
    }
    for command, text in wrong.items():
        found = said(*command)
        assert found.exit_code == 2, found.output
        assert text in found.stderr
