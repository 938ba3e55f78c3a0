"""The plan tells the truth: what it says of every stage is what the tasks' records count afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest

import voxloom
from voxloom.engine.ledger import Ledger
from voxloom.engine.plan import size
from voxloom.io.store.access import Objects

if TYPE_CHECKING:
    from pathlib import Path

    from voxloom.engine.plan import Plan


def shorten(bids: Path, subject: str, n_volumes: int) -> None:
    """Cut the first run of a subject, its confounds with it."""
    folder = bids / f"derivatives/fmriprep/{subject}/func"
    (path,) = folder.glob("*run-1*desc-preproc_bold.nii.gz")
    (table,) = folder.glob("*run-1*confounds_timeseries.tsv")
    image = nibabel.load(path)
    nibabel.save(
        nibabel.Nifti1Image(np.asanyarray(image.dataobj)[..., :n_volumes], image.affine, image.header),
        path,
    )
    table.write_text("\n".join(table.read_text().splitlines()[: n_volumes + 1]) + "\n")


def counted(store: str, planned: Plan) -> dict[str, tuple[int, int, int]]:
    """Tasks done, bytes read and bytes written of every planned stage, from the ledger."""
    ledger, found = Ledger(Objects(store)), {}
    for stage in planned.stages:
        records = [record for record in ledger.read(stage.name).values() if record.status == "done"]
        read, written = (sum(getattr(r, name) for r in records) for name in ("bytes_read", "bytes_written"))
        found[stage.name] = len(records), read, written
    return found


STUDIES: dict[str, dict[str, Any]] = {
    "runs of different lengths": {},
    "smoothing, no AR, no permutations": {
        "first_level": {
            "noise_model": "ols",
            "smoothing_fwhm": 6.0,
            "contrasts": {"face": "face", "any": ["face", "house"], "house": "house"},
        },
        "group": {"mean": {"inference": {"method": ["fdr"]}}},
    },
    "two group models, batches of permutations, spatial statistics": {
        "group": {
            "mean": {"inference": {"n_perm": 16, "statistics": ["tfce", "cluster_size", "max_stat"]}},
            "site": {
                "formula": "1 + C(site)",
                "contrasts": {"one": "intercept", "two": "`C(site)[T.site2]`"},
                "first_level_contrasts": ["faceVsHouse"],
                "inference": {"n_perm": 5000, "method": ["permutation", "bonferroni"], "scheme": "permute"},
            },
        },
    },
    "no group": {"group": {}},
    "smooth noise": {"group": {}, "first_level": {"noise_model": "arma11", "noise_smoothing_fwhm": 5}},
}


@pytest.mark.parametrize("changes", STUDIES.values(), ids=STUDIES)
def test_plan_is_what_the_ledger_counts_and_the_files_are_those_written(bids, tmp_path, analysis_of, changes):
    shorten(bids, "sub-02", 45)
    analysis = analysis_of(bids, tmp_path, **changes)
    planned = voxloom.plan(analysis)
    result = voxloom.run(analysis)
    assert result.ok, result
    expected = {stage.name: (stage.n_tasks, stage.bytes_read, stage.bytes_written) for stage in planned.stages}
    assert counted(result.store, planned) == expected
    files = {str(path.relative_to(result.output)) for path in result.output.rglob("*") if path.is_file()}
    assert set(planned.files) == files
    assert len(planned.files) == len(files)
    after = voxloom.plan(analysis)
    assert all(stage.n_done == stage.n_tasks for stage in after.stages)
    assert not any(stage.bytes_read or stage.bytes_written for stage in after.stages)


@pytest.mark.usefixtures("already_run")
def test_plan_of_spatial_statistics_through_the_store(bids, tmp_path, analysis_of, monkeypatch):
    monkeypatch.setattr("voxloom.pipeline.stages.spatial.map_fits", lambda *_: False)
    inference = {"n_perm": 16, "statistics": ["tfce", "cluster_mass"], "method": "permutation"}
    analysis = analysis_of(bids, tmp_path, group={"mean": {"inference": inference}})
    plan = voxloom.plan(analysis)
    planned = {stage.name: stage for stage in plan.stages}
    n_voxels = len(voxloom.open_study(tmp_path / "study.zarr").voxel)
    assert f"through the store, {size(16 * 8 * n_voxels)} of disk at a time" in planned["spatial"].remark
    result = voxloom.run(analysis)
    after = counted(result.store, plan)
    for name in ("spatial", "correct"):
        assert after[name] == (planned[name].n_tasks, planned[name].bytes_read, planned[name].bytes_written)
    again = {stage.name: stage for stage in voxloom.plan(analysis).stages}
    assert all(again[name].n_done == again[name].n_tasks for name in ("spatial", "correct"))


@pytest.mark.usefixtures("already_run")
def test_plan_of_a_broken_off_run_is_what_is_left(bids, tmp_path, analysis_of):
    analysis = analysis_of(bids, tmp_path)
    result = voxloom.run(analysis)
    ledger = Ledger(Objects(result.store))
    lost = next(iter(ledger.read("fit").values()))
    ledger.forget(lost)
    fit = next(stage for stage in voxloom.plan(analysis).stages if stage.name == "fit")
    assert (fit.n_tasks - fit.n_done, fit.bytes_read, fit.bytes_written) == (1, lost.bytes_read, lost.bytes_written)


def test_plan_counts_only_what_bad_inputs_leave(bids, tmp_path, analysis_of):
    """A run without events, one whose confounds have other rows; subjects with a contrast that is not estimable,
    or of a condition that they never saw."""
    next((bids / "sub-01/func").glob("*run-1_events.tsv")).unlink()
    for path in (bids / "sub-04/func").glob("*_events.tsv"):
        path.write_text(path.read_text().replace("house", "face"))
    tables = sorted(bids.glob("derivatives/fmriprep/*/func/*confounds_timeseries.tsv"))
    changes = {"sub-02": slice(0, 1), "sub-03": slice(0, 2)}
    chosen = {subject: [t for t in tables if subject in t.name][part] for subject, part in changes.items()}
    for path in chosen["sub-02"]:
        path.write_text("\n".join(path.read_text().splitlines()[:-3]) + "\n")
    for path in chosen["sub-03"]:
        table = pd.read_csv(path, sep="\t", na_values="n/a")
        table.assign(rot_z=table.rot_x + table.rot_y).to_csv(path, sep="\t", index=False, na_rep="n/a")
    level = {"confounds": ["rot_?"], "contrasts": {"house": "house", "spin": "rot_z"}}
    analysis = analysis_of(bids, tmp_path, first_level=level, group={"mean": {"inference": {"method": ["fdr"]}}})
    planned = voxloom.plan(analysis)
    assert [next(s for s in ("sub-01", "sub-02", "sub-03", "sub-04") if s in str(p)) for p in planned.errors] == [
        "sub-01",
        "sub-02",
        "sub-03",
        "sub-04",
    ]
    result = voxloom.run(analysis)
    assert len(result.quarantined) == 4
    expected = {stage.name: (stage.n_tasks, stage.bytes_read, stage.bytes_written) for stage in planned.stages}
    assert counted(result.store, planned) == expected
