"""What is wrong with one input is said in one message that names it, and costs no other input its result."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest

import voxloom
from voxloom.errors import GridError, InputError, StoreError
from voxloom.sealed import BLANK, seal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BAD_RUN = "sub-02_task-faces_run-1"
#: Two of the four subjects: one has the bad run, the other none.
PAIR = {"filters": {"subject": ["01", "02"]}}


def derivative(bids: Path, suffix: str) -> Path:
    (path,) = (bids / "derivatives/fmriprep/sub-02/func").glob(f"*run-1*{suffix}")
    return path


def bold_of(bids: Path) -> Path:
    return derivative(bids, "desc-preproc_bold.nii.gz")


def events_of(bids: Path) -> Path:
    (path,) = (bids / "sub-02/func").glob("*run-1_events.tsv")
    return path


def rewrite(path: Path, change: Callable[[nibabel.Nifti1Image], nibabel.Nifti1Image]) -> None:
    image = nibabel.load(path)
    changed = change(nibabel.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header))
    nibabel.save(changed, path)


def truncate(bids: Path) -> None:
    path = bold_of(bids)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def wrong_crc(bids: Path) -> None:
    path = bold_of(bids)
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 1
    path.write_bytes(raw)


def three_d(bids: Path) -> None:
    rewrite(bold_of(bids), lambda image: image.slicer[..., 0])


def set_tr(bids: Path, header: float, sidecar: float | None) -> None:
    path = bold_of(bids)

    def change(image: nibabel.Nifti1Image) -> nibabel.Nifti1Image:
        image.header["pixdim"][4] = header
        return image

    rewrite(path, change)
    for file in (path.with_name(path.name.replace(".nii.gz", ".json")), *bids.glob("*_bold.json")):
        if file.exists():
            content = json.loads(file.read_text())
            content.pop("RepetitionTime", None)
            file.write_text(json.dumps(content | ({} if sidecar is None else {"RepetitionTime": sidecar})))


def change_events(bids: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = events_of(bids)
    change(pd.read_csv(path, sep="\t")).to_csv(path, sep="\t", index=False, na_rep="n/a")


def nan_onset(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(onset=table.onset.where(table.index != 1))


def change_confounds(bids: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = derivative(bids, "desc-confounds_timeseries.tsv")
    change(pd.read_csv(path, sep="\t", na_values="n/a")).to_csv(path, sep="\t", index=False, na_rep="n/a")


def move_grid(path: Path) -> None:
    def change(image: nibabel.Nifti1Image) -> nibabel.Nifti1Image:
        affine = image.affine.copy()
        affine[0, 3] += 1.5
        return nibabel.Nifti1Image(np.asanyarray(image.dataobj), affine)

    rewrite(path, change)


def zero_mask(bids: Path) -> None:
    rewrite(
        derivative(bids, "desc-brain_mask.nii.gz"),
        lambda image: nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine),
    )


QUARANTINED: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    # name: (damage, file in the message, what it must say)
    "truncated": (truncate, "bold.nii.gz", r"ends after volume \d+ of 60"),
    "wrong crc": (wrong_crc, "bold.nii.gz", r"CRC|checksum"),
    "3-d": (three_d, "bold.nii.gz", r"4-D"),
    "tr missing": (lambda b: set_tr(b, 0, None), "bold.nii.gz", r"(?i)repetition ?time"),
    "tr contradicts": (lambda b: set_tr(b, 2.0, 3.0), "bold.nii.gz", r"3.* 2|2.* 3"),
    "empty events": (lambda b: events_of(b).write_text(""), "events.tsv", r"empty"),
    "no event rows": (lambda b: change_events(b, lambda t: t[:0]), "", r"no event|empty|no rows"),
    "absent events": (lambda b: events_of(b).unlink(), "run-1", r"no events file"),
    "nan onset": (lambda b: change_events(b, nan_onset), "run-1", r"onset"),
    "confound column absent": (
        lambda b: change_confounds(b, lambda t: t.drop(columns=["trans_x", "trans_y", "trans_z"])),
        "run-1",
        r"trans_\?",
    ),
    "confound rows": (
        lambda b: change_confounds(b, lambda t: t[:-3]),
        "confounds_timeseries.tsv",
        r"57 .*60",
    ),
    "mask on another grid": (
        lambda b: move_grid(derivative(b, "desc-brain_mask.nii.gz")),
        "brain_mask",
        r"grid",
    ),
    "empty mask": (zero_mask, "brain_mask", r"no voxel|empty"),
    "run on another grid": (lambda b: move_grid(bold_of(b)), "bold.nii.gz", r"grid"),
}


@pytest.mark.parametrize("damage", QUARANTINED)
def test_one_bad_run_is_named_and_the_others_are_done(bids, tmp_path, analysis_of, damage):
    break_it, where, what = QUARANTINED[damage]
    break_it(bids)
    analysis = analysis_of(bids, tmp_path, data=PAIR)
    result = voxloom.run(analysis)
    assert not result.ok
    assert not result.failed, result.failed
    assert len(result.quarantined) == 1, result.quarantined
    (record,) = result.quarantined
    assert "sub-02" in record.key
    assert where in record.reason
    assert re.search(what, record.reason), record.reason
    assert len(record.reason.splitlines()) == 1
    status = voxloom.pipeline.status(analysis)
    assert [r.reason for stage in status.stages for r in stage.quarantined] == [record.reason]
    # the subject's other run, and the other subject, have their maps
    for subject in ("sub-01", "sub-02"):
        assert list((result.output / subject / "func").glob("*faceVsHouse_stat-z_statmap.nii.gz"))
    assert list(result.output.glob("group/mean/*stat-t_statmap.nii.gz"))


@pytest.mark.parametrize("damage", sorted(set(QUARANTINED) - {"truncated", "wrong crc"}))
def test_plan_sees_it_before_anything_is_read(bids, tmp_path, analysis_of, damage):
    break_it, where, what = QUARANTINED[damage]
    break_it(bids)
    plan = voxloom.plan(analysis_of(bids, tmp_path))
    assert len(plan.errors) == 1, plan.render()
    assert where in str(plan.errors[0])
    assert re.search(what, str(plan.errors[0]))
    assert not (tmp_path / "study.zarr").exists()


def late_onsets(table: pd.DataFrame) -> pd.DataFrame:
    late = table[:2].assign(onset=[500.0, 600.0])
    return pd.concat([table, late])


WARNED: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "onsets past the end": (lambda b: change_events(b, late_onsets), {}, r"after the end of the run .*: 2,"),
    "leading n/a": (lambda b: None, {"confounds": ["trans_x_derivative1"]}, r"trans_x_derivative1"),
    "singular": (
        lambda b: change_confounds(b, lambda t: t.assign(rot_z=t.rot_x + t.rot_y)),
        {"confounds": ["rot_?"]},
        r"rot_z",
    ),
}


@pytest.mark.parametrize("damage", WARNED)
def test_what_was_assumed_is_said_and_the_run_is_used(bids, tmp_path, analysis_of, damage):
    break_it, level, what = WARNED[damage]
    break_it(bids)
    analysis = analysis_of(bids, tmp_path, data=PAIR)
    analysis["first_level"] = analysis["first_level"] | level
    assert any(re.search(what, str(p)) for p in voxloom.plan(analysis).problems)
    result = voxloom.run(analysis)
    assert result.ok
    assert any(re.search(what, text) and BAD_RUN in text for text in result.warnings), result.warnings


def test_unknown_contrast_lists_the_columns(bids, tmp_path, analysis_of):
    analysis = analysis_of(bids, tmp_path)
    analysis["first_level"]["contrasts"] = {"bad": "face - hose"}
    with pytest.raises(InputError, match=r"hose.*house.*constant"):
        voxloom.run(analysis)
    assert any("hose" in str(p) for p in voxloom.plan(analysis).errors)


def test_unestimable_contrast_is_an_error_that_names_columns(bids, tmp_path, analysis_of):
    for run in ("run-1", "run-2"):
        for path in bids.glob(f"derivatives/fmriprep/*/func/*{run}*confounds_timeseries.tsv"):
            table = pd.read_csv(path, sep="\t", na_values="n/a")
            table.assign(rot_z=table.rot_x + table.rot_y).to_csv(path, sep="\t", index=False, na_rep="n/a")
    analysis = analysis_of(bids, tmp_path, group={})
    analysis["first_level"] = {"confounds": ["rot_?"], "contrasts": {"spin": "rot_z"}}
    result = voxloom.run(analysis)
    assert len(result.quarantined) == 4
    assert all(re.search(r"spin|rot_z", r.reason) and "estimable" in r.reason for r in result.quarantined)


def test_group_with_fewer_maps_than_regressors(bids, tmp_path, analysis_of):
    analysis = analysis_of(bids, tmp_path, group={"big": {"formula": "age + site + sex", "contrasts": {"age": "age"}}})
    analysis["data"]["filters"] = {"subject": ["01", "02", "03"]}
    with pytest.raises(InputError, match=r"group\.big.*3 subjects"):
        voxloom.run(analysis)


def test_flat_voxels_are_missing_not_zero(bids, tmp_path, analysis_of):
    """A voxel without signal in one subject is left out there and counted; n and dof of the group say so."""
    study_mask = None
    for path in (bids / "derivatives/fmriprep/sub-02/func").glob("*desc-preproc_bold.nii.gz"):

        def flatten(image: nibabel.Nifti1Image) -> nibabel.Nifti1Image:
            data = np.asanyarray(image.dataobj).copy()
            data[5, 6, 4] = 1000
            return nibabel.Nifti1Image(data, image.affine, image.header)

        rewrite(path, flatten)
    result = voxloom.run(analysis_of(bids, tmp_path))
    assert result.ok
    assert any("without a signal" in text and "2 in all, in 2 of" in text for text in result.warnings)
    study = voxloom.open_study(result.store)
    study_mask = study.mask
    assert study_mask[5, 6, 4]
    place = int(np.flatnonzero(study.voxel == np.ravel_multi_index((5, 6, 4), study.grid.shape))[0])
    subject = study.results(result.results_name).effect.sel(contrast="faceVsHouse").isel(voxel=place)
    assert np.isnan(subject.sel(subject="sub-02"))
    assert np.isfinite(subject.sel(subject="sub-01"))
    (path,) = result.output.glob("group/mean/*contrast-faceVsHouse*stat-n_statmap.nii.gz")
    assert nibabel.load(path).get_fdata()[5, 6, 4] == 3


@pytest.mark.usefixtures("already_run")
def test_store_of_a_newer_schema_is_refused(bids, tmp_path, analysis_of):
    analysis = analysis_of(bids, tmp_path)
    voxloom.run(analysis)
    root = tmp_path / "study.zarr/zarr.json"
    content = json.loads(root.read_text())
    content["attributes"] |= BLANK
    content["attributes"]["voxloom"]["schema_version"] = 99
    root.write_bytes(seal(json.dumps(content).encode()))
    for attempt in (lambda: voxloom.run(analysis), lambda: voxloom.open_study(tmp_path / "study.zarr")):
        with pytest.raises(StoreError, match=r"99"):
            attempt()


def test_export_without_a_store_is_refused(bids, tmp_path, analysis_of):
    with pytest.raises(StoreError, match="voxloom run"):
        voxloom.pipeline.export(analysis_of(bids, tmp_path))
    assert not (tmp_path / "study.zarr").exists()


def test_given_mask_on_another_grid_is_named(bids, tmp_path, analysis_of):
    path = tmp_path / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), path)
    analysis = analysis_of(bids, tmp_path)
    analysis["data"]["mask"] = str(path)
    for attempt in (voxloom.plan, voxloom.run):
        with pytest.raises(GridError, match=r"mask\.nii\.gz.*\(4, 4, 4\)"):
            attempt(analysis)


@pytest.mark.usefixtures("already_run")
def test_changed_mask_rule_needs_another_store(bids, tmp_path, analysis_of):
    voxloom.run(analysis_of(bids, tmp_path))
    analysis = analysis_of(bids, tmp_path)
    analysis["data"]["mask"] = "intersection"
    with pytest.raises(StoreError, match=r"union.*intersection"):
        voxloom.run(analysis)


@pytest.mark.usefixtures("already_run")
def test_changed_source_is_ingested_again_and_only_what_depends_on_it(bids, tmp_path, analysis_of):
    from voxloom.engine.ledger import Ledger
    from voxloom.io.store.access import Objects

    analysis = analysis_of(bids, tmp_path)
    store = voxloom.run(analysis).store

    def digests(stage: str) -> dict[str, str]:
        return {key: r.finished + r.digest for key, r in Ledger(Objects(store)).read(stage).items()}

    before = {stage: digests(stage) for stage in ("ingest", "fit", "combine")}
    rewrite(
        bold_of(bids),
        lambda image: nibabel.Nifti1Image(np.asanyarray(image.dataobj) + np.int16(7), image.affine, image.header),
    )
    voxloom.run(analysis)
    changed = {stage: {key for key, value in digests(stage).items() if before[stage][key] != value} for stage in before}
    assert all("sub-02" in key for keys in changed.values() for key in keys)
    assert len(changed["ingest"]) == 1
    assert len(changed["combine"]) == 1


def test_gzip_of_a_text_is_not_an_image(bids, tmp_path, analysis_of):
    bold_of(bids).write_bytes(gzip.compress(b"not an image" * 100))
    result = voxloom.run(analysis_of(bids, tmp_path))
    assert [r.status for r in result.quarantined] == ["quarantined"]
    assert "NIfTI" in result.quarantined[0].reason
