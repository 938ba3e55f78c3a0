"""`voxloom group`: the numbers of `fit_group` on the same maps, from files alone; wrong input is one clear message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import voxloom
from voxloom.cli import app
from voxloom.errors import InputError
from voxloom.pipeline.given_maps import gather

if TYPE_CHECKING:
    from pathlib import Path

SHAPE, AFFINE = (6, 7, 5), np.diag([3.0, 3.0, 3.0, 1.0])
PEOPLE = [f"sub-{i:02d}" for i in range(1, 7)]
FORMULA = "1 + age + C(session_id)"


def save(values: np.ndarray, path: Path, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of six people seen twice: maps, variances, a mask, participants and sessions."""
    folder = tmp_path_factory.mktemp("group")
    rng = np.random.default_rng(3)
    rows = [(person, session) for person in PEOPLE for session in ("ses-1", "ses-2")]
    sites = dict(zip(PEOPLE, ["oslo", "kiel"] * 3))
    for person, session in rows:
        stem = f"{person}_{session}_task-x"
        save(rng.standard_normal(SHAPE) + (session == "ses-2"), folder / f"{stem}_cope.nii.gz")
        save(rng.uniform(0.5, 2, SHAPE), folder / f"{stem}_varcope.nii.gz")
    people = pd.DataFrame({"participant_id": PEOPLE, "site": sites.values(), "sex": list("fmffmm")})
    people.iloc[::-1].to_csv(folder / "participants.tsv", sep="\t", index=False)
    for person in PEOPLE:
        (folder / person).mkdir()
        age = {"session_id": ["ses-2", "ses-1"], "age": rng.uniform(20, 60, 2).round(1)}
        pd.DataFrame(age).to_csv(folder / person / f"{person}_sessions.tsv", sep="\t", index=False)
    save(rng.random(SHAPE) < 0.9, folder / "mask.nii.gz")
    return folder


def invoke(*args: object) -> Any:
    return CliRunner().invoke(app, ["group", *map(str, args), "--cluster", "threads"])


def given(folder: Path) -> tuple[Any, pd.DataFrame]:
    """Maps with variances in memory, and what is known of them, put together by hand."""
    paths = sorted(folder.glob("*_cope.nii.gz"))
    maps = voxloom.from_nifti(paths, mask=folder / "mask.nii.gz", dim="map")
    variances = voxloom.from_nifti(sorted(folder.glob("*_varcope.nii.gz")), mask=folder / "mask.nii.gz", dim="map")
    maps["variance"] = variances["effect"].assign_coords(map=maps["map"])
    people = pd.read_csv(folder / "participants.tsv", sep="\t").set_index("participant_id")
    rows = []
    for path in paths:
        person, session, *_ = path.name.split("_")
        sessions = pd.read_csv(folder / person / f"{person}_sessions.tsv", sep="\t").set_index("session_id")
        age = sessions.loc[session, "age"]
        rows.append({"participant_id": person, "session_id": session, "age": age, **people.loc[person]})
    return maps, pd.DataFrame(rows, index=maps["map"].to_index())


ESTIMATORS = {
    "ols": {"formula": f"{FORMULA} + C(participant_id)"},
    "sandwich": {"groups": "participant_id"},
    "random-intercept": {"groups": "participant_id"},
    "unequal-variances": {"groups": "site", "formula": "0 + C(site) + age"},
    "reml": {"formula": f"{FORMULA} + C(participant_id)"},
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_numbers_are_those_of_fit_group(folder: Path, tmp_path: Path, estimator: str) -> None:
    options = {"formula": FORMULA} | ESTIMATORS[estimator]
    contrast = "`C(site)[kiel]` - `C(site)[oslo]`" if estimator == "unequal-variances" else "age"
    done = voxloom.group_maps(
        folder / "*_cope.nii.gz",
        variances=folder / "*_varcope.nii.gz",
        mask=folder / "mask.nii.gz",
        table=folder,
        contrasts={"asked": contrast},
        estimator=estimator,
        output=tmp_path / "out",
        cluster="threads",
        **options,
    )
    assert done.ok
    maps, table = given(folder)
    design = voxloom.group_design(table, options["formula"])
    groups = table[options["groups"]] if "groups" in options else None
    fit = voxloom.fit_group(maps, design, estimator=estimator, groups=groups)
    wanted = voxloom.contrast(fit, contrast)
    for name in ("effect", "variance", "stat", "dof", "z_score"):
        np.testing.assert_allclose(done.maps[name][0], wanted[name], rtol=1e-8, err_msg=name)
    np.testing.assert_allclose(done.maps["p_fdr"][0], voxloom.fdr(wanted["z_score"]), rtol=1e-6)
    (path,) = (tmp_path / "out/group/maps").glob("*test-asked_stat-t_statmap.nii.gz")
    mask = nibabel.load(folder / "mask.nii.gz").get_fdata() > 0
    np.testing.assert_allclose(nibabel.load(path).get_fdata()[mask], wanted["stat"], rtol=1e-6)


def test_the_command_does_the_same_from_one_table_and_states_the_coding(folder: Path, tmp_path: Path) -> None:
    maps, table = given(folder)
    listed = table.assign(path=[f"{name}.nii.gz" for name in table.index])
    listed["variance"] = listed["path"].str.replace("_cope", "_varcope")
    listed.sample(frac=1, random_state=0).to_csv(folder / "maps.csv", index=False)
    args = [folder / "maps.csv", "--mask", folder / "mask.nii.gz", "--formula", "center(age) + C(participant_id)"]
    said = invoke(*args, "--contrast", "center(age)", "--estimator", "paule-mandel", "-o", tmp_path / "out")
    assert said.exit_code == 0, said.output
    assert f"{len(maps['map'])} maps" in said.stdout
    design = voxloom.group_design(table, "center(age) + C(participant_id)")
    wanted = voxloom.contrast(voxloom.fit_group(maps, design, estimator="paule-mandel"), "center(age)")
    (path,) = (tmp_path / "out/group/maps").glob("*_stat-z_statmap.nii.gz")
    mask = nibabel.load(folder / "mask.nii.gz").get_fdata() > 0
    np.testing.assert_allclose(nibabel.load(path).get_fdata()[mask], wanted["z_score"], rtol=1e-5)
    content = json.loads((tmp_path / "out/group/maps/model-maps_design.json").read_text())
    assert content["Terms"]["center(age)"] == ["center(age)"]
    assert content["Coding"]["center(age)"] == f"center {table.age.mean():.6g}"
    assert content["Coding"]["C(participant_id)"].startswith("treatment coding of sub-01, sub-02")


def test_no_number_depends_on_how_maps_and_variances_are_cut(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"variances": folder / "*_varcope.nii.gz", "mask": folder / "mask.nii.gz", "estimator": "fixed"}
    options |= {"formula": "0 + C(participant_id)", "contrasts": {"a": "`C(participant_id)[sub-01]`"}}
    whole = voxloom.group_maps(folder / "*_cope.nii.gz", output=tmp_path / "whole", cluster="threads", **options)
    for module in ("stored.maps", "stages.group", "given_maps.gather"):
        monkeypatch.setattr(f"voxloom.pipeline.{module}.MAP_SHARD_VOXELS", 64)
    monkeypatch.setattr("voxloom.pipeline.stored.maps.MAP_CHUNK_VOXELS", 32)
    monkeypatch.setattr(gather, "MAP_CHUNK_MAPS", 5)
    monkeypatch.setattr(gather, "gather_piece", lambda *_: 64)
    cut = voxloom.group_maps(folder / "*_cope.nii.gz", output=tmp_path / "cut", cluster="threads", **options)
    for name in ("effect", "variance", "stat", "n"):
        np.testing.assert_array_equal(cut.maps[name], whole.maps[name])


def test_maps_are_left_out_only_when_told_to_and_then_as_if_they_had_never_been(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, table = given(folder)
    table.loc["sub-03_ses-1_task-x_cope", "age"] = np.inf
    lacking = table.drop(index="sub-05_ses-2_task-x_cope").rename_axis("map")
    lacking.to_csv(tmp_path / "t.tsv", sep="\t")
    options = {"mask": folder / "mask.nii.gz", "table": tmp_path / "t.tsv", "contrasts": {"age": "age"}}
    options |= {"formula": "age + C(participant_id)", "cluster": "threads"}
    with pytest.raises(InputError, match="no row names the map sub-05_ses-2_task-x_cope"):
        voxloom.group_maps(folder / "*_cope.nii.gz", output=tmp_path / "no", **options)
    monkeypatch.setattr(gather, "MAP_CHUNK_MAPS", 4)
    done = voxloom.group_maps(folder / "*_cope.nii.gz", output=tmp_path / "drop", missing="drop", **options)
    gone = {f"{person}_{session}_task-x_cope" for person in ("sub-03", "sub-05") for session in ("ses-1", "ses-2")}
    (note,) = [text for text in done.warnings if "fitted without" in text]
    assert all(name in note for name in gone)  # those without a row or an age, and the other map of their pair
    kept = [folder / f"{name}.nii.gz" for name in table.index if name not in gone]
    lacking.drop(index=list(gone), errors="ignore").to_csv(tmp_path / "kept.tsv", sep="\t")
    alone = voxloom.group_maps(kept, output=tmp_path / "alone", **options | {"table": tmp_path / "kept.tsv"})
    for name in ("effect", "stat", "n"):
        np.testing.assert_array_equal(done.maps[name], alone.maps[name])


def test_an_interrupted_model_goes_on_where_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "MAP_CHUNK_MAPS", 5)
    options = {
        "mask": folder / "mask.nii.gz",
        "estimator": "sandwich",
        "groups": "participant_id",
        "cluster": "threads",
    }
    seen: list[str] = []

    def stop(event: Any) -> None:
        if getattr(event, "record", None) is not None:
            seen.append(f"{event.stage} {event.record.key}")
            if len(seen) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        voxloom.group_maps(folder / "*_cope.nii.gz", output=tmp_path / "out", on_event=stop, **options)
    done = voxloom.group_maps(folder / "*_cope.nii.gz", output=tmp_path / "out", on_event=stop, **options)
    assert done.ok
    assert len(seen) == len(set(seen))


def test_permutations_can_be_asked_for(folder: Path, tmp_path: Path) -> None:
    args = [folder / "*_cope.nii.gz", "--mask", folder / "mask.nii.gz", "--blocks", "participant_id"]
    args += ["--formula", "C(session_id) + C(participant_id)", "--contrast", "C(session_id)[T.ses-2]"]
    said = invoke(*args, "--n-perm", 40, "-o", tmp_path / "out")
    assert said.exit_code == 0, said.output
    assert "p_max_stat" in said.stdout
    assert "p_bonferroni" in said.stdout


# Wrong input: (what is given beside the maps, exit code, what is said).


def other_grid(folder: Path, work: Path) -> list[object]:
    (work / "v").mkdir()
    for path in sorted(folder.glob("*_varcope.nii.gz")):
        save(np.ones(SHAPE), work / "v" / path.name, np.diag([2.0, 2, 2, 1]))
    return ["--variances", work / "v/*.nii.gz", "--estimator", "reml"]


def bad_variance(folder: Path, work: Path, value: float) -> list[object]:
    (work / "v").mkdir()
    for path in sorted(folder.glob("*_varcope.nii.gz")):
        save(np.full(SHAPE, value if "sub-02_ses-1" in path.name else 1.0), work / "v" / path.name)
    return ["--variances", work / "v/*.nii.gz", "--estimator", "reml", "--formula", "0 + C(participant_id)"]


def negative_variance(folder: Path, work: Path) -> list[object]:
    return [*bad_variance(folder, work, -1.0), "--contrast", "C(participant_id)[sub-01]"]


def zero_variance(folder: Path, work: Path) -> list[object]:
    return [*bad_variance(folder, work, 0.0), "--contrast", "C(participant_id)[sub-01]"]


def few_variances(folder: Path, work: Path) -> list[object]:
    return ["--variances", folder / "sub-01_*_varcope.nii.gz", "--estimator", "reml"]


def no_variances(folder: Path, work: Path) -> list[object]:
    return ["--estimator", "reml", "--formula", "C(participant_id)", "--contrast", "intercept"]


def maps_as_variances(folder: Path, work: Path) -> list[object]:
    return ["--variances", folder / "*_cope.nii.gz", "--estimator", "reml"]


def broken_formula(folder: Path, work: Path) -> list[object]:
    return ["--table", folder, "--formula", "age +", "--contrast", "age"]


def dependent_terms(folder: Path, work: Path) -> list[object]:
    return ["--table", folder, "--formula", "C(participant_id) + C(site)", "--contrast", "site = C(site)"]


def no_contrast(folder: Path, work: Path) -> list[object]:
    return ["--table", folder, "--formula", "age"]


def no_such_mask(folder: Path, work: Path) -> list[object]:
    return ["--mask", work / "none.nii.gz", "--groups", "participant_id", "--estimator", "sandwich"]


def nothing_left(folder: Path, work: Path) -> list[object]:
    (work / "t.tsv").write_text("participant_id\tx\nsub-07\t1\n")
    return ["--table", work / "t.tsv", "--formula", "1", "--contrast", "intercept", "--missing", "drop"]


def unknown_estimator(folder: Path, work: Path) -> list[object]:
    return ["--estimator", "remll"]


def doubled_people(folder: Path, work: Path) -> list[object]:
    return ["--table", folder, "--formula", "age", "--contrast", "age"]


def doubled_row(folder: Path, work: Path) -> list[object]:
    rows = [f"{person}\t{i}" for i, person in enumerate([*PEOPLE, "sub-02"])]
    (work / "t.tsv").write_text("participant_id\tage\n" + "\n".join(rows))
    return ["--table", work / "t.tsv", "--formula", "age", "--contrast", "age", "--missing", "drop"]


def absent_people(folder: Path, work: Path) -> list[object]:
    rows = [f"{person}\t{i}" for i, person in enumerate([*PEOPLE[:-1], "sub-6"])]
    (work / "t.tsv").write_text("participant_id\tage\n" + "\n".join(rows))
    return ["--table", work / "t.tsv", "--formula", "age", "--contrast", "age"]


def covariate_of(work: Path, values: list[str]) -> list[object]:
    rows = [f"{person}\t{value}" for person, value in zip(PEOPLE, values)]
    (work / "t.tsv").write_text("participant_id\tx\n" + "\n".join(rows))
    return ["--table", work / "t.tsv", "--groups", "participant_id", "--estimator", "sandwich"]


def missing_covariate(folder: Path, work: Path) -> list[object]:
    return [*covariate_of(work, ["1", "2", "n/a", "4", "inf", "6"]), "--formula", "x", "--contrast", "x"]


def one_level(folder: Path, work: Path) -> list[object]:
    return [*covariate_of(work, ["a"] * 6), "--formula", "C(x)", "--contrast", "intercept"]


def few_maps(folder: Path, work: Path) -> list[object]:
    return ["--formula", "C(participant_id) * C(session_id)", "--contrast", "intercept"]


def no_such_table(folder: Path, work: Path) -> list[object]:
    return ["--table", work / "none.tsv", "--formula", "age", "--contrast", "age"]


def unknown_column(folder: Path, work: Path) -> list[object]:
    return ["--table", folder, "--formula", "aeg", "--contrast", "aeg"]


def unknown_groups(folder: Path, work: Path) -> list[object]:
    return ["--table", folder, "--groups", "sit", "--estimator", "sandwich"]


def column_twice(folder: Path, work: Path) -> list[object]:
    return [*covariate_of(work, list("abcdef")), "--table", work / "t.tsv", "--formula", "1", "--contrast", "intercept"]


def small_memory(folder: Path, work: Path) -> list[object]:
    return ["--memory-budget", "1MiB"]


BAD = {
    other_grid: (2, "sub-01_ses-1_task-x_varcope.nii.gz: grid of shape"),
    negative_variance: (1, "variance of map sub-02_ses-1_task-x_cope: is negative or 0 at"),
    zero_variance: (1, "variance of map sub-02_ses-1_task-x_cope: is negative or 0 at"),
    few_variances: (2, "variances: are 2 in 2 files, but there are 12 maps in 12 files"),
    no_variances: (2, "needs the variances of the maps"),
    maps_as_variances: (2, "sub-01_ses-1_task-x_cope.nii.gz: is given as a map and as a variance"),
    broken_formula: (2, "insuffient arguments and/or is misplaced. Columns: ["),
    dependent_terms: (2, "the columns ['C(site)[T.oslo]'] depend on the others"),
    no_contrast: (2, "group.maps.contrasts: is missing, but a formula needs them"),
    no_such_mask: (2, "none.nii.gz: is not a file"),
    nothing_left: (2, "t.tsv: none of its rows names a map; they name sub-07"),
    unknown_estimator: (2, "group.maps.estimator: is 'remll'"),
    doubled_people: (2, "sub-01, sub-02, sub-03, sub-04, sub-05, sub-06 have several maps each"),
    doubled_row: (2, "2 rows name the map sub-02_ses-1_task-x_cope"),
    absent_people: (2, "no row names the map sub-06_ses-1_task-x_cope, sub-06_ses-2_task-x_cope in the column"),
    missing_covariate: (2, "`x` is missing or not finite for sub-03_ses-1_task-x_cope"),
    one_level: (2, "has the one level a, which tells nothing"),
    few_maps: (2, "12 maps cannot determine 12 independent regressors"),
    no_such_table: (2, "none.tsv: no such file"),
    unknown_column: (2, "no column is named ['aeg']"),
    unknown_groups: (2, "Did you mean `site`?"),
    column_twice: (2, "has x, which another table has"),
    small_memory: (2, "less than the smallest budget"),
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_bad_input_is_one_clear_message(folder: Path, tmp_path: Path, bad: Any) -> None:
    code, text = BAD[bad]
    args = [folder / "*_cope.nii.gz", "--mask", folder / "mask.nii.gz"]
    said = invoke(*args, *bad(folder, tmp_path), "-o", tmp_path / "out")
    assert said.exit_code == code, said.output
    assert text in said.stderr
    assert "Traceback" not in said.stderr


def test_an_unpaired_person_is_named(folder: Path, tmp_path: Path) -> None:
    files = [path for path in sorted(folder.glob("*_cope.nii.gz")) if "sub-04_ses-2" not in path.name]
    options = {"formula": "C(session_id) + C(participant_id)", "contrasts": {"a": "C(session_id)[T.ses-2]"}}
    with pytest.raises(InputError, match=r"group.maps: sub-04 have one map, where the design compares"):
        voxloom.group_maps(files, output=tmp_path / "out", **options)
