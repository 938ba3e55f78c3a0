"""Scrubbed volumes leave data and design, AR(1) does not reach over the gaps, and the counts are told."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import voxloom
from voxloom.engine.ledger import Ledger
from voxloom.errors import InputError
from voxloom.io.bids.confounds import sidecar_of
from voxloom.io.store.objects import Objects
from voxloom.io.study.runs import read_run
from voxloom.models.contrasts import contrast
from voxloom.models.design.matrix import design_matrix, frame_times
from voxloom.models.first_level.fit import fit_first_level
from voxloom.pipeline.stages.design import RunTables, build
from voxloom.pipeline.stored.fit import load_design, load_fit
from voxloom.spec import FirstLevel, parse_analysis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUN = "sub-01_task-faces_run-1"
BAD = [9, 10, 14, 31, 55]
#: 11 to 13 lie between bad volumes and are fewer than 5, as are 56 to 59 at the end.
LEFT_OUT = [9, 10, 11, 12, 13, 14, 31, 55, 56, 57, 58, 59]
STRATEGY: dict[str, Any] = {"strategy": ["motion", "scrub"], "motion": "basic", "fd_threshold": 3}


def change_confounds(bids: Path, change: Callable[[pd.DataFrame], pd.DataFrame], which: str = "*") -> None:
    for path in bids.glob(f"derivatives/fmriprep/{which}/func/*confounds_timeseries.tsv"):
        change(pd.read_csv(path, sep="\t", na_values="n/a")).to_csv(path, sep="\t", index=False, na_rep="n/a")


def moving(rows: list[int]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        fd = np.where(np.isin(np.arange(len(table)), rows), 9.0, 0.1)
        return table.assign(framewise_displacement=fd, std_dvars=1.0)

    return change


@pytest.fixture
def still(bids):
    """The study without motion, but for `BAD` volumes in the runs of the first subject."""
    change_confounds(bids, moving([]))
    change_confounds(bids, moving(BAD), "sub-01")
    return bids


def run_one(still: Path, folder: Path, analysis_of: Callable[..., dict[str, Any]], level: dict[str, Any]):
    """Run the first subject without a group; return the analysis as given, and its result."""
    spec = analysis_of(still, folder, first_level=level)
    spec["group"], spec["data"]["filters"] = {}, {"subject": "01"}
    return spec, voxloom.run(spec)


@pytest.mark.parametrize("noise_model", ["ar1", "ar1-yule-walker", "ols", "ar2", "arma11"])
def test_the_fit_is_that_of_the_kept_volumes(still, tmp_path, analysis_of, noise_model):
    level = {"confounds": STRATEGY, "noise_model": noise_model, "signal_scaling": 0}
    spec, result = run_one(still, tmp_path, analysis_of, level)
    study = voxloom.open_study(result.store)
    run = study.run(RUN)
    (table,) = (still / "derivatives/fmriprep/sub-01/func").glob("*run-1*confounds_timeseries.tsv")
    confounds = pd.read_csv(table, sep="\t", na_values="n/a")[
        ["rot_x", "rot_y", "rot_z", "trans_x", "trans_y", "trans_z"]
    ]
    kept = np.setdiff1d(np.arange(60), LEFT_OUT)
    X = design_matrix(
        frame_times(60, float(run.time[1] - run.time[0])),
        pd.read_csv(next((still / "sub-01/func").glob("*run-1_events.tsv")), sep="\t"),
        add_regs=confounds - confounds.iloc[kept].mean(),
    )
    expected = fit_first_level(run, X, noise_model=noise_model, signal_scaling=0, sample_mask=kept)

    stored = load_fit(Objects(result.store), f"{parse_analysis(spec).fit_digest}/{RUN}", slice(0, study.voxel.size))
    np.testing.assert_array_equal(stored.scan, kept)
    np.testing.assert_array_equal(expected.scan, kept)
    np.testing.assert_array_equal(stored.time, X.index[kept])
    np.testing.assert_allclose(stored.design, X.iloc[kept], atol=1e-12)
    stored["r_squared"] = "voxel", study.fit(RUN)["r_squared"].to_numpy()
    for name in set(expected.data_vars) - {"design"}:
        np.testing.assert_allclose(stored[name], expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_contrasts_know_the_gaps(still, tmp_path, analysis_of):
    spec, result = run_one(still, tmp_path, analysis_of, {"confounds": STRATEGY})
    study, digest = voxloom.open_study(result.store), parse_analysis(spec).fit_digest
    fits = [load_fit(study.objects, f"{digest}/{run}", slice(0, study.voxel.size)) for run in study.runs.index]
    maps = study.results(result.results_name).sel(subject="sub-01", contrast="faceVsHouse")
    right = [contrast(fit, "face - house") for fit in fits]
    np.testing.assert_allclose(maps.dof, sum(one.dof for one in right), rtol=1e-12)
    np.testing.assert_allclose(maps.variance, sum(one.variance for one in right) / 4, rtol=1e-12)
    wrong = contrast(fits[0].drop_vars("scan"), "face - house")
    assert np.nanmax(np.abs(wrong.variance / right[0].variance - 1)) > 1e-3


def test_degrees_of_freedom_are_kept_scans_minus_rank(still, tmp_path, analysis_of):
    spec, result = run_one(still, tmp_path, analysis_of, {"confounds": STRATEGY, "noise_model": "ols"})
    study, digest = voxloom.open_study(result.store), parse_analysis(spec).fit_digest
    designs = [load_design(study.objects, f"{digest}/{run}").matrix for run in study.runs.index]
    assert [len(design) for design in designs] == [48, 48]
    maps = study.results(result.results_name).sel(subject="sub-01", contrast="faceVsHouse")
    assert np.nanmax(maps.dof) == sum(len(design) - np.linalg.matrix_rank(design) for design in designs)


def test_what_was_left_out_is_told(still, tmp_path, analysis_of):
    spec, result = run_one(still, tmp_path, analysis_of, {"confounds": STRATEGY})
    said = r"24 of 120 volumes \(20\.0%\) are left out, in 2 of 2 runs; most in sub-01_task-faces_run-\d: 12 of 60"
    assert any(re.search(said, text) for text in result.warnings)
    assert any(re.search(said, str(problem)) for problem in voxloom.plan(spec).problems)
    sidecar = json.loads((result.output / "sub-01/func" / f"{RUN}_design.json").read_text())
    assert sidecar["NumberOfVolumes"] == 60
    assert sidecar["VolumesLeftOut"] == LEFT_OUT
    records = Ledger(Objects(result.store)).read("design").values()
    assert [(r.details["n_kept"], r.details["n_scrubbed"], r.details["n_non_steady_state"]) for r in records] == [
        (48, 12, 0),
        (48, 12, 0),
    ]


def test_plan_counts_the_bytes_and_memory_of_kept_volumes(still, tmp_path, analysis_of):
    whole = voxloom.plan(analysis_of(still, tmp_path, first_level={"confounds": STRATEGY | {"fd_threshold": 10}}))
    spec = analysis_of(still, tmp_path, first_level={"confounds": STRATEGY})
    planned = {stage.name: stage for stage in voxloom.plan(spec).stages}
    assert planned["fit"].peak_memory == {s.name: s.peak_memory for s in whole.stages}["fit"]  # the still runs
    result = voxloom.run(spec)
    for stage in ("design", "fit", "combine"):
        records = Ledger(Objects(result.store)).read(stage).values()
        assert planned[stage].bytes_written == sum(record.bytes_written for record in records)
        assert planned[stage].bytes_read == sum(record.bytes_read for record in records)


def at_most(n: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return moving([row for row in range(60) if row >= n])


QUARANTINED: dict[str, tuple[dict[str, Any], Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "everything scrubbed": (STRATEGY, at_most(0), r"no volume is left: 60 of 60 volumes scrubbed, 0 before the steady"),
    "too few": (STRATEGY, at_most(8), r"8 of 60 volumes are kept, too few for a design of 9 columns and rank 8"),
    "columns absent": (
        {"strategy": ["wm_csf"], "wm_csf": "derivatives"},
        lambda table: table.drop(columns="csf_derivative1"),
        r"lacks csf_derivative1 of the strategy's wm_csf\. fMRIPrep",
    ),
    "no std_dvars": (STRATEGY, lambda table: table.drop(columns="std_dvars"), r"lacks std_dvars of .* scrub"),
    "no sidecar": (
        {"strategy": ["high_pass", "compcor"]},
        lambda table: table,
        r"no JSON sidecar, .*compcor: anat_combined needs it",
    ),
    "no aroma image": (
        {"strategy": ["ica_aroma"]},
        lambda table: table,
        r"ica_aroma: full wants .* desc-preproc.*smoothAROMAnonaggr",
    ),
}


@pytest.mark.parametrize("case", QUARANTINED)
def test_a_run_that_cannot_be_denoised_is_named_and_the_others_are_done(still, tmp_path, analysis_of, case):
    wanted, change, words = QUARANTINED[case]
    level = {"confounds": wanted, "drift_model": None}
    alone = case in ("no sidecar", "no aroma image")  # then no run can be
    change_confounds(still, change, "sub-01" if alone else "sub-02")
    spec = analysis_of(still, tmp_path, first_level=level)
    if alone:
        spec["group"], spec["data"]["filters"] = {}, {"subject": "01"}
    errors = voxloom.plan(spec).errors
    assert len([e for e in errors if re.search(words, str(e))]) == 2, errors
    if alone:
        with pytest.raises(InputError, match=words):
            voxloom.run(spec)
        return
    result = voxloom.run(spec)
    assert not result.failed
    assert len(result.quarantined) == 2
    assert all(re.search(words, record.reason) and "sub-02" in record.key for record in result.quarantined)
    assert list(result.output.glob("sub-03/func/*faceVsHouse_stat-z_statmap.nii.gz"))


def test_an_order_beyond_the_shortest_stretch_is_fitted_across_the_gaps(still, tmp_path, analysis_of):
    """Without a minimum length the scrubbed run has stretches of 3 volumes."""
    level = {"confounds": STRATEGY | {"scrub": 0}, "noise_model": "ar4"}
    _, result = run_one(still, tmp_path, analysis_of, level)
    assert result.ok, result
    study = voxloom.open_study(result.store)
    kept = study.fit(RUN)["volume"].to_numpy()
    assert np.diff(np.flatnonzero(np.diff(np.append(-9, kept)) > 1)).min() == 3
    assert np.isfinite(study.fit(RUN)["phi_4"].compute()).any()


def test_runs_of_which_less_than_half_is_left_are_warned_of(still, tmp_path, analysis_of):
    change_confounds(still, moving([1, *range(0, 60, 2)]), "sub-01")
    spec, result = run_one(still, tmp_path, analysis_of, {"confounds": STRATEGY | {"scrub": 0}})
    assert result.ok
    said = f"{RUN}: only 29 of 60 volumes are kept: 31 of 60 volumes scrubbed, 0 before the steady state"
    assert any(said in text for text in result.warnings)
    assert any(said in str(problem) for problem in voxloom.plan(spec).problems)


def test_a_strategy_asked_for_later_needs_nothing_but_the_store(still, tmp_path, analysis_of):
    """Masks of CompCor components are in the store, so nothing is ingested again."""
    rng = np.random.default_rng(0)
    names = {f"a_comp_cor_{n:02d}": mask for n, mask in enumerate(["combined", "WM", "CSF", "combined"])}
    for path in still.glob("derivatives/fmriprep/sub-01/func/*confounds_timeseries.tsv"):
        table = pd.read_csv(path, sep="\t")
        more = {name: rng.standard_normal(60) for name in names}
        table.assign(**more).to_csv(path, sep="\t", index=False, na_rep="n/a")
        path.with_suffix(".json").write_text(json.dumps({name: {"Mask": mask} for name, mask in names.items()}))
        assert sidecar_of(path)
    level = {"confounds": [], "drift_model": None}
    _, result = run_one(still, tmp_path, analysis_of, level)
    run = read_run(Objects(result.store), RUN)
    assert run.components == names
    ingested = Ledger(Objects(result.store)).read("ingest")
    level["confounds"] = {"strategy": ["high_pass", "compcor"], "compcor": "anat_separated"}
    spec, again = run_one(still, tmp_path, analysis_of, level)
    assert again.ok
    assert Ledger(Objects(result.store)).read("ingest") == ingested
    columns = load_design(Objects(result.store), f"{parse_analysis(spec).fit_digest}/{RUN}").matrix.columns
    assert [name for name in columns if "comp_cor" in name] == ["a_comp_cor_01", "a_comp_cor_02"]


def test_volumes_that_the_run_itself_leaves_out_are_left_out(still, tmp_path, analysis_of):
    """The sample mask kept with a run counts beside the strategy's."""
    _, result = run_one(still, tmp_path, analysis_of, {"confounds": STRATEGY})
    run = read_run(Objects(result.store), RUN)
    mask = np.arange(60) >= 2
    tables = RunTables(RUN, 60, run.t_r, "preproc", run.events, run.confounds, run.components, mask)
    level = FirstLevel(confounds=STRATEGY)
    np.testing.assert_array_equal(build(tables, level).kept, np.setdiff1d(np.arange(2, 60), LEFT_OUT))
    level = FirstLevel(confounds=["trans_x"])
    np.testing.assert_array_equal(build(tables, level).kept, np.arange(2, 60))


def test_a_condition_that_happens_in_scrubbed_volumes_alone_is_named(still, tmp_path, analysis_of):
    for path in (still / "sub-01/func").glob("*_events.tsv"):
        table = pd.read_csv(path, sep="\t")
        late = table[:1].assign(onset=112.0, duration=0.0, trial_type="late")
        pd.concat([table, late]).to_csv(path, sep="\t", index=False)
    _, result = run_one(still, tmp_path, analysis_of, {"confounds": STRATEGY, "hrf_model": None})
    assert any(re.search(r"without the volumes that are left out, \['late'\]", text) for text in result.warnings)
