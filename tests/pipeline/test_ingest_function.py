"""`voxloom.ingest`: the first stage of the line for any list of images, and not a second way to do it."""

from __future__ import annotations

import json

import dask
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import voxloom
from voxloom.cli import app
from voxloom.engine.ledger import Ledger
from voxloom.errors import InputError, StoreError, VoxloomWarning
from voxloom.io.bids.run_table import RunFile, index_runs
from voxloom.io.nifti.write import write_nifti
from voxloom.io.store.objects import Objects
from voxloom.io.study.run_files import run_files
from voxloom.schema import Grid

RUN = "sub-01_task-faces_run-1"


def finished(store, stage="ingest"):
    return {key: record.finished for key, record in Ledger(Objects(store)).read(stage).items()}


def contents(store, prefix="runs"):
    objects = Objects(store)
    return {key: objects.get(key) for key in objects.list(prefix)}


def test_it_writes_what_the_stage_writes_and_a_run_goes_on_from_there(pristine_study, tmp_path, analysis_of):
    (tmp_path / "by_file").mkdir()
    by_file = analysis_of(pristine_study, tmp_path / "by_file")
    result = voxloom.run(by_file, until="ingest")
    assert result.ok
    assert not Objects(result.store).list("fits")

    analysis = analysis_of(pristine_study, tmp_path)
    study = voxloom.ingest(index_runs(pristine_study), analysis["store"]["path"])
    assert contents(study.url) == contents(result.store)
    before = finished(study.url)
    assert len(before) == len(study.runs) == 8

    assert voxloom.run(analysis).ok
    voxloom.ingest(index_runs(pristine_study), study.url)
    assert finished(study.url) == before


def test_the_command_is_the_stage_alone_and_run_includes_it(pristine_study, tmp_path, analysis_of):
    path = tmp_path / "faces.json"
    path.write_text(json.dumps(analysis_of(pristine_study, tmp_path)))
    done = CliRunner().invoke(app, ["ingest", str(path), "--cluster", "threads", "--memory-budget", "80MiB"])
    assert done.exit_code == 0
    assert done.stdout == f"store  {tmp_path / 'study.zarr'}\n"
    assert "ingest: 8 done" in done.stderr
    before = finished(tmp_path / "study.zarr")
    assert not finished(tmp_path / "study.zarr", "design")
    assert CliRunner().invoke(app, ["run", str(path), "--quiet", "--no-report"]).exit_code == 0
    assert finished(tmp_path / "study.zarr") == before


def test_until_ends_after_a_stage_that_exists(pristine_study, tmp_path, analysis_of):
    with pytest.raises(InputError, match=r"'ingset' is no stage\. Did you mean `ingest`"):
        voxloom.run(analysis_of(pristine_study, tmp_path), until="ingset")


def test_a_model_is_fitted_lazily_on_an_ingested_run(pristine_study, tmp_path):
    found = next(run for run in index_runs(pristine_study) if run.id == RUN)
    run = voxloom.ingest(found.bold, tmp_path / "s.zarr", mask=found.mask).run(RUN)
    design = voxloom.design_matrix(run.time, pd.read_csv(found.events, sep="\t"))

    def never(*_, **__):
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=never):
        fit = voxloom.fit_first_level(run, design)
        z = voxloom.contrast(fit, "face - house").z_score
    assert run.bold.chunks is not None
    assert z.chunks is not None
    eager = voxloom.fit_first_level(voxloom.from_nifti(found.bold, mask=found.mask), design)
    np.testing.assert_allclose(z, voxloom.contrast(eager, "face - house").z_score, rtol=1e-9)


def test_a_study_grows_and_what_is_there_is_left_alone(pristine_study, tmp_path):
    first, second, *_ = index_runs(pristine_study)
    study = voxloom.ingest(first, tmp_path / "s.zarr", mask=first.mask)
    before = finished(study.url)
    assert list(study.runs.index) == [first.id]
    with pytest.warns(VoxloomWarning, match=r"_events\.tsv.* gone since the run was ingested; it is ingested"):
        study = voxloom.ingest([str(first.bold), second.bold], study.url, workers=1)
    assert list(study.runs.index) == [first.id, second.id]
    # named by its path alone, the first has lost its events: that is another input, so it was read again
    assert study.events(first.id) is None
    before = finished(study.url)
    voxloom.ingest(second.bold, study.url)
    assert finished(study.url) == before


def test_rows_of_a_table_say_files_entities_and_times(pristine_study, tmp_path):
    found = index_runs(pristine_study)[:2]
    table = pd.DataFrame(
        {
            "bold": [str(run.bold) for run in found],
            "events": [found[0].events, None],
            "subject": ["01", "sub-01"],
            "run": [1, 2],
            "t_r": [2.0, np.nan],
        }
    )
    study = voxloom.ingest(table, tmp_path / "s.zarr")
    assert list(study.runs.index) == ["sub-01_run-1", "sub-01_run-2"]
    assert list(study.runs.t_r) == [2.0, 2.0]
    assert study.events("sub-01_run-1") is not None
    assert study.events("sub-01_run-2") is None
    with pytest.warns(VoxloomWarning, match=r"RepetitionTime 1\.9 s, the header 2 s"):
        voxloom.ingest(table.assign(t_r=[1.9, np.nan], id=["a", "b"]), study.url)
    study = voxloom.ingest(table.assign(id=["a", "b"]), study.url, t_r=1.9)
    assert study.runs.t_r[["a", "b"]].tolist() == [1.9, 1.9]


def test_ids_come_from_bids_names_else_from_the_file_name(tmp_path):
    ids = [
        "sub-1_ses-2_task-x_run-3_space-MNI_desc-preproc_bold.nii.gz",
        "my run (1).nii",
        "rest.img.gz",
    ]
    assert [run.id for run in run_files([tmp_path / name for name in ids])] == [
        "sub-1_ses-2_task-x_run-3",
        "my-run-1-",
        "rest",
    ]
    row = {"bold": "a.nii", "site": "b", "sub": "1", "run": 2.0, "mask": None}
    (run,) = run_files(pd.DataFrame([row]))
    assert (run.id, run.subject, run.site, run.mask) == ("site-b_sub-1_run-2", "site-b_sub-1", "b", None)
    assert run_files("rest.nii")[0].subject == "rest"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "names no image"),
        (["a/x.nii", "b/x.nii"], "would all be run x"),
        ([3], "holds a int"),
        (nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)), "holds a Nifti1Image"),
        (pd.DataFrame({"file": ["a.nii"]}), "a row without bold"),
        (pd.DataFrame({"bold": ["a.nii"], "subjct": ["1"]}), "subjct: is not a known column. Did you mean `subject`"),
    ],
)
def test_what_cannot_name_runs(images, message):
    with pytest.raises(InputError, match=message):
        run_files(images)


def test_a_mask_is_named_by_its_file(pristine_study, tmp_path):
    with pytest.raises(InputError, match="mask: is a ndarray, but a file is wanted"):
        voxloom.ingest(index_runs(pristine_study), tmp_path / "s.zarr", mask=np.ones((10, 12, 9), bool))
    assert not (tmp_path / "s.zarr").exists()


def test_a_bad_run_is_left_out_with_a_warning_and_none_left_is_an_error(bids, tmp_path):
    bad, good, *_ = index_runs(bids)
    bad.bold.write_bytes(bad.bold.read_bytes()[:-9])
    with pytest.warns(VoxloomWarning, match="ends after volume"):
        study = voxloom.ingest([bad, good], tmp_path / "s.zarr")
    assert list(study.runs.index) == [good.id]
    with pytest.raises(InputError, match="none of them can be used"):
        voxloom.ingest(bad, study.url)


def test_the_voxels_of_a_study_are_those_of_its_first_call(pristine_study, tmp_path):
    first, second, *_ = index_runs(pristine_study)
    image = nib.load(first.bold)
    mask = np.zeros(image.shape[:3], bool)
    mask[3:6, 3:6, 3:6] = True
    path = write_nifti(mask, tmp_path / "mask.nii.gz", Grid.of(image.shape, image.affine))
    told = r"voxels outside the study's: 1 of 1 runs have"
    with pytest.warns(VoxloomWarning, match=told):
        study = voxloom.ingest(first, tmp_path / "s.zarr", mask=path)
    assert study.voxel.size == 27
    with pytest.raises(StoreError, match="union"):
        voxloom.ingest(second, study.url, mask="union")
    path.unlink()  # the store has its voxels
    with pytest.warns(VoxloomWarning, match=told):
        study = voxloom.ingest(second, study.url)
    assert study.runs.n_in_mask.max() <= 27
    other = write_nifti(~mask, tmp_path / "other.nii.gz", Grid.of(image.shape, image.affine))
    with pytest.raises(StoreError, match=r"the voxels of .*other\.nii\.gz are others"):
        voxloom.ingest(second, study.url, mask=other)


def test_a_template_stays_the_mask_of_a_study_that_grows(pristine_study, tmp_path):
    first, second, *_ = index_runs(pristine_study)
    shape, affine = nib.load(first.bold).shape[:3], nib.load(first.bold).affine
    ball = np.zeros([2 * n for n in shape], bool)
    ball[4:14, 4:14, 4:14] = True
    still = "without a signal"  # a corner of the ball lies outside the brain
    path = write_nifti(ball, tmp_path / "ball.nii.gz", Grid.of(ball.shape, affine @ np.diag([0.5, 0.5, 0.5, 1])))
    with (
        pytest.warns(VoxloomWarning, match=still),
        pytest.warns(VoxloomWarning, match="resampled by nearest neighbour"),
    ):
        study = voxloom.ingest(first.bold, tmp_path / "s.zarr", mask={"template": str(path)})
    with (
        pytest.warns(VoxloomWarning, match=still),
        pytest.warns(VoxloomWarning, match="resampled by nearest neighbour"),
    ):
        assert list(voxloom.ingest(second.bold, study.url).runs.index) == [first.id, second.id]
    path.unlink()
    with pytest.warns(VoxloomWarning, match=still):
        assert len(voxloom.ingest(second.bold, study.url).runs) == 2


def test_rows_of_two_sites_keep_apart(pristine_study, tmp_path):
    run = index_runs(pristine_study)[0]
    rows = [RunFile(id=f"site-{site}_{run.id}", entities={"site": site} | run.entities, bold=run.bold) for site in "ab"]
    assert list(voxloom.ingest(rows, tmp_path / "s.zarr").runs.site) == ["a", "b"]


def test_a_rounded_study_is_another_result_and_says_so(pristine_study, tmp_path, analysis_of):
    exact = voxloom.run(analysis_of(pristine_study, tmp_path))
    changes = {"data": {"bids_dir": str(pristine_study), "task": "faces", "max_error_sd": 0.05}}
    rounded = voxloom.run(analysis_of(pristine_study, tmp_path, **changes, output={"dir": str(tmp_path / "rounded")}))
    assert rounded.ok
    assert rounded.results_name != exact.results_name
    study = voxloom.open_study(exact.store)
    assert len(study.runs) == 16
    assert sum(name.endswith("_error-0p05") for name in study.runs.index) == 8
    sidecars = [json.loads(path.read_text()) for path in (tmp_path / "rounded").rglob("*stat-effect*.json")]
    assert {sidecar["Model"]["max_error_sd"] for sidecar in sidecars} == {0.05}
    t = [study.results(name).effect.values for name in (exact.results_name, rounded.results_name)]
    assert not np.array_equal(*t)
    assert np.nanmax(np.abs(t[0] - t[1])) < 0.2 * np.nanstd(t[0])
