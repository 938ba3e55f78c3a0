"""Several datasets in one study: equal labels are different people; each site has the maps of its own analysis."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest

import voxloom
from voxloom.engine.ledger import Ledger
from voxloom.errors import DesignError, InputError, VoxloomWarning
from voxloom.io.bids.participants import participants_of_sites
from voxloom.io.store.access import Objects
from voxloom.models.group.design import group_design
from voxloom.pipeline.stages.group import group_test
from voxloom.simulate import write_bids_study
from voxloom.spec import parse_analysis

if TYPE_CHECKING:
    from pathlib import Path

SITES = {"london": 11, "oslo": 12}


@pytest.fixture(scope="module")
def two_sites(tmp_path_factory) -> dict[str, Path]:
    """Three subjects at each of two sites, of the same labels; not to be changed."""
    folder = tmp_path_factory.mktemp("sites")
    for name, seed in SITES.items():
        root = folder / name / "bids"
        write_bids_study(root, n_subjects=3, n_sites=1, n_runs=1, shape=(10, 12, 9), n_volumes=40, seed=seed)
        table = pd.read_csv(root / "participants.tsv", sep="\t").drop(columns="site")
        table.to_csv(root / "participants.tsv", sep="\t", index=False)
    return {name: folder / name / "bids" for name in SITES}


def of_sites(roots: dict[str, Path]) -> dict[str, Any]:
    """Section `data`."""
    return {"sites": {name: {"bids_dir": str(root)} for name, root in roots.items()}, "task": "faces"}


def models() -> dict[str, Any]:
    return {
        "mean": {"inference": {"n_perm": 8, "alpha": 0.25}},
        "site": {
            "formula": "C(site) + age",
            "contrasts": {"oslo more": "C(site)[T.oslo]"},
            "inference": {"method": "fdr"},
        },
    }


@pytest.fixture(scope="module")
def joint(two_sites, tmp_path_factory, analysis_of) -> tuple[dict[str, Any], voxloom.RunResult]:
    """The analysis of both sites, and its result; not to be changed."""

    analysis = analysis_of(two_sites["london"], tmp_path_factory.mktemp("joint"), group=models())
    analysis["data"] = of_sites(two_sites)
    return analysis, voxloom.run(analysis)


def load(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).get_fdata())


def test_each_site_has_the_maps_of_its_own_analysis(two_sites, joint, tmp_path, analysis_of, digests_of):
    _, together = joint
    assert together.ok, together
    for site, root in two_sites.items():
        alone = voxloom.run(analysis_of(root, tmp_path / site))
        own = {name: value for name, value in digests_of(alone.output).items() if name.startswith("sub-")}
        own = {name: value for name, value in own.items() if not name.endswith(".json")}
        assert len(own) > 3 * 8
        found = digests_of(together.output / site)
        assert {name: found.get(name) for name in own} == own
        description = json.loads((together.output / site / "dataset_description.json").read_text())
        assert description["DatasetType"] == "derivative"
    assert not list(together.output.glob("sub-*"))


def test_group_model_sees_the_site_of_every_subject(two_sites, joint):
    """Against least squares in NumPy on the written subject maps and the two tables."""
    _, result = joint
    maps, rows = [], []
    for site, root in two_sites.items():
        ages = pd.read_csv(root / "participants.tsv", sep="\t", index_col="participant_id").age
        for subject in ("sub-01", "sub-02", "sub-03"):
            (path,) = (result.output / site / subject / "func").glob("*faceVsHouse_stat-effect_statmap.nii.gz")
            maps.append(load(path))
            rows.append([1.0, site == "oslo", ages[subject]])
    y, X = np.stack(maps), np.array(rows, dtype=float)
    inside = (y != 0).all(axis=0)
    beta = np.linalg.lstsq(X, y[:, inside], rcond=None)[0]
    (path,) = result.output.glob("group/site/*contrast-faceVsHouse_test-osloMore_stat-effect_statmap.nii.gz")
    np.testing.assert_allclose(load(path)[inside], beta[1], rtol=1e-3, atol=1e-3 * np.abs(beta[1]).max())
    (path,) = result.output.glob("group/mean/*contrast-faceVsHouse_test-mean_stat-n_statmap.nii.gz")
    assert load(path).max() == 6
    design = pd.read_csv(result.output / "group/site/model-site_design.tsv", sep="\t")
    assert design.participant_id.tolist() == [f"site-{s}_sub-0{i}" for s in SITES for i in (1, 2, 3)]


def test_runs_of_the_store_tell_their_site(joint):
    _, result = joint
    study = voxloom.open_study(result.store)
    runs = study.runs
    assert runs.site.tolist() == ["london"] * 3 + ["oslo"] * 3
    assert list(runs.index) == [f"site-{s}_sub-0{i}_task-faces_run-1" for s in SITES for i in (1, 2, 3)]
    assert (runs["sub"].tolist()) == ["01", "02", "03"] * 2
    for run_id, row in runs.iterrows():
        assert f"/{row.site}/" in row.source
        np.testing.assert_allclose(study.run(run_id).bold[:, :5], load(row.source)[study.mask][:, :5], rtol=1e-6)
    assert list(study.results(result.results_name).subject.values) == [
        f"site-{s}_sub-0{i}" for s in SITES for i in (1, 2, 3)
    ]


def test_plan_and_status_agree_with_what_was_done(joint):
    analysis, result = joint
    plan = voxloom.plan(analysis)
    assert not plan.problems, plan.render()
    assert set(plan.files) == {str(p.relative_to(result.output)) for p in result.output.rglob("*") if p.is_file()}
    assert voxloom.pipeline.status(analysis).complete


def test_runs_of_each_site_that_cover_a_voxel_are_counted_in_a_file(joint):
    analysis, result = joint
    study, runs = voxloom.open_study(result.store), voxloom.open_study(result.store).runs
    for site in SITES:
        (path,) = result.output.glob(f"group/site-{site}_*_stat-runs_statmap.nii.gz")
        own = [study.run(run)["in_mask"].to_numpy() for run in runs.index[runs.site == site]]
        np.testing.assert_array_equal(load(path).ravel()[study.voxel], np.sum(own, axis=0))
        assert load(path).max() == 3
        assert json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())["NumberOfMaps"] == 3
    done = Ledger(Objects(result.store)).read("export").values()
    analysis = {**analysis, "store": {"path": result.store + "-none"}}
    planned = next(stage for stage in voxloom.plan(analysis).stages if stage.name == "export")
    counted = len(done), sum(r.bytes_read for r in done), sum(r.bytes_written for r in done)
    assert (planned.n_tasks, planned.bytes_read, planned.bytes_written) == counted


def test_site_added_later_refits_nothing(two_sites, tmp_path, analysis_of, joint, digests_of):

    analysis = analysis_of(two_sites["london"], tmp_path, group={"mean": models()["mean"]})
    analysis["data"] = of_sites({"london": two_sites["london"]})
    first = voxloom.run(analysis)
    before = {key: r.finished for key, r in Ledger(Objects(first.store)).read("fit").items()}
    analysis |= {"data": of_sites(two_sites), "group": models()}
    second = voxloom.run(analysis)
    after = {key: r.finished for key, r in Ledger(Objects(first.store)).read("fit").items()}
    assert before.items() < after.items()
    whole = {name: value for name, value in digests_of(joint[1].output).items() if name.endswith(".nii.gz")}
    found = digests_of(second.output)
    assert {name: found[name] for name in whole} == whole


def test_site_without_a_table_gives_its_site_alone(two_sites, tmp_path, analysis_of):
    copy = shutil.copytree(two_sites["oslo"], tmp_path / "oslo")
    (copy / "participants.tsv").unlink()
    analysis = analysis_of(copy, tmp_path)
    analysis["data"] = of_sites({**two_sites, "oslo": copy})
    analysis["group"] = {"site": {"formula": "C(site)", "contrasts": {"d": "C(site)[T.oslo]"}}}
    assert not voxloom.plan(analysis).errors
    analysis["group"]["site"]["formula"] = "C(site) + age"
    (error,) = voxloom.plan(analysis).errors
    assert "age" in str(error)
    assert "site-oslo_sub-01" in str(error)


def test_what_sites_cannot_share_is_refused(two_sites, tmp_path, analysis_of):
    copy = shutil.copytree(two_sites["oslo"], tmp_path / "oslo")
    for path in sorted(copy.rglob("*space-MNI152NLin2009cAsym*")):
        path.rename(path.with_name(path.name.replace("NLin2009c", "NLin6")))
    analysis = analysis_of(copy, tmp_path)
    analysis["data"] = of_sites({**two_sites, "oslo": copy})
    with pytest.raises(
        InputError, match=r"`space`: space-MNI152NLin2009cAsym at london; space-MNI152NLin6Asym at oslo"
    ):
        voxloom.plan(analysis)
    analysis["data"]["space"] = "MNI152NLin2009cAsym"
    with pytest.raises(InputError, match=r"data\.sites\.oslo: data\.space: 'MNI152NLin2009cAsym' has no image"):
        voxloom.plan(analysis)


def test_own_table_of_a_study_of_sites_names_the_site(two_sites, tmp_path, analysis_of):
    table = tmp_path / "table.tsv"
    rows = [f"0{i}\t{site}\t{i + 3 * (site == 'oslo')}" for site in SITES for i in (1, 2, 3)]
    table.write_text("\n".join(["participant_id\tsite\tdose", *reversed(rows)]) + "\n")
    analysis = analysis_of(two_sites["oslo"], tmp_path)
    analysis["data"] = of_sites(two_sites)
    analysis["group"] = {"m": {"covariates": ["dose"], "contrasts": {"d": "dose"}, "table": str(table)}}

    subjects = [f"site-{s}_sub-0{i}" for s in SITES for i in (1, 2, 3)]
    assert group_test(parse_analysis(analysis), "m", subjects).design.dose.tolist() == [1, 2, 3, 4, 5, 6]
    table.write_text("participant_id\tdose\n01\t1\n")
    with pytest.raises(InputError, match=r"no column site.*each row names its site"):
        group_test(parse_analysis(analysis), "m", subjects)


def test_columns_that_sites_write_differently_are_not_mixed(two_sites, tmp_path):

    copy = shutil.copytree(two_sites["oslo"], tmp_path / "oslo")
    table = pd.read_csv(copy / "participants.tsv", sep="\t").assign(sex=[1, 2, 2], site="scanner2")
    table.to_csv(copy / "participants.tsv", sep="\t", index=False)
    subjects = [f"site-{s}_sub-0{i}" for s in SITES for i in (1, 2, 3)]
    with pytest.warns(VoxloomWarning) as caught:
        joined = participants_of_sites({**two_sites, "oslo": copy}, subjects)
    texts = " ".join(str(w.message) for w in caught)
    assert "`sex` is left out: it holds text at london and numbers" in texts
    assert "column `site`" in texts
    assert joined.site.tolist() == ["london"] * 3 + ["oslo"] * 3
    with pytest.raises(DesignError, match="sex"):
        group_design(joined, "C(sex)")


def test_filters_and_repetition_time_of_a_site(two_sites, tmp_path, analysis_of):
    analysis = analysis_of(two_sites["oslo"], tmp_path)
    analysis["data"] = of_sites(two_sites) | {"filters": {"subject": ["01", "02"]}}
    analysis["data"]["sites"]["oslo"] |= {"filters": {"subject": "03"}, "t_r": 2.5}
    analysis["group"] = {}
    result = voxloom.run(analysis)
    runs = voxloom.open_study(result.store).runs
    assert [(row.site, row["sub"], row.t_r) for _, row in runs.iterrows()] == [
        ("london", "01", 2.0),
        ("london", "02", 2.0),
        ("oslo", "03", 2.5),
    ]


def test_excluded_run_is_left_out_and_a_misspelled_one_is_named(two_sites, tmp_path, analysis_of):
    analysis = analysis_of(two_sites["oslo"], tmp_path)
    analysis["data"] = of_sites(two_sites) | {"exclude": "site-oslo_sub-02_task-faces_run-1"}
    plan = voxloom.plan(analysis)
    assert plan.stages[0].n_tasks == 5
    assert not any("oslo/sub-02" in name for name in plan.files)
    analysis["data"]["exclude"] = ["site-olso_sub-02_task-faces_run-1"]
    with pytest.raises(InputError, match="Did you mean `site-oslo_sub-02_task-faces_run-1`"):
        voxloom.plan(analysis)
