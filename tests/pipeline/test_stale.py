"""What an earlier run left in store and output is never taken for the result of this one."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

import voxloom
from voxloom.engine.events import StageStarted
from voxloom.engine.ledger import Ledger
from voxloom.errors import CorruptionError, StoreError
from voxloom.io.store.access import Objects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def images(digests: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in digests.items() if name.endswith(".nii.gz")}


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run comes after it."""


def killed_at(stage: str) -> Callable[[Any], None]:
    """Ends the run when room for a stage has been made and none of its tasks has run."""

    def listen(event: Any) -> None:
        if isinstance(event, StageStarted) and event.stage == stage:
            raise Killed

    return listen


def hide(bids: Path, label: str) -> Callable[[], None]:
    """Take a subject away; the result brings it back."""
    here, away = bids / "derivatives/fmriprep" / f"sub-{label}", bids.parent / f"away-{label}"
    here.rename(away)
    return lambda: away.rename(here) and None


def spoil(bids: Path, label: str) -> None:
    for path in (bids / f"derivatives/fmriprep/sub-{label}/func").glob("*_bold.nii.gz"):
        path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("stage", ["consolidate", "group", "correct"])
def test_kill_after_making_room_leaves_no_mixture(bids, tmp_path, analysis_of, digests_of, undisturbed, stage):
    """As many subjects, but others: old rows under new names would look right."""
    analysis = analysis_of(bids, tmp_path)
    back = hide(bids, "04")
    first = voxloom.run(analysis)
    back()
    back = hide(bids, "03")
    with pytest.raises(Killed):
        voxloom.run(analysis, on_event=killed_at(stage))
    study = voxloom.open_study(first.store)
    of_subjects, of_group = study.results(first.results_name), study.results(first.group_names["mean"])
    if stage == "consolidate":
        with pytest.raises(CorruptionError):
            of_subjects.effect.compute()
    elif stage == "group":
        with pytest.raises(CorruptionError):
            of_group.stat.compute()
        assert "p_max_stat" not in of_group  # that of the other subjects would stand beside the new statistic
    else:
        with pytest.raises(CorruptionError):
            of_group.p_max_stat.compute()
    back()
    result = voxloom.run(analysis)
    assert images(digests_of(result.output)) == images(undisturbed)


@pytest.mark.usefixtures("already_run")
def test_p_values_that_nobody_asks_for_any_more_go(pristine_study, tmp_path, analysis_of):
    result = voxloom.run(analysis_of(pristine_study, tmp_path))
    name = result.group_names["mean"]
    before = voxloom.open_study(result.store).results(name)
    assert {"p_max_stat", "p_fdr", "null_max_stat"} <= set(before)
    assert before.p_max_stat.attrs["n_perm"] == 16
    fewer = {"mean": {"inference": {"method": "fdr", "two_sided": False}}}
    assert voxloom.run(analysis_of(pristine_study, tmp_path, group=fewer)).group_names["mean"] == name
    after = voxloom.open_study(result.store).results(name)
    assert "p_fdr" in after
    assert not after.p_fdr.attrs["two_sided"]
    assert not {"p_max_stat", "p_bonferroni", "null_max_stat"} & set(after)


@pytest.mark.usefixtures("already_run")
def test_renamed_run_gives_maps_and_files_of_its_new_name(bids, tmp_path, analysis_of, digests_of, undisturbed):
    analysis = analysis_of(bids, tmp_path)
    voxloom.run(analysis)
    for path in sorted(bids.rglob("sub-02*run-2*")):
        path.rename(path.with_name(path.name.replace("run-2", "run-7")))
    result = voxloom.run(analysis)
    assert result.ok
    study = voxloom.open_study(result.store)
    maps = study.objects.list(f"results/{result.results_name}/runs/sub-02_task-faces_run-7")
    assert any("/c/" in key for key in maps)
    found = digests_of(result.output)
    assert "sub-02/func/sub-02_task-faces_run-7_design.tsv" in found
    before = {re.sub("(sub-02.*)run-2", r"\1run-7", name): value for name, value in images(undisturbed).items()}
    now = {name: value for name, value in images(found).items() if not re.search("sub-02.*run-2", name)}
    assert now == before  # files of the old name stay, as all that a run has written and no longer writes


@pytest.mark.usefixtures("already_run")
def test_subject_without_a_run_leaves_the_group_and_is_named(bids, tmp_path, analysis_of):
    analysis = analysis_of(bids, tmp_path)
    assert not any("left out" in text or "earlier runs" in text for text in voxloom.run(analysis).warnings)
    spoil(bids, "02")
    result = voxloom.run(analysis)
    assert len(result.quarantined) == 2
    assert any("sub-02" in text and "left out" in text for text in result.warnings), result.warnings
    assert any("sub-02/func" in text and "earlier runs" in text for text in result.warnings), result.warnings
    (path,) = result.output.glob("group/mean/*contrast-faceVsHouse*stat-n_statmap.nii.gz")
    assert nibabel.load(path).get_fdata().max() == 3
    study = voxloom.open_study(result.store)
    assert list(study.results(result.results_name).subject.values) == ["sub-01", "sub-03", "sub-04"]
    assert study.results_table.loc[result.group_names["mean"], "n_subjects"] == 3


def test_group_model_that_lost_its_subjects_costs_nothing_else(bids, tmp_path, analysis_of):
    mean = {"inference": {"n_perm": 4, "alpha": 0.25}}
    models = {"mean": mean, "age": {"covariates": ["age"], "contrasts": {"age": "age"}}}
    analysis = analysis_of(bids, tmp_path)
    analysis["group"] = models
    spoil(bids, "02")
    spoil(bids, "03")
    result = voxloom.run(analysis)
    assert [(r.stage, r.key) for r in result.quarantined if r.stage == "group"] == [("group", "age")]
    assert "2 subjects" in result.quarantined[-1].reason
    assert list(result.output.glob("group/mean/*stat-t_statmap.nii.gz"))
    assert list(result.output.glob("sub-01/func/*stat-t_statmap.nii.gz"))


@pytest.mark.usefixtures("already_run")
def test_status_and_plan_while_subjects_are_missing(pristine_study, tmp_path, analysis_of):
    """One subject is combined, the group model needs two: no error, the stages behind are not in sight yet."""
    analysis = analysis_of(pristine_study, tmp_path)
    ledger = Ledger(Objects(voxloom.run(analysis).store))
    for record in list(ledger.read("combine").values())[1:]:
        ledger.forget(record)
    stages = {stage.name: (stage.done, stage.total) for stage in voxloom.pipeline.status(analysis).stages}
    assert stages["combine"] == (1, 4)
    assert stages["group"] == stages["infer"] == stages["correct"] == (0, 0)
    assert voxloom.plan(analysis).stages[3].n_done == 1


def test_mask_file_is_known_by_its_voxels(bids, tmp_path, analysis_of):
    mask = next(bids.rglob("*desc-brain_mask.nii.gz"))
    kept = shutil.copy2(mask, tmp_path / "mask.nii.gz")
    analysis = analysis_of(bids, tmp_path, group={})
    analysis["data"]["mask"] = str(kept)
    voxloom.run(analysis)
    analysis["data"]["mask"] = str(shutil.copy2(mask, tmp_path / "elsewhere.nii.gz"))
    assert voxloom.run(analysis).ok
    image = nibabel.load(mask)
    smaller = np.asarray(image.dataobj).copy()
    smaller[: smaller.shape[0] // 2] = 0
    nibabel.save(nibabel.Nifti1Image(smaller, image.affine, image.header), kept)
    analysis["data"]["mask"] = str(kept)
    for attempt in (voxloom.run, voxloom.plan):
        with pytest.raises(StoreError, match="voxels"):
            attempt(analysis)


def flip_a_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 0x10
    path.write_bytes(raw)


#: Array in the store, and the stage that reads it.
DAMAGED = {
    "bold": ("runs/sub-02_task-faces_run-1/bold", "fit"),
    "estimates": ("fits/*/sub-02_task-faces_run-1/beta", "combine"),
    "subject map": ("results/*/subjects/sub-02/effect", "consolidate"),
    "consolidated": ("results/{subjects}/effect", "group"),
    "group statistic": ("results/{group}/z_score", "correct"),
    "null": ("nulls/*/0-0-all/max_stat", "correct"),
    "counts": ("nulls/*/0-0-all/reached", "correct"),
}


@pytest.mark.usefixtures("already_run")
@pytest.mark.parametrize("damage", DAMAGED)
def test_flipped_byte_is_named_and_gives_no_numbers(pristine_study, tmp_path, analysis_of, damage):
    pattern, reader = DAMAGED[damage]
    analysis = analysis_of(pristine_study, tmp_path)
    first = voxloom.run(analysis)
    assert voxloom.pipeline.verify(first.store) == []
    store = tmp_path / "study.zarr"
    (array,) = store.glob(pattern.format(subjects=first.results_name, group=first.group_names["mean"]))
    shard = max(path for path in array.rglob("c/**/*") if path.is_file())
    flip_a_byte(shard)
    assert [damage.key for damage in voxloom.pipeline.verify(first.store)] == [str(shard.relative_to(store))]
    # the stage that reads it runs again: loud, and without numbers
    ledger = Ledger(Objects(first.store))
    before = ledger.read(reader)
    for record in before.values():
        ledger.forget(record)
    result = voxloom.run(analysis)
    bad = [record for record in (*result.quarantined, *result.failed) if record.stage == reader]
    assert bad
    assert all(str(array.relative_to(store)) in record.reason for record in bad), bad
    after = ledger.read(reader)
    assert all(after[record.key].digest == "" for record in bad)
    # and every other task of the stage gives what it gave
    good = set(before) - {record.key for record in bad}
    assert {key: after[key].digest for key in good} == {key: before[key].digest for key in good}


@pytest.mark.usefixtures("already_run")
def test_unreadable_metadata_is_named(pristine_study, tmp_path, analysis_of):
    store = voxloom.run(analysis_of(pristine_study, tmp_path)).store
    path = next((tmp_path / "study.zarr/fits").rglob("beta/zarr.json"))
    path.write_text(json.dumps({"node_type": "array"}))
    (damage,) = voxloom.pipeline.verify(store)
    assert damage.key == str(path.relative_to(store))
