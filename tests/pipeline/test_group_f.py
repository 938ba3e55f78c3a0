"""F contrasts of group models out of core: the numbers of `permutation_test` and statsmodels, by any spelling."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy import special

import voxloom
from voxloom.errors import InputError
from voxloom.pipeline.given_maps.line import run_maps
from voxloom.spec import parse_maps_analysis

if TYPE_CHECKING:
    from pathlib import Path

SHAPE, N_MAPS, N_PERM = (6, 6, 5), 14, 100
FORMULA = "0 + C(group) + age"
ROWS = ["`C(group)[a]` - `C(group)[b]`", "`C(group)[b]` - `C(group)[c]`"]
CONTRASTS = {
    "a - b": ROWS[0],
    "b - c": ROWS[1],
    "age": "age",
    "groups": ROWS,
    "together": {"contrasts": ["a - b", "b - c"]},
    "weights": [[1, -1, 0, 0], [0, 1, -1, 0]],
    "by name": {"weights": [{"C(group)[a]": 1, "C(group)[b]": -1}, {"C(group)[b]": 1, "C(group)[c]": -1}]},
    "term": "C(group)",
    "age F": {"expression": "age", "stat_type": "F"},
}
STATISTICS = ["max_stat", "tfce", {"cluster_size": {"threshold": 0.05, "on": "stat"}}]
SPELLINGS = ("together", "weights", "by name")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("groups"), np.random.default_rng(6)
    table = pd.DataFrame({"map": [f"m{i:02d}" for i in range(N_MAPS)], "group": list("aaaaabbbbbcccc")})
    table["age"] = rng.normal(40, 9, N_MAPS)
    for i, name in enumerate(table["map"]):
        values = rng.standard_normal(SHAPE) + 0.02 * table.age[i]
        values[:2] += 1.5 * (table.group[i] == "b")
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), folder / f"{name}.nii")
    table.to_csv(folder / "table.tsv", sep="\t", index=False)
    return folder


def analysis(folder: Path, work: Path, contrasts: Any = CONTRASTS, **inference: Any) -> Any:
    wanted = {"n_perm": N_PERM, "statistics": STATISTICS} | inference
    model = {"table": str(folder / "table.tsv"), "formula": FORMULA, "contrasts": contrasts, "inference": wanted}
    raw = {
        "maps": {"files": [str(path) for path in sorted(folder.glob("*.nii"))]},
        "group": {"two": model},
        "store": {"path": str(work / "maps.zarr")},
        "output": {"dir": str(work / "out")},
        "cluster": "threads",
    }
    return parse_maps_analysis(raw)


def results(done: voxloom.RunResult) -> Any:
    return voxloom.open_study(done.store).results(done.group_names["two"]).isel(contrast=0).load()


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_maps(analysis(folder, tmp_path_factory.mktemp("done")))


@pytest.fixture(scope="module")
def design(folder: Path) -> pd.DataFrame:
    return voxloom.group_design(pd.read_csv(folder / "table.tsv", sep="\t").set_index("map"), FORMULA)


@pytest.fixture(scope="module")
def maps(folder: Path) -> Any:
    return voxloom.from_nifti(sorted(folder.glob("*.nii")))


def names_of(found: Any) -> list[str]:
    return [name for name in found if name.startswith(("p_", "null_", "tfce", "cluster")) and name != "p_value"]


@pytest.mark.parametrize("name", ["groups", "term", "age"])
def test_numbers_are_those_of_permutation_test(done: Any, design: Any, maps: Any, name: str) -> None:
    found = results(done).sel(group_contrast=name)
    wanted = voxloom.permutation_test(maps, design, CONTRASTS[name], n_perm=N_PERM, statistics=STATISTICS)
    for variable in names_of(wanted):
        np.testing.assert_array_equal(found[variable], wanted[variable], err_msg=variable)
    for variable in ("stat", "z_score"):
        np.testing.assert_allclose(found[variable], wanted[variable], rtol=1e-9, atol=1e-9)


def test_f_and_its_degrees_of_freedom_are_those_of_statsmodels(done: Any, design: Any, maps: Any) -> None:
    from statsmodels.api import OLS

    found, attrs = results(done).sel(group_contrast="groups"), results(done).attrs
    rows = np.array([[1, -1, 0, 0], [0, 1, -1, 0]])
    for voxel in range(0, found.sizes["voxel"], 37):
        wanted = OLS(maps.effect[:, voxel].to_numpy().astype(float), design.to_numpy()).fit().f_test(rows)
        at = found.isel(voxel=voxel)
        np.testing.assert_allclose([at["stat"], at["p_value"]], [wanted.fvalue, wanted.pvalue], rtol=1e-9)
        assert at["dof"] == wanted.df_denom
    place = list(CONTRASTS).index("groups")
    order = sorted(CONTRASTS).index("groups")
    assert place != order  # contrasts lie sorted by name
    assert (attrs["df1"][order], attrs["stat_type"][order]) == (2, "F")
    assert np.isnan(found["effect"]).all()
    assert np.isnan(found["variance"]).all()


def test_spellings_of_a_contrast_have_one_result(done: Any) -> None:
    found = results(done)
    for name in SPELLINGS:
        for variable in names_of(found):
            np.testing.assert_array_equal(
                found[variable].sel(group_contrast=name), found[variable].sel(group_contrast="groups")
            )


def test_f_of_one_row_is_t_squared_and_its_p_those_of_both_sides(done: Any) -> None:
    t, f = (results(done).sel(group_contrast=name) for name in ("age", "age F"))
    np.testing.assert_allclose(f["stat"], t["stat"] ** 2, rtol=1e-10)
    np.testing.assert_allclose(f["p_value"], 2 * special.ndtr(-np.abs(t["z_score"])), rtol=1e-9)
    for variable in ("p_max_stat", "p_uncorrected", "p_fdr", "p_bonferroni"):
        np.testing.assert_allclose(f[variable], t[variable], rtol=1e-9)


def test_g_of_variance_groups_is_that_of_permutation_test(folder: Path, design: Any, maps: Any, tmp_path: Path) -> None:
    done = run_maps(analysis(folder, tmp_path, {"groups": ROWS}, statistics="tfce", variance_groups="group"))
    site = pd.read_csv(folder / "table.tsv", sep="\t").group.to_numpy()
    wanted = voxloom.permutation_test(
        maps,
        design,
        ROWS,
        n_perm=N_PERM,
        statistics="tfce",
        exchangeability=voxloom.Exchangeability(variance_groups=site),
    )
    found = results(done).isel(group_contrast=0)
    np.testing.assert_array_equal(found["z_variance_groups"], wanted["stat"])
    np.testing.assert_array_equal(found["p_tfce"], wanted["p_tfce"])


def test_files_tell_f_and_have_no_effect(folder: Path, done: Any) -> None:
    written = {path.name.partition("test-groups_")[2] for path in done.output.rglob("*test-groups_*.nii.gz")}
    fitted = {f"stat-{stat}_statmap.nii.gz" for stat in ("F", "z", "p", "dof", "n")}
    assert {name for name in written if "desc" not in name} == fitted | {
        f"stat-{stat}_statmap.nii.gz" for stat in ("tfce", "clusterSize")
    }
    (path,) = done.output.rglob("*test-groups_stat-F_statmap.json")
    about = json.loads(path.read_text())["GroupTest"]
    assert (about["StatisticType"], about["NumeratorDegreesOfFreedom"]) == ("F", 2)
    assert about["Expression"] == "; ".join(ROWS)
    (path,) = done.output.rglob("*test-groups_stat-p_desc-fwe_statmap.json")
    assert json.loads(path.read_text())["Correction"]["Tail"] == "upper"
    (path,) = done.output.rglob("*test-age_stat-p_desc-fwe_statmap.json")
    assert json.loads(path.read_text())["Correction"]["Tail"] == "two-sided"


def test_no_byte_depends_on_the_layout(
    folder: Path, done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digests_of: Any
) -> None:
    monkeypatch.setattr("voxloom.pipeline.stages.spatial.map_fits", lambda *_: False)
    monkeypatch.setattr("voxloom.pipeline.stages.spatial.map_rows", lambda *_: 16)
    assert digests_of(run_maps(analysis(folder, tmp_path)).output) == digests_of(done.output)


BAD = {
    "unknown column": (["age", "agee"], "agee"),
    "other length": ([[1, 0], [0, 1]], "has 2 weights, but the design has 4 columns"),
    "t of a term": ({"expression": "C(group)", "stat_type": "t"}, "has 3 rows, too many for a t"),
    "no column": ({"weights": {"age": 0}}, "weighs no column"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_contrast_that_the_design_does_not_have_is_named_before_anything_is_made(
    folder: Path, tmp_path: Path, bad: str
) -> None:
    contrast, text = BAD[bad]
    with pytest.raises(InputError, match=text):
        run_maps(analysis(folder, tmp_path, {"bad": contrast}))
    assert not (tmp_path / "maps.zarr").exists()
