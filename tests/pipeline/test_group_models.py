"""Estimators of group models in an analysis: what the store holds is what the Python API gives on the same maps."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import voxloom
from voxloom.engine.ledger import Ledger
from voxloom.errors import DesignError, InputError, VoxloomWarning
from voxloom.models.group.estimators import ALIASES, ESTIMATORS
from voxloom.simulate import write_bids_study
from voxloom.spec import parse_analysis
from voxloom.spec.group import Estimator

AGE = {"age": "age", "any": ["intercept", "age"]}
STATISTICS = ["max_stat", "tfce"]
JOINT = {
    "formula": "1",
    "contrasts": {"mean": "intercept"},
    "inference": {"method": "permutation", "n_perm": 60, "joint": "modalities", "statistics": STATISTICS},
}
MODELS = {
    "meta": {"estimator": "reml"},
    "fixed": {"formula": "1 + age", "contrasts": AGE, "estimator": "fixed"},
    "site": {"formula": "1 + age", "contrasts": AGE, "estimator": "random-intercept", "groups": "site"},
    "sandwich": {"formula": "1 + age", "contrasts": AGE, "estimator": "sandwich"},
    "welch": {
        "formula": "0 + C(sex)",
        "contrasts": {"difference": "`C(sex)[F]` - `C(sex)[M]`", "sexes": "C(sex)"},
        "estimator": "unequal-variances",
        "groups": "sex",
    },
}


@pytest.fixture(scope="module")
def done(tmp_path_factory, request):
    analysis_of = request.getfixturevalue("analysis_of")
    folder = tmp_path_factory.mktemp("estimators")
    write_bids_study(folder / "bids", n_subjects=9, n_runs=1, shape=(6, 7, 5), n_volumes=40, seed=4)
    table = pd.read_csv(folder / "bids/participants.tsv", sep="\t")
    table.assign(sex=list("FFFFFMMMM"), site=["x", "y", "z"] * 3).to_csv(
        folder / "bids/participants.tsv", sep="\t", index=False
    )
    first_level = {"contrasts": {"faceVsHouse": "face - house", "house": "house"}}
    analysis = analysis_of(folder / "bids", folder, first_level=first_level, group=MODELS | {"joint": JOINT})
    result = voxloom.run(analysis)
    assert result.ok, result
    return folder, analysis, result


@pytest.mark.parametrize("name", MODELS)
def test_results_are_those_of_the_python_functions(done, name):
    folder, _, result = done
    study = voxloom.open_study(result.store)
    maps = study.results(result.results_name).sel(contrast="faceVsHouse").rename(subject="map")
    table = pd.read_csv(folder / "bids/participants.tsv", sep="\t", index_col="participant_id")
    model = MODELS[name]
    design = voxloom.group_design(table, model["formula"]) if "formula" in model else None
    groups = table[model["groups"]] if "groups" in model else None
    fit = voxloom.fit_group(maps[["effect", "variance"]].load(), design, estimator=model["estimator"], groups=groups)
    answers = study.results(result.group_names[name]).sel(contrast="faceVsHouse")
    assert "p_max_stat" not in answers
    for test, expression in model.get("contrasts", {"mean": "intercept"}).items():
        expected, found = voxloom.contrast(fit, expression), answers.sel(group_contrast=test)
        for variable in expected:
            np.testing.assert_allclose(found[variable], expected[variable], rtol=1e-9, err_msg=f"{test} {variable}")
        assert found["effect"].notnull().any() == (expected.attrs["stat_type"] == "t")
        assert np.isfinite(found["stat"]).mean() > 0.9


def test_p_joint_over_first_level_contrasts_is_that_of_modalities(done):
    _, _, result = done
    study = voxloom.open_study(result.store)
    maps = study.results(result.results_name)["effect"].rename(subject="map", contrast="modality").load()
    wanted = voxloom.permutation_test(maps, n_perm=60, statistics=STATISTICS)
    found = study.results(result.group_names["joint"]).isel(group_contrast=0)
    for name in ("p_max_stat", "p_tfce", "p_joint_max_stat", "p_joint_tfce"):
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    for name in ("null_joint_max_stat", "null_joint_tfce"):
        np.testing.assert_array_equal(found[name][0], wanted[name])
    assert (found["p_joint_tfce"] > found["p_tfce"]).any()


def test_sidecars_name_the_estimator(done):
    _, analysis, _ = done
    (path,) = parse_analysis(analysis).output.dir.glob("group/site/*faceVsHouse_test-age_stat-z_statmap.json")
    assert "random-intercept" in json.dumps(json.loads(path.read_text()))


def test_plan_reads_what_the_estimator_reads(done):
    _, analysis, _ = done
    stages = {stage.name: stage for stage in voxloom.plan(analysis).stages}
    alone = {stage.name: stage for stage in voxloom.plan(analysis | {"group": {"site": MODELS["site"]}}).stages}
    both = {stage.name: stage for stage in voxloom.plan(analysis | {"group": {"meta": MODELS["meta"]}}).stages}
    assert both["group"].bytes_read == 2 * alone["group"].bytes_read
    n_reads = 1 + len(MODELS) + sum(model["estimator"] in ("reml", "fixed") for model in MODELS.values())
    assert stages["group"].bytes_read == n_reads * alone["group"].bytes_read


def test_permutation_is_of_least_squares_alone(done):
    _, analysis, _ = done
    refused = {"meta": {"estimator": "reml", "inference": {"method": ["permutation"]}}}
    with pytest.raises(InputError, match="has a permutation test, but the estimator is 'reml'"):
        parse_analysis(analysis | {"group": refused})
    planned = voxloom.plan(analysis | {"group": {"site": MODELS["site"] | {"groups": "scanner"}}})
    assert any("group.site: `scanner` is no column of the table" in str(error) for error in planned.errors)


def test_influence_is_that_of_the_python_functions(done, analysis_of):
    """A table of all subjects, and their maps where these are asked for."""
    folder, _, _ = done
    model = {"formula": "1 + age", "contrasts": {"age": "age", "any": ["age", "intercept"]}}
    model["inference"] = {"method": "fdr"}
    base = analysis_of(folder / "bids", folder, group={"who": model | {"influence": True}})
    base["output"] = {"dir": str(folder / "tables")}
    result = voxloom.run(base)
    assert result.ok, result
    planned = {stage.name: stage for stage in voxloom.plan(base).stages}["influence"]
    assert (planned.n_tasks, planned.n_done, planned.bytes_read, planned.bytes_written) == (1, 1, 0, 0)
    study = voxloom.open_study(result.store)
    maps = study.results(result.results_name).sel(contrast="faceVsHouse").rename(subject="map")[["effect"]].load()
    table = pd.read_csv(folder / "bids/participants.tsv", sep="\t", index_col="participant_id")
    fit = voxloom.fit_group(maps, voxloom.group_design(table, "1 + age"))
    expected = voxloom.group_influence(fit, maps, "age")
    (path,) = (folder / "tables/group/who").glob("*faceVsHouse_test-age_influence.tsv")
    found = pd.read_csv(path, sep="\t", index_col="participant_id")
    ranked = voxloom.influential_maps(expected, 9)
    pd.testing.assert_frame_equal(found, ranked, rtol=1e-9, check_names=False)
    assert json.loads(path.with_suffix(".json").read_text())["Description"].startswith("Influence of each subject")
    assert not list((folder / "tables/group/who").glob("*test-any_influence.tsv"))
    assert "cooks_distance" not in study.results(result.group_names["who"])

    again = voxloom.run(base | {"group": {"who": model | {"influence": "maps"}}})
    assert again.ok, again
    kept = study.results(again.group_names["who"]).sel(contrast="faceVsHouse", group_contrast="age")
    for name in ("cooks_distance", "dfbeta", "dfbetas"):
        np.testing.assert_allclose(kept[name], expected[name].transpose("map", "voxel"), rtol=1e-9)
    back = voxloom.run(base)
    assert "cooks_distance" not in study.results(back.group_names["who"])
    voxloom.run(base | {"group": {"who": model | {"influence": "maps"}}})
    once_more = study.results(again.group_names["who"]).sel(contrast="faceVsHouse", group_contrast="age")
    np.testing.assert_allclose(once_more["dfbeta"], expected["dfbeta"].transpose("map", "voxel"), rtol=1e-9)
    with pytest.raises(InputError, match="influence: is told of ols, not of reml"):
        parse_analysis(base | {"group": {"meta": {"estimator": "reml", "influence": True}}})


@pytest.mark.parametrize("keep", [None, "age"])
def test_harmonised_maps_are_those_of_the_python_functions(done, analysis_of, tmp_path, keep, store_digests_of):
    """ComBat in two passes through the store; a subject more to apply it to than to learn from."""
    folder, _, _ = done
    model = {"formula": "1 + age", "contrasts": {"age": "age"}, "inference": {"n_perm": 20, "alpha": 0.1}}
    model["harmonise"] = {"site": "site", "fit_to": "train"} | ({} if keep is None else {"keep": keep})
    table = pd.read_csv(folder / "bids/participants.tsv", sep="\t", index_col="participant_id")
    train = np.arange(9) != 4
    table.assign(train=train.astype(int)).to_csv(tmp_path / "people.tsv", sep="\t")
    base = analysis_of(folder / "bids", tmp_path, group={"even": model | {"table": str(tmp_path / "people.tsv")}})
    planned = {stage.name: stage for stage in voxloom.plan(base).stages}
    result = voxloom.run(base)
    assert result.ok, result
    study = voxloom.open_study(result.store)
    for name in ("combat", "harmonise", "group"):
        done_by = Ledger(study.objects).read(name).values()
        assert sum(record.bytes_read for record in done_by) == planned[name].bytes_read
        assert sum(record.bytes_written for record in done_by) == planned[name].bytes_written

    maps = study.results(result.results_name).sel(contrast="faceVsHouse").rename(subject="map")["effect"].load()
    covariates = None if keep is None else table[["age"]]
    how = table["site"][train], None if covariates is None else covariates[train]
    combat = voxloom.fit_combat(maps[train], *how)
    expected = voxloom.apply_combat(maps, combat, table["site"], covariates)
    (name,) = study.results_table.query("level == 'harmonised'").index
    found = study.results(name).sel(contrast="faceVsHouse")
    np.testing.assert_allclose(found["effect"], expected, rtol=1e-7)
    for variable in ("gamma", "delta2", "mean", "sigma", "n"):
        np.testing.assert_allclose(found[variable], combat[variable], rtol=1e-7, atol=1e-12)
    stored = found.drop_vars("effect").load()
    applied = voxloom.apply_combat(maps, stored, table["site"], covariates)
    np.testing.assert_allclose(applied, found["effect"], rtol=1e-10)
    fit = voxloom.fit_group(expected, voxloom.group_design(table, "1 + age"))
    answer = study.results(result.group_names["even"]).isel(group_contrast=0).sel(contrast="faceVsHouse")
    np.testing.assert_allclose(answer["stat"], voxloom.contrast(fit, "age")["stat"], rtol=1e-6)
    assert np.isfinite(answer["p_max_stat"]).mean() > 0.9

    before = store_digests_of(result.store)
    study.objects.delete_tree(f"results/{name}/effect")
    Ledger(study.objects).forget_all("harmonise", name)
    assert voxloom.run(base | {"memory_budget": "128MiB"}).ok
    assert store_digests_of(result.store) == before


def test_harmonisation_that_cannot_be_done_is_refused(done, analysis_of, tmp_path):
    folder, _, _ = done
    table = pd.read_csv(folder / "bids/participants.tsv", sep="\t")
    table.assign(train=[1, 0, 1, 1, 0, 1, 1, 1, 1], half="x").to_csv(tmp_path / "people.tsv", sep="\t", index=False)
    for column, words in (
        ("train", "of y there are fewer than 2 subjects to learn from"),
        ("half", "fit_to holds 'x'"),
    ):
        model = {"harmonise": {"fit_to": column}, "table": str(tmp_path / "people.tsv")}
        refused = voxloom.plan(analysis_of(folder / "bids", tmp_path, group={"even": model})).errors
        assert any(words in str(error) for error in refused)
    meta = {"estimator": "reml", "harmonise": "combat"}
    with pytest.raises(InputError, match="changes the maps, whose variances reml takes for known"):
        parse_analysis(analysis_of(folder / "bids", tmp_path, group={"meta": meta}))


def test_models_with_missing_covariates_and_few_maps(tmp_path, analysis_of):
    """Subjects without a covariate are dropped when told to; voxels of too few maps are left out and counted."""
    write_bids_study(tmp_path / "bids", n_subjects=7, n_runs=1, shape=(6, 7, 5), n_volumes=40, seed=4)
    table = pd.read_csv(tmp_path / "bids/participants.tsv", sep="\t")
    table.loc[[1, 4], "age"] = np.nan
    table.to_csv(tmp_path / "bids/participants.tsv", sep="\t", index=False, na_rep="n/a")
    for label in ("01", "03"):  # a hole of two subjects
        (path,) = (tmp_path / "bids").glob(f"**/sub-{label}_*_mask.nii.gz")
        mask = nib.load(path)
        values = np.asarray(mask.dataobj).copy()
        values[:3] = 0
        nib.save(nib.Nifti1Image(values, mask.affine, mask.header), path)
    model = {"formula": "1 + age", "contrasts": {"age": "age"}, "inference": {"n_perm": 20}}
    with pytest.raises(DesignError, match="`age` is missing or not finite for sub-02, sub-05"):
        voxloom.run(analysis_of(tmp_path / "bids", tmp_path, group={"refused": model}))
    models = {"asked": model | {"missing": "drop"}, "some": model | {"missing": "drop", "min_n": 4}}
    result = voxloom.run(analysis_of(tmp_path / "bids", tmp_path, group=models))
    assert any("fitted without sub-02, sub-05" in text for text in result.warnings)

    study, kept = voxloom.open_study(result.store), [0, 2, 3, 5, 6]
    maps = study.results(result.results_name).sel(contrast="faceVsHouse").rename(subject="map").isel(map=kept)
    design = voxloom.group_design(table.set_index("participant_id").iloc[kept], "1 + age")
    for name, least in (("asked", 1), ("some", 4)):
        found = study.results(result.group_names[name]).isel(group_contrast=0).sel(contrast="faceVsHouse").load()
        expected = voxloom.contrast(voxloom.fit_group(maps[["effect"]].load(), design, min_n=least), "age")
        np.testing.assert_allclose(found["stat"], expected["stat"], rtol=1e-9)
        with pytest.warns(VoxloomWarning, match="have too few maps"):
            test = voxloom.permutation_test(maps["effect"].load(), design, "age", n_perm=20, min_n=least)
        np.testing.assert_allclose(found["p_max_stat"], test["p_max_stat"])
        np.testing.assert_array_equal(found["n"], np.isfinite(maps["effect"]).sum("map"))
    few = int(((found["n"] > 0) & (found["n"] < 4)).sum())
    assert few > 20
    assert np.isnan(found["stat"][found["n"] < 4]).all()
    assert any(f"{few} of {len(study.voxel)} voxels have fewer than 4 maps" in text for text in result.warnings)


def test_names_of_estimators_are_those_of_the_models():
    assert set(Estimator.__args__) == {*ESTIMATORS, *ALIASES}


def test_subjects_are_left_out_only_when_told_to_and_then_as_if_they_had_never_been(done, tmp_path):
    """One has no row, one no age; the rest of a table joined by `participant_id`, with commas."""
    folder, analysis, _ = done
    table = pd.read_csv(folder / "bids/participants.tsv", sep="\t")
    table.loc[4, "age"] = np.nan
    table.drop(index=1).iloc[::-1].to_csv(tmp_path / "t.csv", index=False)
    model = {"formula": "1 + age", "contrasts": {"age": "age"}, "table": str(tmp_path / "t.csv")}
    model |= {"inference": {"n_perm": 40}}
    planned = voxloom.plan(analysis | {"group": {"age": model}})
    assert any("has no row for sub-02" in str(error) for error in planned.errors)
    found = voxloom.run(analysis | {"group": {"age": model | {"missing": "drop"}}})
    assert found.ok
    assert any("group.age: fitted without sub-02, sub-05" in note for note in found.warnings)
    kept = table.drop(index=[1, 4]).set_index("participant_id")
    maps = voxloom.open_study(found.store).results(found.results_name).sel(contrast="faceVsHouse")
    maps = maps.rename(subject="map")[["effect"]].load().sel(map=kept.index)
    design = voxloom.group_design(kept, "1 + age")
    wanted = voxloom.permutation_test(maps, design, "age", n_perm=40)
    got = voxloom.open_study(found.store).results(found.group_names["age"]).isel(group_contrast=0)
    got = got.sel(contrast="faceVsHouse")
    fitted = voxloom.contrast(voxloom.fit_group(maps, design), "age")
    np.testing.assert_allclose(got["stat"], fitted["stat"], rtol=1e-9)
    np.testing.assert_array_equal(got["p_max_stat"], wanted["p_max_stat"])
