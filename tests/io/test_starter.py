"""The starter file: valid as written, for real datasets and for awkward ones."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import voxloom
from voxloom.errors import InputError
from voxloom.io.bids.confounds import read_confounds, select_confounds
from voxloom.io.bids.run_table import index_runs
from voxloom.io.bids.starter import starter, write_starter
from voxloom.simulate import write_bids_study
from voxloom.spec import load_analysis

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


def make_study(
    root: Path,
    conditions: Sequence[str] = ("face", "house"),
    *,
    subjects: int = 2,
    confounds: str = "",
    spaces: Sequence[str] = ("",),
) -> Path:
    for s in range(1, subjects + 1):
        stem = f"sub-{s:02d}_task-x"
        raw, derived = (base / f"sub-{s:02d}" / "func" for base in (root, root / "derivatives/fmriprep"))
        raw.mkdir(parents=True)
        derived.mkdir(parents=True)
        (raw / f"{stem}_bold.nii.gz").touch()
        rows = [("onset", "duration", "trial_type"), *((i, 1, name) for i, name in enumerate(conditions))]
        with open(raw / f"{stem}_events.tsv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)
        for space in spaces:
            (derived / f"{stem}{space}_desc-preproc_bold.nii.gz").touch()
        if confounds:
            (derived / f"{stem}_desc-confounds_timeseries.tsv").write_text(confounds)
    return root


def test_haxby_runs_with_nothing_but_the_two_folders(voxloom_data, tmp_path):
    root = voxloom_data / "data" / "haxby_pseudo6_bids"
    path = write_starter(root, root / "derivatives/fmriprep", tmp_path / "haxby.yaml")
    analysis = load_analysis(path)
    level = analysis.first_level
    assert analysis.data.bids_dir == root
    assert level.confounds.columns == (*MOTION, "cosine*")
    assert level.drift_model is None
    conditions = ["bottle", "cat", "chair", "face", "house", "scissors", "scrambledpix", "shoe"]
    assert set(level.contrasts) == {*conditions, "face - house"}
    assert level.contrasts["face - house"].expression == "face - house"
    assert analysis.group["mean"].inference.method == ("bonferroni", "fdr", "permutation")
    runs = index_runs(
        analysis.data.bids_dir, analysis.data.derivatives, task=analysis.data.task, space=analysis.data.space
    )
    assert len(runs) == 12
    for run in runs:
        chosen = select_confounds(read_confounds(run.confounds), level.confounds.columns, run.id)
        assert chosen.shape == (121, 10)


def test_presets_are_offered_where_the_tables_have_their_columns(tmp_path):
    """A comment of the file, which then runs with any of them in place of the columns."""
    write_bids_study(tmp_path / "bids", n_subjects=2, n_runs=1, shape=(6, 7, 5), n_volumes=70)
    text = starter(tmp_path / "bids")
    (line,) = [line for line in text.splitlines() if "by a strategy" in line]
    assert line.endswith("confounds: simple | scrubbing")
    raw = yaml.safe_load(text)
    raw["data"]["bids_dir"] = str(tmp_path / "bids")
    for preset in ("simple", "scrubbing"):
        raw["first_level"]["confounds"] = preset
        assert not voxloom.plan(raw | {"store": {"path": str(tmp_path / "s.zarr")}}).errors


def test_ds005(voxloom_data, tmp_path):
    analysis = load_analysis(write_starter(voxloom_data / "data" / "ds005_bids_layout", None, tmp_path / "a.yaml"))
    assert analysis.data.space == "MNI152NLin2009cAsym"
    assert analysis.first_level.drift_model == "cosine"
    assert analysis.first_level.confounds.empty
    assert {c.expression for c in analysis.first_level.contrasts.values()} == {"`parametric gain`"}


def test_real_dataset_without_derivatives(voxloom_data, tmp_path):
    path = write_starter(voxloom_data / "data/haxby2001_sub001/bids", None, tmp_path / "a.yaml")
    analysis = load_analysis(path)
    assert analysis.group == {}
    assert "face - house" in analysis.first_level.contrasts


def test_paths_below_the_file_are_relative(tmp_path):
    root = make_study(tmp_path / "bids")
    text = write_starter(root, None, tmp_path / "a.yaml").read_text()
    assert str(tmp_path) not in text
    assert load_analysis(tmp_path / "a.yaml").data.bids_dir == root
    assert load_analysis(tmp_path / "a.yaml").data.derivatives == (root / "derivatives/fmriprep",)
    assert str(tmp_path) in starter(root)


def test_standard_space_and_one_resolution_are_chosen(tmp_path):
    spaces = ("", "_space-T1w", "_space-MNI152_res-1", "_space-MNI152_res-2", "_space-OASIS")
    path = write_starter(make_study(tmp_path / "bids", spaces=spaces), None, tmp_path / "a.yaml")
    data = load_analysis(path).data
    assert (data.space, dict(data.filters)) == ("MNI152", {"res": ("1",)})
    assert "MNI152_res-2 (2 images)" in path.read_text()
    assert len(index_runs(data.bids_dir, data.derivatives, space=data.space, filters=data.filters)) == 2


def test_commonest_task_is_chosen(tmp_path):
    root = make_study(tmp_path / "bids")
    (root / "derivatives/fmriprep/sub-01/func/sub-01_task-rest_desc-preproc_bold.nii.gz").touch()
    path = write_starter(root, None, tmp_path / "a.yaml")
    assert load_analysis(path).data.task == "x"
    assert "rest (1 images)" in path.read_text()


def test_conditions_that_some_runs_lack_are_left_to_the_user(tmp_path):
    root = make_study(tmp_path / "bids", ("a", "b", "c"))
    (root / "sub-02/func/sub-02_task-x_events.tsv").write_text("onset\tduration\ttrial_type\n0\t1\ta\n1\t1\tc\n")
    path = write_starter(root, None, tmp_path / "a.yaml")
    assert set(load_analysis(path).first_level.contrasts) == {"a", "c", "a - c"}
    assert "# also there: b (1 runs)" in path.read_text()


def test_trialwise_coding_gives_a_dozen_contrasts(tmp_path):
    path = write_starter(make_study(tmp_path / "bids", [f"trial{i:03d}" for i in range(90)]), None, tmp_path / "a.yaml")
    assert len(load_analysis(path).first_level.contrasts) == 13


def test_events_without_names_or_none_at_all(tmp_path):
    root = make_study(tmp_path / "bids", confounds="trans_x\tcsf\n0\t0\n")
    for s in ("01", "02"):
        (root / f"sub-{s}/func/sub-{s}_task-x_events.tsv").write_text("onset\tduration\n0\t1\n")
    analysis = load_analysis(write_starter(root, None, tmp_path / "a.yaml"))
    assert set(analysis.first_level.contrasts) == {"dummy"}
    assert analysis.first_level.confounds.columns == ("trans_x",)
    for s in ("01", "02"):
        (root / f"sub-{s}/func/sub-{s}_task-x_events.tsv").unlink()
    analysis = load_analysis(write_starter(root, None, tmp_path / "b.yaml"))
    assert analysis.first_level.contrasts == {}
    assert analysis.group == {}


def test_covariates_are_named(tmp_path):
    root = make_study(tmp_path / "bids")
    (root / "participants.tsv").write_text("participant_id\tage\tsite\nsub-01\t30\ta\nsub-02\t31\ta\n")
    assert "participants.tsv has: age\n" in write_starter(root, None, tmp_path / "a.yaml").read_text()


def test_an_existing_file_is_kept(tmp_path):
    root = make_study(tmp_path / "bids")
    (tmp_path / "a.yaml").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        write_starter(root, None, tmp_path / "a.yaml")
    assert (tmp_path / "a.yaml").read_text() == "mine"
    load_analysis(write_starter(root, None, tmp_path / "a.yaml", force=True))


names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8) | st.sampled_from(
    ["yes", "null", "no", "true", "1", "1e3", "a b", "a:b", "# x", "Face", "face", "-", "a*b", "{x}", "'q'"]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(names, min_size=1, max_size=6, unique=True))
def test_any_names_of_conditions_give_a_valid_file(tmp_path_factory, conditions):
    folder = tmp_path_factory.mktemp("starter")
    root = make_study(folder / "bids", conditions, subjects=1)
    contrasts = load_analysis(write_starter(root, None, folder / "a.yaml")).first_level.contrasts
    usable = {name for name in conditions if "`" not in name and '"' not in name}
    written = {c.expression.strip("`") for c in contrasts.values()}
    assert {name for name in usable if name not in ("NA", "nan", "NaN")} <= written | {""}
