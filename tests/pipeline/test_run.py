"""The whole line on a small study: laws that hold from files to files."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from nilearn.image import smooth_img

import voxloom
from voxloom.engine.ledger import Ledger
from voxloom.io.store.access import Objects


def done(store: str, stage: str) -> dict[str, str]:
    """When each task of a stage was finished."""
    records = Ledger(Objects(store)).read(stage)
    return {key: record.finished for key, record in records.items() if record.status == "done"}


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster": "local", "workers": 2},
        {"memory_budget": "100MiB"},
        {"data": {"filters": {"subject": ["01", "02", "03", "04"]}}},
    ],
    ids=["two processes", "another budget", "a filter that keeps all"],
)
def test_output_does_not_depend_on_how_it_was_computed(
    pristine_study, tmp_path, analysis_of, digests_of, undisturbed, changes
):
    changes = dict(changes)
    if "data" in changes:
        changes["data"] = {**changes["data"], "bids_dir": str(pristine_study), "task": "faces"}
    result = voxloom.run(analysis_of(pristine_study, tmp_path, **changes))
    assert result.ok
    found = digests_of(result.output)
    images = {name for name in undisturbed if name.endswith(".nii.gz")}
    assert images
    assert {name: found[name] for name in images} == {name: undisturbed[name] for name in images}


@pytest.mark.usefixtures("already_run")
def test_second_run_does_nothing_and_a_changed_contrast_does_not_refit(pristine_study, tmp_path, analysis_of):
    first = voxloom.run(analysis_of(pristine_study, tmp_path))
    before = {stage: done(first.store, stage) for stage in ("ingest", "design", "fit", "combine", "group", "export")}
    assert all(before.values())

    voxloom.run(analysis_of(pristine_study, tmp_path))
    assert {stage: done(first.store, stage) for stage in before} == before

    more = {"confounds": ["trans_?", "rot_?"], "contrasts": {"onlyFace": "face"}}
    second = voxloom.run(analysis_of(pristine_study, tmp_path, first_level=more))
    assert second.results_name != first.results_name
    assert done(first.store, "fit") == before["fit"]
    assert len(done(first.store, "combine")) == 2 * len(before["combine"])

    voxloom.run(analysis_of(pristine_study, tmp_path, first_level=more | {"hrf_model": "glover"}))
    assert done(first.store, "ingest") == before["ingest"]
    assert len(done(first.store, "fit")) == 2 * len(before["fit"])


@pytest.mark.usefixtures("already_run")
def test_smoothing_keeps_both_versions(pristine_study, tmp_path, analysis_of):
    plain = voxloom.run(analysis_of(pristine_study, tmp_path))
    level = {"confounds": ["trans_?"], "contrasts": {"face": "face"}, "smoothing_fwhm": 12}
    voxloom.run(analysis_of(pristine_study, tmp_path, first_level=level))
    study = voxloom.open_study(plain.store)
    run_id = next(name for name in study.runs.index if "smooth" not in name)
    source = nibabel.load(study.runs.loc[run_id, "source"])
    for name, image in ((run_id, source), (f"{run_id}_smooth-12", smooth_img(source, 12))):
        np.testing.assert_allclose(study.run(name).bold, image.get_fdata()[study.mask], rtol=1e-4)


def test_group_maps_follow_from_subject_maps(undisturbed_run):
    """Written subject maps through plain NumPy give the written group maps."""
    result = undisturbed_run
    subjects = [
        nibabel.load(path).get_fdata()
        for path in sorted(result.output.glob("sub-*/func/*faceVsHouse_stat-effect_*.nii.gz"))
    ]
    assert len(subjects) == 4
    y = np.stack(subjects)
    whole = (np.isfinite(y) & (y != 0)).all(axis=0)
    expected = y[:, whole].mean(axis=0) / (y[:, whole].std(axis=0, ddof=1) / 2)
    (path,) = result.output.glob("group/mean/*contrast-faceVsHouse*stat-t_statmap.nii.gz")
    t = nibabel.load(path).get_fdata()
    np.testing.assert_allclose(t[whole], expected, rtol=1e-4, atol=1e-5)
    assert not t[(y == 0).all(axis=0)].any()
    # voxels that one site lacks have the t of the two subjects who have them
    half = np.isfinite(y).sum(axis=0) == 2
    assert half.any()
    expected = np.nanmean(y[:, half], axis=0) / (np.nanstd(y[:, half], axis=0, ddof=1) / np.sqrt(2))
    np.testing.assert_allclose(t[half], expected, rtol=1e-4, atol=1e-5)


def test_results_are_lazy_datasets_with_names(undisturbed_run):
    result = undisturbed_run
    study = voxloom.open_study(result.store)
    maps = study.results(result.results_name)
    assert maps.effect.chunks is not None
    assert list(maps.contrast.values) == ["any", "faceVsHouse"]
    assert list(maps.subject.values) == ["sub-01", "sub-02", "sub-03", "sub-04"]
    one = maps.sel(subject="sub-02", contrast="faceVsHouse").effect
    written = nibabel.load(next(result.output.glob("sub-02/func/*faceVsHouse_stat-effect_*.nii.gz")))
    np.testing.assert_allclose(one.vx.to_nifti().get_fdata(), written.get_fdata(), rtol=1e-6)


def test_status_and_plan_agree_with_what_was_done(pristine_study, tmp_path, analysis_of):
    analysis = analysis_of(pristine_study, tmp_path)
    planned = voxloom.plan(analysis)
    assert not planned.problems, planned.render()
    output = voxloom.run(analysis).output
    assert set(planned.files) == {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    status = voxloom.pipeline.status(analysis)
    assert status.complete
    counts = {stage.name: stage.total for stage in status.stages if stage.name != "prepare"}
    assert {stage.name: stage.n_tasks for stage in planned.stages} == counts
    assert {stage.name: stage.n_done for stage in voxloom.plan(analysis).stages} == counts


@pytest.mark.usefixtures("already_run")
@pytest.mark.parametrize("change", [{"two_sided": False}, {"n_perm": 8}, {"scheme": "flip", "seed": 5}], ids=str)
def test_other_inference_settings_are_computed_and_the_first_ones_come_back(
    pristine_study, tmp_path, analysis_of, digests_of, change
):
    """Settings of the permutation test are part of what names its nulls: A, B, A gives A, B, A."""
    first = analysis_of(pristine_study, tmp_path, group={"mean": {"inference": {"n_perm": 12, "alpha": 0.25}}})
    seed = {"seed": change["seed"]} if "seed" in change else {}
    changed = {"n_perm": 12, "alpha": 0.25} | {key: value for key, value in change.items() if key != "seed"}
    other = analysis_of(pristine_study, tmp_path, group={"mean": {"inference": changed}}, **seed)

    def p_values(analysis: dict) -> dict[str, str]:
        output = voxloom.run(analysis).output
        return {name: value for name, value in digests_of(output).items() if "desc-fwe" in name}

    before = p_values(first)
    assert p_values(other) != before
    assert p_values(first) == before


def test_subjects_that_come_and_go_leave_no_trace(bids, tmp_path, analysis_of, digests_of, undisturbed):
    """A subject added and taken away again: the group maps are those of the subjects at hand."""

    def group_maps(subjects: list[str] | None) -> dict[str, str]:
        for label in ("03", "04"):
            here, away = bids / "derivatives/fmriprep" / f"sub-{label}", tmp_path / f"away-{label}"
            wanted = subjects is None or label in subjects
            if wanted and away.exists():
                away.rename(here)
            if not wanted and here.exists():
                here.rename(away)
        output = voxloom.run(analysis_of(bids, tmp_path)).output
        return {name: value for name, value in digests_of(output).items() if "stat-t_" in name and "group" in name}

    whole = {name: undisturbed[name] for name in undisturbed if "stat-t_" in name and "group" in name}
    whole = {name: value for name, value in whole.items() if name.endswith(".nii.gz")}
    for _ in range(2):
        some, all_four = group_maps(["03"]), group_maps(None)
        assert {name: all_four[name] for name in whole} == whole
        assert all(some[name] != whole[name] for name in whole)


@pytest.mark.usefixtures("already_run")
def test_run_that_changes_its_length_and_back(bids, tmp_path, analysis_of, digests_of, undisturbed):
    """Arrays of another shape replace the fit; back at the old shape, old records must not stand for lost data."""
    import shutil

    (path,) = (bids / "derivatives/fmriprep/sub-01/func").glob("*run-1*desc-preproc_bold.nii.gz")
    (table,) = (bids / "derivatives/fmriprep/sub-01/func").glob("*run-1*confounds_timeseries.tsv")
    kept = [(p, shutil.copy2(p, tmp_path / p.name)) for p in (path, table)]
    voxloom.run(analysis_of(bids, tmp_path))
    image = nibabel.load(path)
    short = nibabel.Nifti1Image(np.asanyarray(image.dataobj)[..., :50], image.affine, image.header)
    nibabel.save(short, path)
    table.write_text("\n".join(table.read_text().splitlines()[:51]) + "\n")
    assert voxloom.run(analysis_of(bids, tmp_path)).ok
    for original, copy in kept:
        shutil.copy2(copy, original)
    result = voxloom.run(analysis_of(bids, tmp_path))
    assert result.ok
    found = digests_of(result.output)
    images = {name for name in undisturbed if name.endswith(".nii.gz")}
    assert {name: found[name] for name in images} == {name: undisturbed[name] for name in images}
