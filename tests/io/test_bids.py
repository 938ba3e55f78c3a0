"""The run table against bids2table, on real trees and on small ones with one trap each."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest

from voxloom.errors import InputError
from voxloom.io.bids.participants import participants_of, read_participants
from voxloom.io.bids.run_table import index_runs, resolve_t_r
from voxloom.io.bids.tree import BIDSTree

if TYPE_CHECKING:
    from pathlib import Path

MNI = "space-MNI152NLin2009cAsym"


def make_tree(root: Path, *names: str, **contents: object) -> Path:
    """Files below `root`, empty unless `contents` (JSON) says otherwise for their last name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(contents[name]) if name in contents else "")
    return root


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def prep(root: Path) -> Path:
    return root / "derivatives" / "fmriprep"


def image(run: str, *, space: str = "", ses: str = "") -> str:
    """Relative path of a preprocessed image of `sub-01`."""
    parts = ["sub-01", *([f"ses-{ses}"] if ses else []), "task-x", run, space, "desc-preproc", "bold.nii.gz"]
    folder = f"sub-01/{f'ses-{ses}/' if ses else ''}func"
    return f"{folder}/{'_'.join(part for part in parts if part)}"


@pytest.fixture
def simple(tmp_path) -> Path:
    """One subject, two runs in MNI and native space, with masks and confounds."""
    raw = make_tree(tmp_path / "ds_R1.0", "sub-01/func/sub-01_task-x_run-1_bold.nii.gz", "task-x_events.tsv")
    for run in ("run-1", "run-2"):
        for space in (MNI, ""):
            make_tree(
                prep(raw),
                image(run, space=space),
                image(run, space=space).replace("desc-preproc_bold", "desc-brain_mask"),
            )
        make_tree(prep(raw), f"sub-01/func/sub-01_task-x_{run}_desc-confounds_timeseries.tsv")
    write_json(raw / "task-x_bold.json", {"RepetitionTime": 2.0})
    return raw


@pytest.mark.parametrize(
    "dataset",
    [
        "haxby_pseudo6_bids",
        "haxby_pseudo6_bids/derivatives/fmriprep",
        "ds005_bids_layout",
        "ds005_bids_layout/derivatives/fmriprep",
        "ds005_bids_layout/derivatives/events",
        "haxby2001_sub001/bids",
    ],
)
def test_tree_agrees_with_bids2table(voxloom_data, dataset):
    """Same files and entities as an independent index; it makes `run` a number, and leaves sidecars out."""
    bids2table = pytest.importorskip("bids2table")
    root = voxloom_data / "data" / dataset
    theirs = {row["path"]: row for row in bids2table.index_dataset(str(root)).to_pylist()}
    files = [file for file in BIDSTree(root).files if file.extension != ".json"]
    ours = {str(file.path.relative_to(root)): file for file in files}
    assert set(theirs) <= set(ours)
    # ours also lists what has no datatype folder, such as *_scans.tsv
    assert {path for path in ours if "/func/" in path} <= set(theirs)
    for path, row in theirs.items():
        found = ours[path]
        named = {key: value for key, value in row.items() if value is not None and key in found.entities}
        assert {k: int(v) if k == "run" else v for k, v in found.entities.items()} == named
        assert (found.suffix, found.extension) == (row["suffix"], row["ext"])


def test_haxby(voxloom_data):
    root = voxloom_data / "data" / "haxby_pseudo6_bids"
    runs = index_runs(root)
    assert [run.id for run in runs] == [f"sub-0{s}_task-objectviewing_run-{r}" for s in range(1, 7) for r in (1, 2)]
    for run in runs:
        stem = run.bold.name.removesuffix("_desc-preproc_bold.nii.gz")
        assert run.bold.parent == root / "derivatives/fmriprep" / run.subject / "func"
        assert run.mask == run.bold.with_name(f"{stem}_desc-brain_mask.nii.gz")
        assert run.confounds == run.bold.with_name(f"{stem}_desc-confounds_timeseries.tsv")
        assert run.events == root / run.subject / "func" / f"{stem}_events.tsv"
        assert run.t_r == 2.5
        assert run.site == ""
    raw = index_runs(root, [])
    assert [run.id for run in raw] == [run.id for run in runs]
    assert all(run.bold.is_relative_to(root / run.subject) and run.mask is None for run in raw)


def test_ds005_empty_images_are_listed(voxloom_data):
    root = voxloom_data / "data" / "ds005_bids_layout"
    derived, raw = index_runs(root), index_runs(root, [])
    assert len(derived) == 6
    assert len(raw) == 12
    assert {run.t_r for run in (*derived, *raw)} == {2.0}
    assert all(run.bold.stat().st_size == 0 for run in derived)
    assert [run.events for run in derived] == [run.events for run in raw][:6]
    assert [run.subject for run in raw] == [f"sub-{s:02d}" for s in (1, 2, 3, 4) for _ in range(3)]
    assert [run.entities["run"] for run in raw] == ["01", "02", "03"] * 4


def test_space_must_be_clear(simple):
    with pytest.raises(InputError, match=r"data.space: .*MNI152NLin2009cAsym \(2 images\), native \(2 images\)"):
        index_runs(simple)
    mni, native = (index_runs(simple, space=s) for s in ("MNI152NLin2009cAsym", "native"))
    assert [run.id for run in mni] == [run.id for run in native] == ["sub-01_task-x_run-1", "sub-01_task-x_run-2"]
    assert all(MNI in str(run.bold) and MNI in str(run.mask) for run in mni)
    assert all(MNI not in str(run.bold) + str(run.mask) for run in native)
    assert [run.confounds for run in mni] == [run.confounds for run in native]
    with pytest.raises(InputError, match="'T1w' has no image"):
        index_runs(simple, space="T1w")


def test_resolution_must_be_clear(simple):
    make_tree(prep(simple), image("run-1", space=f"{MNI}_res-2"))
    with pytest.raises(InputError, match=r"data.filters.*res-2 \(1 image\)"):
        index_runs(simple, space="MNI152NLin2009cAsym")
    (only,) = index_runs(simple, space="MNI152NLin2009cAsym", filters={"res": 2})
    assert "res-2" in only.bold.name


def test_task_must_be_clear(simple):
    make_tree(prep(simple), image("run-1").replace("task-x", "task-rest"))
    with pytest.raises(InputError, match=r"data.task: .*rest \(1 image\), x \(4 images\)"):
        index_runs(simple)
    assert len(index_runs(simple, task="rest")) == 1
    with pytest.raises(InputError, match="'y' has no image"):
        index_runs(simple, task="y")


def test_filters(simple):
    """An index matches without its zeros, a label does not; long and short names are the same."""
    for key in ("run", "subject"):
        with pytest.raises(InputError, match="no BOLD image has"):
            index_runs(simple, space="native", filters={key: "7"})
    ids = [run.id for run in index_runs(simple, space="native", filters={"run": ["02", 3], "sub": "01"})]
    assert ids == ["sub-01_task-x_run-2"]
    with pytest.raises(InputError, match=r"sub-1; there is 01 \(4 images\)"):
        index_runs(simple, filters={"subject": "1"})


def test_nothing_found(tmp_path, simple):
    with pytest.raises(InputError, match="no such folder"):
        index_runs(tmp_path / "absent")
    with pytest.raises(InputError, match="no such folder"):
        index_runs(simple, tmp_path / "absent")
    with pytest.raises(InputError, match="no BOLD image"):
        index_runs(make_tree(tmp_path / "empty", "sub-01/anat/sub-01_T1w.nii.gz"))
    make_tree(tmp_path / "flat", "sub-01/func/sub-01_task-x_space-MNI_desc-smooth_bold.nii.gz")
    with pytest.raises(InputError, match=r"desc-preproc; there is smooth \(1 image\)"):
        index_runs(simple, tmp_path / "flat")
    assert len(index_runs(simple, tmp_path / "flat", filters={"desc": "smooth"})) == 1


def test_raw_images_do_not_mix_with_derivatives(simple):
    (run,) = index_runs(simple, [])
    assert run.bold == simple / "sub-01/func/sub-01_task-x_run-1_bold.nii.gz"
    assert (run.mask, run.confounds, run.t_r) == (None, None, 2.0)


def test_first_of_several_derivatives_prevails(simple, tmp_path):
    other = make_tree(tmp_path / "other", image("run-2"))
    runs = index_runs(simple, [other, prep(simple)], space="native")
    assert [run.bold.is_relative_to(other) for run in runs] == [False, True]
    assert all(run.mask is not None for run in runs)


def test_two_images_of_one_run(simple):
    make_tree(prep(simple), image("run-1").removesuffix(".gz"))
    with pytest.raises(InputError, match=r"sub-01_task-x_run-1: two images fit"):
        index_runs(simple, space="native")


def test_echoes(tmp_path):
    echoes = [f"sub-01/func/sub-01_task-x_echo-{e}_bold.nii.gz" for e in (1, 2, 3)]
    root = make_tree(tmp_path / "raw", *echoes)
    with pytest.raises(InputError, match=r"one of 3 echoes.*Combine"):
        index_runs(root, [])
    (second,) = index_runs(root, [], filters={"echo": 2})
    assert second.bold.name == "sub-01_task-x_echo-2_bold.nii.gz"
    make_tree(root, "sub-01/func/sub-01_task-x_bold.nii.gz", "sub-01/func/sub-01_task-x_part-phase_bold.nii.gz")
    (combined,) = index_runs(root, [])
    assert combined.bold.name == "sub-01_task-x_bold.nii.gz"
    assert combined.id == second.id == "sub-01_task-x"


def test_inheritance_of_events(simple):
    """The nearest file prevails, of equally near ones the most specific; other entities do not apply."""
    run = "sub-01/func/sub-01_task-x_run-1"

    def events() -> Path | None:
        return index_runs(simple, space="native")[0].events

    assert events() == simple / "task-x_events.tsv"
    make_tree(simple, "task-x_run-1_events.tsv", "task-x_acq-a_events.tsv", "sub-01/func/sub-01_task-y_events.tsv")
    assert events() == simple / "task-x_run-1_events.tsv"
    make_tree(simple, "sub-01/sub-01_task-x_events.tsv")
    assert events() == simple / "sub-01/sub-01_task-x_events.tsv"
    make_tree(simple, f"{run}_events.tsv", f"{run}_desc-extra_events.tsv")
    assert events() == simple / f"{run}_events.tsv"
    make_tree(simple, "sub-01/func/sub-01_task-x_run-01_events.tsv")
    with pytest.raises(InputError, match="two events files fit"):
        events()


def test_inheritance_of_sidecars(simple):
    """Key by key, the nearest JSON prevails; the derivative's own before the raw one's."""

    def t_r() -> list[float | None]:
        return [run.t_r for run in index_runs(simple, space="native")]

    assert t_r() == [2.0, 2.0]
    write_json(simple / "sub-01/func/sub-01_task-x_run-2_bold.json", {"RepetitionTime": 2.1})
    assert t_r() == [2.0, 2.1]
    write_json(prep(simple) / "task-x_desc-preproc_bold.json", {"RepetitionTime": 2.2, "StartTime": 1.0})
    write_json(prep(simple) / "sub-01/func/sub-01_task-x_run-1_desc-preproc_bold.json", {"SkullStripped": False})
    assert t_r() == [2.2, 2.2]
    write_json(prep(simple) / "sub-01/func/sub-01_task-x_run-1_desc-preproc_bold.json", {"RepetitionTime": 1.5})
    assert t_r() == [1.5, 2.2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "no JSON object"),
        ('{"RepetitionTime": "2"}', "Seconds"),
        ('{"RepetitionTime": 2000}', "Seconds"),
        ('{"VolumeTiming": [0, 2]}', "VolumeTiming"),
    ],
)
def test_bad_sidecars(simple, text, words):
    (simple / "task-x_bold.json").write_text(text)
    with pytest.raises(InputError, match=words):
        index_runs(simple, space="native")


def test_natural_order_and_sessions(tmp_path):
    names = [
        f"sub-{s}/ses-{v}/func/sub-{s}_ses-{v}_task-x_run-{r}_bold.nii.gz"
        for s in ("2", "10")
        for v in ("b", "a")
        for r in (10, 9)
    ]
    ids = [run.id for run in index_runs(make_tree(tmp_path / "d", *names), [])]
    assert ids == [f"sub-{s}_ses-{v}_task-x_run-{r}" for s in (2, 10) for v in "ab" for r in (9, 10)]


def test_dotted_folder_is_a_dataset_here(simple, caplog):
    """Why there is a walk of our own: the other index silently finds nothing in `ds_R1.0`."""
    bids2table = pytest.importorskip("bids2table")
    with caplog.at_level(logging.CRITICAL):
        assert len(bids2table.index_dataset(str(simple))) == 0
    assert len(BIDSTree(simple).files) == 1


def test_participants(tmp_path, voxloom_data):
    real = read_participants(voxloom_data / "data" / "ds005_bids_layout")
    assert len(real) == 16
    assert real.loc["sub-02", "age"] == 21
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tage\tgroup\n02\tn/a\tNone\nsub-01\t30\tb\n")
    table = read_participants(path)
    assert list(table.index) == ["sub-02", "sub-01"]
    assert table["age"].isna().tolist() == [True, False]
    assert table["group"].tolist() == ["None", "b"]
    assert list(participants_of(table, ["sub-01", "sub-02"], "x").index) == ["sub-01", "sub-02"]
    with pytest.raises(InputError, match="no row for sub-03"):
        participants_of(table, ["sub-01", "sub-03"], "x")
    path.write_text("participant_id\n01\nsub-01\n")
    with pytest.raises(InputError, match="sub-01 more than once"):
        read_participants(path)
    path.write_text("subject\n01\n")
    with pytest.raises(InputError, match="participant_id"):
        read_participants(path)
    with pytest.raises(InputError, match="no such file"):
        read_participants(tmp_path / "absent.tsv")


def test_repetition_time():
    assert resolve_t_r(2.0, None, "x") == resolve_t_r(None, 2.0, "x") == resolve_t_r(2.0, 2.0005, "x") == 2.0
    assert resolve_t_r(2.5, 0.0, "x") == 2.5
    with pytest.raises(InputError, match=r"data\.t_r"):
        resolve_t_r(None, 0.0, "x")
    with pytest.raises(InputError, match=r"RepetitionTime 2 s, the header 2.01 s.*data\.t_r"):
        resolve_t_r(2.0, 2.01, "x")
