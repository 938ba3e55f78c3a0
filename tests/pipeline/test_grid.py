"""The voxels of a study: rules and templates, how many runs cover each, runs that come, change and go."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import voxloom
from voxloom.cli import app
from voxloom.engine.ledger import Ledger
from voxloom.errors import GridError, StoreError, VoxloomWarning
from voxloom.io.store.access import Objects
from voxloom.io.study.coverage import coverage_state
from voxloom.pipeline import removal
from voxloom.schema import grid_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RUN = "sub-02_task-faces_run-1"


def masks_of(bids: Path) -> dict[str, np.ndarray]:
    """Brain masks by the id of the run."""
    paths = sorted(bids.rglob("*desc-brain_mask.nii.gz"))
    return {p.name.partition("_space")[0]: np.asarray(nibabel.load(p).dataobj) > 0 for p in paths}


def change_mask(bids: Path, run: str, *places: tuple[int, int, int], value: bool) -> None:
    (path,) = bids.rglob(f"{run}_*desc-brain_mask.nii.gz")
    image = nibabel.load(path)
    data = np.asarray(image.dataobj).copy()
    for place in places:
        data[place] = value
    nibabel.save(nibabel.Nifti1Image(data, image.affine, image.header), path)


def ledger_of(store: str, *stages: str) -> dict[str, str]:
    """When every task of some stages, else of the first four, was finished."""
    ledger = Ledger(Objects(store))
    return {
        f"{stage}/{key}": record.finished
        for stage in stages or ("ingest", "design", "fit", "combine")
        for key, record in ledger.read(stage).items()
    }


def contents(folder: Path, *leave: str) -> dict[str, bytes]:
    """Bytes of every file below a folder, those whose path matches one of `leave` left out."""
    names = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {n: p.read_bytes() for n, p in names.items() if not any(re.search(pattern, n) for pattern in leave)}


def images(digests: dict[str, str], start: str = "") -> dict[str, str]:
    return {n: value for n, value in digests.items() if n.startswith(start) and n.endswith(".nii.gz")}


def assert_covered(store: str, masks: Iterable[np.ndarray]) -> None:
    """The coverage is the sum of these masks at the study's voxels."""
    study = voxloom.open_study(store)
    np.testing.assert_array_equal(study.coverage.values, np.sum(list(masks), axis=0)[study.mask])
    assert study.coverage.sizes == {"voxel": study.voxel.size}


@pytest.fixture(scope="module")
def some(pristine_study, tmp_path_factory) -> Path:
    """Two subjects of the study with both runs; not to be changed."""
    folder = tmp_path_factory.mktemp("some") / "bids"
    ignored = shutil.ignore_patterns("sub-01", "sub-04")
    return shutil.copytree(pristine_study, folder, ignore=ignored)


@pytest.fixture
def few(some, tmp_path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(some, tmp_path / "bids")


@pytest.fixture
def small(few, tmp_path, analysis_of) -> dict[str, Any]:
    """An analysis of it, without permutations."""
    return analysis_of(few, tmp_path, group={"mean": {"inference": {"method": "fdr"}}})


def test_coverage_counts_the_masks_of_the_runs(some, tmp_path, analysis_of):
    result = voxloom.run(analysis_of(some, tmp_path, group={}))
    masks = masks_of(some)
    assert_covered(result.store, masks.values())
    study = voxloom.open_study(result.store)
    assert 0 < study.coverage.min() < study.coverage.max() == 4
    assert grid_of(study.coverage) == study.grid
    np.testing.assert_array_equal(study.coverage.vx.to_nifti().get_fdata()[study.mask], study.coverage)
    second = study.runs.query("sub == '02'").index
    wanted = sum(mask for run, mask in masks.items() if run.startswith("sub-02"))
    np.testing.assert_array_equal(study.coverage_of(second), wanted[study.mask])
    with pytest.raises(StoreError):
        study.coverage_of(["sub-09"])


def test_smoothed_copies_are_the_same_runs(some, tmp_path, analysis_of):
    for fwhm in (None, 9):
        level = {"confounds": ["trans_?"], "contrasts": {"face": "face"}, "smoothing_fwhm": fwhm}
        result = voxloom.run(analysis_of(some, tmp_path, first_level=level, group={}))
    assert len(voxloom.open_study(result.store).runs) == 8
    assert_covered(result.store, masks_of(some).values())


def test_run_that_comes_later_is_counted_and_what_it_has_outside_is_told(few, small, tmp_path):
    late = few.parent / "late"
    (few / "derivatives/fmriprep/sub-02").rename(late)
    first = voxloom.run(small | {"group": {}})
    assert not first.warnings
    late.rename(few / "derivatives/fmriprep/sub-02")
    change_mask(few, "sub-02_task-faces_run-2", (0, 0, 0), (0, 0, 1), (9, 11, 8), value=True)
    before = contents(tmp_path / "study.zarr", "^(ledger|coverage|results/[^/]+/[^/]+/c/)", "zarr.json")
    told = r"voxels outside the study's: 1 of 4 runs have 3 in all .* sub-02_task-faces_run-2 \(3\)"
    plan = voxloom.plan(small)
    assert len(plan.problems) == 1
    assert re.search(told, str(plan.problems[0]))
    result = voxloom.run(small)
    assert result.ok
    assert any(re.search(told, text) for text in result.warnings), result.warnings
    assert re.search(told, voxloom.pipeline.status(small).render())
    assert re.search(told, str(voxloom.plan(small)))
    assert_covered(result.store, masks_of(few).values())
    assert voxloom.open_study(result.store).runs.n_outside.tolist() == [0, 3, 0, 0]
    after = contents(tmp_path / "study.zarr")
    assert {name: after[name] for name in before} == before


def test_replaced_run_is_counted_as_it_is_now(few, small):
    voxloom.run(small)
    place = tuple(np.argwhere(masks_of(few)[RUN])[7])
    change_mask(few, RUN, place, value=False)
    result = voxloom.run(small)
    assert_covered(result.store, masks_of(few).values())


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("key", ["coverage/c/0", "coverage/zarr.json"])
def test_kill_while_the_coverage_is_written_is_mended_by_the_next_run(few, small, monkeypatch, key):
    put = Objects.put

    def killing(self: Objects, name: str, value: bytes) -> None:
        if name == key and "ingest" in self.children("ledger"):
            raise Killed
        put(self, name, value)

    monkeypatch.setattr(Objects, "put", killing)
    with pytest.raises(Killed):
        voxloom.run(small)
    monkeypatch.undo()
    result = voxloom.run(small)
    assert_covered(result.store, masks_of(few).values())


def test_second_run_does_not_count_again(some, tmp_path, analysis_of, monkeypatch):
    analysis = analysis_of(some, tmp_path, group={})
    store = voxloom.run(analysis).store
    state = coverage_state(Objects(store))
    assert state
    monkeypatch.setattr("voxloom.pipeline.coverage.write_coverage", None)
    voxloom.run(analysis)
    assert coverage_state(Objects(store)) == state


def test_damaged_mask_in_the_store_leaves_no_coverage_rather_than_an_old_one(some, tmp_path, analysis_of):
    analysis = analysis_of(some, tmp_path, group={})
    store = voxloom.run(analysis).store
    chunk = tmp_path / f"study.zarr/runs/{RUN}/in_mask/c/0"
    whole = chunk.read_bytes()
    chunk.write_bytes(bytes([whole[0], *whole[1:-1], whole[-1] ^ 1]))
    with pytest.warns(VoxloomWarning, match=rf"coverage: cannot be counted: .*{RUN}/in_mask"):
        voxloom.remove_run(store, RUN.replace("run-1", "run-2"))
    with pytest.raises(StoreError):
        _ = voxloom.open_study(store).coverage
    chunk.write_bytes(whole)
    voxloom.run(analysis)
    assert_covered(store, masks_of(some).values())


def test_run_without_a_mask_counts_where_its_signal_is(few, small):
    (path,) = few.rglob(f"{RUN}_*desc-brain_mask.nii.gz")
    path.unlink()
    result = voxloom.run(small)
    study = voxloom.open_study(result.store)
    in_mask = study.run(RUN).in_mask.values
    (bold,) = few.rglob(f"{RUN}_*_bold.nii.gz")
    mean = np.asarray(nibabel.load(bold).dataobj)[study.mask].mean(axis=1)
    assert 0 < in_mask.sum() < in_mask.size
    assert mean[in_mask].min() > mean[~in_mask].max()


def save_template(path: Path, image: nibabel.Nifti1Image) -> str:
    nibabel.save(image, path)
    return str(path)


def test_template_is_brought_onto_the_grid_of_the_runs(few, small, tmp_path):
    """A box in mm, on a grid of its own: the study's voxels are those whose centres lie in it."""
    (bold, *_) = sorted(few.rglob("*_bold.nii.gz"))
    affine, shape = nibabel.load(bold).affine, nibabel.load(bold).shape[:3]
    fine = np.diag([1.0, 1.0, 1.0, 1.0])
    corner = np.round(affine[:3, 3]) - 0.5
    fine[:3, 3] = corner
    extent = np.ceil(np.abs(affine[:3, :3]).sum(axis=1) * shape).astype(int) + 1
    box = np.zeros(extent, np.uint8)
    low, high = extent // 4, extent - extent // 4
    box[tuple(slice(a, b) for a, b in zip(low, high))] = 1
    path = save_template(tmp_path / "tpl-MNI152NLin2009cAsym_desc-brain_mask.nii.gz", nibabel.Nifti1Image(box, fine))
    small["data"]["mask"] = {"template": path}
    told = rf"tpl-MNI\S+ was resampled by nearest neighbour from .* to the study's \({shape[0]}, "
    assert any(re.search(told, str(p)) for p in voxloom.plan(small).problems)
    result = voxloom.run(small)
    assert any(re.search(told, text) for text in result.warnings), result.warnings
    study = voxloom.open_study(result.store)
    centres = affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]
    edges = corner - 0.5 + low, corner - 0.5 + high
    inside = ((centres >= edges[0][:, None]) & (centres < edges[1][:, None])).all(axis=0)
    assert 0 < inside.sum() < inside.size
    np.testing.assert_array_equal(study.mask, inside.reshape(shape))
    assert study.meta["mask"] == {"template": path}
    assert any("voxels outside the study's: 4 of 4 runs" in text for text in result.warnings)
    outside = [int((mask & ~study.mask).sum()) for mask in masks_of(few).values()]
    assert study.runs.n_outside.tolist() == outside
    small["data"]["mask"] = "union"
    with pytest.raises(StoreError, match=r"was made with data\.mask: template"):
        voxloom.run(small)
    box[: extent[0] // 2] = 0
    small["data"]["mask"] = {"template": save_template(tmp_path / "other.nii.gz", nibabel.Nifti1Image(box, fine))}
    with pytest.raises(StoreError, match=r"the voxels of template .*other\.nii\.gz are others"):
        voxloom.run(small)


def test_template_of_another_space_is_refused(few, small, tmp_path):
    (mask, *_) = sorted(few.rglob("*desc-brain_mask.nii.gz"))
    small["data"] |= {"space": "MNI152NLin2009cAsym"}
    path = save_template(tmp_path / "tpl-MNI152NLin6Asym_res-02_desc-brain_mask.nii.gz", nibabel.load(mask))
    small["data"]["mask"] = {"template": path}
    for attempt in (voxloom.plan, voxloom.run):
        with pytest.raises(GridError, match=r"space MNI152NLin6Asym, but the study is in MNI152NLin2009cAsym"):
            attempt(small)


def test_intersection_tells_what_it_leaves_out(few, small):
    small["data"]["mask"] = "intersection"
    planned = [str(p) for p in voxloom.plan(small).problems]
    result = voxloom.run(small)
    masks = list(masks_of(few).values())
    common = np.logical_and.reduce(masks)
    np.testing.assert_array_equal(voxloom.open_study(result.store).mask, common)
    n = sum(int((mask & ~common).sum()) for mask in masks)
    (note,) = result.warnings
    assert f"have {n} in all" in note
    assert [f"warning: {note}"] == planned


def test_removed_run_leaves_everything_else_as_it_was(few, small, tmp_path, digests_of):
    """And what is made anew is what a study without the run would have."""
    first = voxloom.run(small)
    store = tmp_path / "study.zarr"
    own = (RUN, "^coverage", "lock.json", r"/sub-02[/.]")
    before, records = contents(store, *own), ledger_of(first.store)
    assert removal.remove_run(first.store, RUN) == [first.results_name]
    assert contents(store, *own) == before
    left = [name for name in contents(store) if RUN in name]
    assert not left
    assert not (store / "results" / first.results_name / "subjects/sub-02").exists()
    study = voxloom.open_study(first.store)
    assert RUN not in study.runs.index
    masks = masks_of(few)
    del masks[RUN]
    assert_covered(first.store, masks.values())

    for path in sorted((few / "derivatives").rglob(f"{RUN}_*")):
        path.unlink()
    second = voxloom.run(small)
    after = ledger_of(first.store)
    redone = {key for key in after if after[key] != records.get(key)}
    assert redone == {f"combine/{first.results_name}/sub-02"}
    alone = small | {"store": {"path": str(tmp_path / "alone.zarr")}, "output": {"dir": str(tmp_path / "alone")}}
    wanted = images(digests_of(voxloom.run(alone).output))
    found = digests_of(second.output)
    assert {name: found[name] for name in wanted} == wanted


def test_removed_run_that_is_still_there_comes_back_and_an_excluded_one_does_not(few, small, digests_of):
    first = voxloom.run(small)
    whole, records = images(digests_of(first.output)), ledger_of(first.store)
    voxloom.remove_run(first.store, RUN)
    again = voxloom.run(small)
    assert images(digests_of(again.output)) == whole
    redone = {key for key, finished in ledger_of(first.store).items() if records[key] != finished}
    assert redone == {key for key in records if RUN in key} | {f"combine/{first.results_name}/sub-02"}
    voxloom.remove_run(first.store, RUN)
    small["data"]["exclude"] = [RUN]
    result = voxloom.run(small)
    assert RUN not in voxloom.open_study(result.store).runs.index
    assert not [key for key in ledger_of(first.store, "ingest", "fit") if RUN in key]


def test_smoothed_versions_go_with_their_run(some, tmp_path, analysis_of):
    for fwhm in (None, 9):
        level = {"confounds": ["trans_?"], "contrasts": {"face": "face"}, "smoothing_fwhm": fwhm}
        store = voxloom.run(analysis_of(some, tmp_path, first_level=level, group={})).store
    assert len(voxloom.remove_run(store, f"{RUN}_smooth-9")) == 2
    assert not [name for name in contents(tmp_path / "study.zarr") if RUN in name]


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
def test_removal_that_was_killed_is_repeated(some, tmp_path, analysis_of, monkeypatch, step):
    """Killed at the n-th tree it deletes."""
    analysis = analysis_of(some, tmp_path, group={})
    store = voxloom.run(analysis).store
    delete_tree, calls = Objects.delete_tree, iter(range(1, 100))

    def killing(self: Objects, prefix: str) -> None:
        if next(calls) == step:
            raise Killed
        delete_tree(self, prefix)

    monkeypatch.setattr(Objects, "delete_tree", killing)
    try:
        voxloom.remove_run(store, RUN)
    except Killed:
        monkeypatch.undo()
        os.unlink(tmp_path / "study.zarr/lock.json") if (tmp_path / "study.zarr/lock.json").exists() else None
        voxloom.remove_run(store, RUN)
    assert not [name for name in contents(tmp_path / "study.zarr") if RUN in name]
    masks = masks_of(some)
    del masks[RUN]
    assert_covered(store, masks.values())


def test_unknown_run_is_refused_with_the_nearest_name(some, tmp_path, analysis_of):
    analysis = analysis_of(some, tmp_path, group={})
    store = voxloom.run(analysis).store
    with pytest.raises(StoreError, match=f"Nearest: .*{RUN}"):
        voxloom.remove_run(store, "sub-02_task-face_run-1")


def test_command_removes_and_says_how_it_stays_away(small, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(small))
    store = voxloom.run(path).store
    answer = CliRunner().invoke(app, ["remove-run", str(path), RUN])
    assert answer.exit_code == 0, answer.output
    assert f"exclude: [{RUN}]" in answer.output
    assert RUN not in voxloom.open_study(store).runs.index
    assert CliRunner().invoke(app, ["remove-run", str(path), RUN]).exit_code == 2


def touch_events(bids: Path) -> Path:
    (path,) = bids.glob(f"sub-02/func/{RUN}_events.tsv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    return path


def test_changed_file_is_named_and_ingested_again(few, small):
    voxloom.run(small)
    touch_events(few)
    told = rf"{RUN}: {RUN}_events\.tsv changed since the run was ingested; it is ingested again"
    assert any(re.search(told, str(p)) for p in voxloom.plan(small).problems)
    assert re.search(told, str(voxloom.pipeline.status(small)))
    result = voxloom.run(small)
    assert any(re.search(told, text) for text in result.warnings), result.warnings
    assert not voxloom.run(small).warnings
    assert "changed" not in str(voxloom.pipeline.status(small))


def test_refused_changed_file_sets_its_run_aside_and_loses_nothing(few, small, tmp_path, digests_of):
    first = voxloom.run(small)
    whole = images(digests_of(first.output))
    kept = contents(tmp_path / "study.zarr" / "runs")
    small["data"]["changed_sources"] = "refuse"
    assert voxloom.run(small).ok
    (path,) = few.glob(f"sub-02/func/{RUN}_events.tsv")
    text, times = path.read_text(), path.stat()
    touch_events(few)
    told = rf"{RUN}: {RUN}_events\.tsv changed since the run was ingested"
    (error,) = voxloom.plan(small).errors
    assert re.search(told, str(error))
    assert re.search(told, str(voxloom.pipeline.status(small)))
    result = voxloom.run(small)
    (record,) = result.quarantined
    assert re.search(told + r".* reingest.*exclude", record.reason)
    # kept as it was, and not used: the subject's maps are those of its other run
    assert contents(tmp_path / "study.zarr" / "runs") == kept
    without = small | {"store": {"path": str(tmp_path / "w.zarr")}, "output": {"dir": str(tmp_path / "w")}}
    without["data"] = small["data"] | {"exclude": [RUN]}
    wanted = images(digests_of(voxloom.run(without).output))
    found = digests_of(result.output)
    assert {name: found[name] for name in wanted} == wanted
    # the file put back
    path.write_text(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    back = voxloom.run(small)
    assert back.ok
    found = digests_of(back.output)
    assert {name: found[name] for name in whole} == whole
