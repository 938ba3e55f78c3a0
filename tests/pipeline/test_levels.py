"""Runs that lack a condition, conjunctions and sessions, from files to files."""

from __future__ import annotations

import json
import re
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import voxloom
from voxloom.engine.ledger import Ledger
from voxloom.io.store.objects import Objects
from voxloom.models.first_level.runs import conjunction, contrast_over_runs
from voxloom.pipeline.stored.fit import load_fit

LEVEL = {
    "confounds": ["trans_?"],
    "contrasts": {
        "face": "face",
        "diff": {"weights": {"face": 1, "house": -1}},
        "any": ["face", "house"],
        "both": {"conjunction": ["face", "house"]},
    },
}

#: Contrasts of `LEVEL` by the place of their columns.
BY_PLACE = {
    "placed diff": ("diff", [1, -1]),
    "placed any": ("any", [[1], [0, 1]]),
    "placed both": ("both", {"expression": [[1], [0, 1]], "stat_type": "conjunction"}),
}


def sidecar_of(output, subject: str, contrast: str, stat: str, folder: str = "func") -> dict:
    (path,) = (output / subject / folder).glob(f"*contrast-{contrast}_stat-{stat}_statmap.json")
    return json.loads(path.read_text())


def fits_of(result, runs: list[str]) -> dict:
    """Stored fits of these runs, by name, whole."""
    study = voxloom.open_study(result.store)
    (fits,) = [name for name in study.objects.children("fits") if study.objects.children(f"fits/{name}/{runs[0]}")]
    return {run: load_fit(study.objects, f"{fits}/{run}", slice(0, len(study.voxel))) for run in runs}


def subject_map(result, subject: str, contrast: str) -> np.ndarray:
    results = voxloom.open_study(result.store).results(result.results_name)
    return results.sel(subject=subject, contrast=contrast)["stat"].values


@pytest.fixture(scope="module")
def lacking(pristine_study, tmp_path_factory, request):
    """sub-01 saw houses in its first run alone; of those of sub-02's first run all come after its last volume."""
    analysis_of = request.getfixturevalue("analysis_of")
    folder = tmp_path_factory.mktemp("lacking")
    bids = shutil.copytree(pristine_study, folder / "bids")
    (path,) = (bids / "sub-01/func").glob("*run-2_events.tsv")
    path.write_text(path.read_text().replace("house", "face"))
    (path,) = (bids / "sub-02/func").glob("*run-1_events.tsv")
    table = pd.read_csv(path, sep="\t")
    table.assign(onset=table.onset.where(table.trial_type != "house", table.onset + 1e4)).to_csv(
        path, sep="\t", index=False
    )
    analysis = analysis_of(bids, folder, first_level=LEVEL) | {"group": {}}
    planned = voxloom.plan(analysis)
    return planned, voxloom.run(analysis)


def test_a_run_that_cannot_answer_costs_the_subject_nothing_else(lacking):
    planned, result = lacking
    assert result.ok
    assert not planned.errors
    stored = voxloom.open_study(result.store).runs.index
    for subject, kept in (("sub-01", "run-1"), ("sub-02", "run-2")):
        own = [run for run in stored if run.startswith(subject)]
        able = [run for run in own if kept in run]
        for contrast in ("diff", "any", "both"):
            stat = {"diff": "t", "any": "F", "both": "z"}[contrast]
            found = sidecar_of(result.output, subject, contrast, stat)
            assert (found["Runs"], found["NumberOfMaps"]) == (able, 1)
        found = sidecar_of(result.output, subject, "face", "t")
        assert (found["Runs"], found["NumberOfMaps"], found["ContrastType"]) == (own, 2, "t")
        fits = fits_of(result, able)
        expected = contrast_over_runs(fits, "face - house")["stat"]
        np.testing.assert_array_equal(subject_map(result, subject, "diff"), expected)


def test_the_run_is_named_where_its_design_has_the_column_but_cannot_tell_it(lacking):
    planned, result = lacking
    wanted = r"sub-02\S*run-1.*contrast (diff|any|both) is not estimable: the columns \['house'\]"
    for texts in (map(str, planned.problems), result.warnings):
        assert len({re.search(wanted, text)[1] for text in texts if re.search(wanted, text)}) == 3


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ([1, -1], r"by place: 'face - house' in \S*sub-01\S*run-1\S*, but 'face - trans_x' in \S*sub-01\S*run-2"),
        ([1] * 40, r"sub-01\S*run-1.*is too long: 40 weights for \d+ columns. They are \['face', 'house'"),
    ],
)
def test_weights_by_place_are_refused_where_runs_differ_and_where_columns_end(
    lacking, analysis_of, weights, wanted, tmp_path
):
    _, result = lacking
    level = LEVEL | {"contrasts": {"placed": weights}}
    bids = result.output.parent / "bids"
    (error,) = voxloom.plan(analysis_of(bids, tmp_path, first_level=level) | {"group": {}}).errors
    assert re.search(wanted, str(error))


def test_conjunction_of_a_subject_is_the_smallest_z_of_its_fixed_effects(lacking):
    _, result = lacking
    stored = [run for run in voxloom.open_study(result.store).runs.index if run.startswith("sub-03")]
    fits = fits_of(result, stored)
    parts = [contrast_over_runs(fits, text) for text in ("face", "house")]
    np.testing.assert_array_equal(subject_map(result, "sub-03", "both"), conjunction(parts)["stat"])
    z, p = (
        nibabel.load(next((result.output / "sub-03/func").glob(f"*both_stat-{stat}_statmap.nii.gz"))).get_fdata()
        for stat in ("z", "p")
    )
    inside = np.isfinite(z) & (z != 0)
    assert inside.any()
    np.testing.assert_allclose(p[inside], stats.norm.sf(z[inside]), rtol=1e-4)
    assert not list((result.output / "sub-03/func").glob("*both_stat-effect*"))


def with_sessions(bids) -> None:
    """Make the two runs of sub-01 and sub-02 one session each."""
    for subject in ("sub-01", "sub-02"):
        for root in (bids, bids / "derivatives/fmriprep"):
            for path in sorted((root / subject / "func").iterdir()):
                run = re.search(r"_run-(\d)", path.name)[1]
                folder = root / subject / f"ses-{run}/func"
                folder.mkdir(parents=True, exist_ok=True)
                path.rename(folder / re.sub(r"_task-faces_run-\d", f"_ses-{run}_task-faces", path.name))


def test_sessions_have_maps_of_their_own_and_leave_those_of_the_subject_as_they_are(bids, tmp_path, analysis_of):
    with_sessions(bids)
    contrasts = LEVEL["contrasts"] | {name: placed for name, (_, placed) in BY_PLACE.items()}
    analysis = analysis_of(bids, tmp_path, first_level=LEVEL | {"contrasts": contrasts}) | {"group": {}}
    plain = voxloom.run(analysis)
    analysis["subject_level"] = {"sessions": True}
    planned = voxloom.plan(analysis)
    result = voxloom.run(analysis)
    assert result.ok
    assert set(planned.files) == {str(p.relative_to(result.output)) for p in result.output.rglob("*") if p.is_file()}
    expected = {stage.name: (stage.n_tasks, stage.bytes_read, stage.bytes_written) for stage in planned.stages}
    for stage in ("combine", "export"):
        records = [r for k, r in Ledger(Objects(result.store)).read(stage).items() if k.startswith(result.results_name)]
        counted = len(records), sum(r.bytes_read for r in records), sum(r.bytes_written for r in records)
        assert counted == expected[stage]
    runs = [run for run in voxloom.open_study(result.store).runs.index if run.startswith("sub-01")]
    for placed, (named, _) in BY_PLACE.items():
        found, expected = subject_map(result, "sub-01", placed), subject_map(result, "sub-01", named)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert sidecar_of(result.output, "sub-01", "placedDiff", "t")["Expression"] == "face - house"
    assert sidecar_of(result.output, "sub-01", "placedAny", "F")["Expression"] == ["face", "house"]
    assert any("weights by place are those of 'face - house'" in note for note in result.warnings)
    for contrast in contrasts:
        np.testing.assert_array_equal(subject_map(result, "sub-01", contrast), subject_map(plain, "sub-01", contrast))
    for run, session in zip(runs, ("ses-1", "ses-2"), strict=True):
        found = sidecar_of(result.output, "sub-01", "diff", "t", f"{session}/func")
        assert found["Runs"] == [run]
        (path,) = (result.output / "sub-01" / session / "func").glob("*contrast-diff_stat-t_statmap.nii.gz")
        study = voxloom.open_study(result.store)
        expected = contrast_over_runs(fits_of(result, [run]), "face - house")["stat"].values
        np.testing.assert_allclose(nibabel.load(path).get_fdata()[study.mask], expected, rtol=1e-5)
    assert not list((result.output / "sub-03").glob("ses-*"))
    voxloom.remove_run(result.store, runs[0])
    left = voxloom.open_study(result.store).objects.children(f"results/{result.results_name}/sessions")
    assert [name for name in left if name.startswith("sub-")] == ["sub-02_ses-1", "sub-02_ses-2"]


def test_an_analysis_without_sessions_has_the_name_it_had(pristine_study, tmp_path, analysis_of):
    plain = voxloom.spec.parse_analysis(analysis_of(pristine_study, tmp_path))
    off = voxloom.spec.parse_analysis(analysis_of(pristine_study, tmp_path, subject_level={"sessions": False}))
    on = voxloom.spec.parse_analysis(analysis_of(pristine_study, tmp_path, subject_level={"sessions": True}))
    assert plain.combine_digest == off.combine_digest != on.combine_digest
    assert "sessions" not in plain.subject_level.settings
