"""Noise smoothed over whole maps between two fits: the pipeline gives the numbers of `fit_first_level`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import voxloom
from voxloom import schema
from voxloom.engine.events import TaskFinished
from voxloom.engine.ledger import Ledger
from voxloom.io.store.objects import Objects
from voxloom.kernels.first_level.noise_models import NOISE_MODELS
from voxloom.pipeline import repair, status, verify
from voxloom.pipeline.line import STAGES
from voxloom.spec import parse_analysis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import xarray as xr

SCRUB = {"strategy": ["motion", "scrub"], "motion": "basic", "fd_threshold": 0.2, "scrub": 0}


@pytest.fixture
def smoothing(pristine_study, tmp_path, analysis_of) -> Callable[..., dict[str, Any]]:
    """The analysis of one subject with noise smoothed by 30 mm, where voxels are 17 mm wide."""

    def make(**level: Any) -> dict[str, Any]:
        spec = analysis_of(pristine_study, tmp_path, first_level={"noise_smoothing_fwhm": 30.0, **level})
        spec["group"], spec["data"]["filters"] = {}, {"subject": "01"}
        return spec

    return make


def fits_of(result: voxloom.RunResult) -> dict[str, xr.Dataset]:
    """The stored fit of every run."""
    study = voxloom.open_study(result.store)
    return {run: study.fit(run).compute() for run in study.runs.index}


def records(store: str | Path) -> dict[tuple[str, str], str]:
    """When each task was finished, and what it wrote."""
    ledger = Ledger(Objects(str(store)))
    return {
        (stage.name, key): record.finished + record.digest
        for stage in STAGES
        for key, record in ledger.read(stage.name).items()
    }


@pytest.mark.parametrize(
    ("noise_model", "confounds"),
    [
        ("ar1", ["trans_?"]),
        ("ar2", SCRUB),
        ("arma11", SCRUB),
        pytest.param("ar1", SCRUB, marks=pytest.mark.slow),
        pytest.param("ar1-yule-walker", SCRUB, marks=pytest.mark.slow),
        pytest.param("ar3", ["trans_?"], marks=pytest.mark.slow),
        pytest.param("arma11", ["trans_?"], marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else "scrubbed" if value == SCRUB else "all volumes",
)
def test_the_line_gives_the_fit_of_one_call_bit_for_bit(smoothing, noise_model, confounds):
    result = voxloom.run(smoothing(noise_model=noise_model, confounds=confounds), until="fit")
    assert result.ok, result
    study = voxloom.open_study(result.store)
    for run_id, fit in fits_of(result).items():
        run, kept = study.run(run_id).load(), fit["volume"].to_numpy()
        rows = np.zeros((run.sizes["time"], fit.sizes["regressor"]))
        rows[kept] = fit["design"]
        X = pd.DataFrame(rows, columns=fit["regressor"].values)
        expected = voxloom.fit_first_level(run, X, noise_model=noise_model, noise_smoothing_fwhm=30.0, sample_mask=kept)
        assert fit.attrs == expected.attrs
        for name in ("beta", "sigma2", *NOISE_MODELS[noise_model].parameters):
            np.testing.assert_array_equal(fit[name], expected[name], err_msg=name)
        alone = voxloom.fit_first_level(run, X, noise_model=noise_model, sample_mask=kept)
        assert not np.allclose(fit["beta"], alone["beta"], equal_nan=True)


@pytest.mark.parametrize(
    ("noise_model", "rtol"),
    [
        ("ar1", 1e-11),
        pytest.param("ar3", 1e-7, marks=pytest.mark.slow),  # of Newton's method, which ends near the best
        pytest.param("arma11", 1e-11, marks=pytest.mark.slow),
    ],
)
def test_shards_do_not_show(smoothing, tmp_path, monkeypatch, noise_model, rtol):
    whole = fits_of(voxloom.run(smoothing(noise_model=noise_model), until="fit"))
    shutil.rmtree(tmp_path / "study.zarr")
    monkeypatch.setattr(schema, "CHUNK_BYTES", 32 * 60 * 2)
    monkeypatch.setattr(schema, "SHARD_BYTES", 64 * 60 * 2)
    result = voxloom.run(smoothing(noise_model=noise_model), until="fit")
    done = Ledger(Objects(result.store))
    assert len(done.read("noise")) == len(done.read("fit")) > 4 * len(done.read("smooth")) > 0
    for run, fit in fits_of(result).items():
        for name in ("beta", "sigma2", *NOISE_MODELS[noise_model].parameters):
            np.testing.assert_allclose(fit[name], whole[run][name], rtol=rtol, atol=1e-12, err_msg=name)


class Died(BaseException):
    """The process is gone."""


def test_a_line_broken_off_in_any_of_its_stages_goes_on_to_the_same_store(smoothing, tmp_path, store_digests_of):
    analysis = smoothing()
    store = voxloom.run(analysis).store
    undisturbed = store_digests_of(store)
    shutil.rmtree(store)
    done: dict[tuple[str, str], str] = {}
    for stage in ("noise", "smooth", "fit"):

        def die(event: object, stage: str = stage) -> None:
            if isinstance(event, TaskFinished) and event.stage == stage:
                raise Died

        with pytest.raises(Died):
            voxloom.run(analysis, on_event=die)
        now = records(store)
        assert sum(at == stage for at, _ in now) == 1
        assert {key: now[key] for key in done} == done
        done = now
    assert voxloom.run(analysis).ok
    assert store_digests_of(store) == undisturbed
    assert all(records(store)[key] == done[key] for key in done)
    assert status(analysis).complete


def test_another_width_does_not_find_the_noise_again(smoothing):
    store = voxloom.run(smoothing(), until="fit").store
    before = records(store)
    voxloom.run(smoothing(noise_smoothing_fwhm=40.0), until="fit")
    after = records(store)
    count = {stage: sum(at == stage for at, _ in after) for stage in ("noise", "smooth", "fit")}
    assert count == {"noise": 2, "smooth": 4, "fit": 4}
    assert before.items() <= after.items()


def test_without_smoothing_there_are_no_such_stages_and_names_are_as_before(smoothing):
    analysis = smoothing(noise_smoothing_fwhm=None)
    planned, store = voxloom.plan(analysis), voxloom.run(analysis).store
    names = [stage.name for stage in planned.stages]
    assert names == ["ingest", "design", "fit", "combine", "consolidate", "group", "infer", "correct", "export"]
    assert [stage.name for stage in status(analysis).stages][1:] == names
    assert not Objects(store).list("noise")
    with pytest.raises(voxloom.errors.InputError, match="'smooth' is no stage"):
        voxloom.run(analysis, until="smooth")


def test_damaged_noise_is_found_and_made_anew(smoothing, store_digests_of):
    analysis = smoothing()
    store = voxloom.run(analysis).store
    before, objects = store_digests_of(store), Objects(store)
    spec, run = parse_analysis(analysis), "sub-01_task-faces_run-1"
    shard, smooth = f"noise/{spec.noise_digest}/{run}/rho/c/0", f"noise/{spec.fit_digest}/{run}/rho/zarr.json"
    flipped = bytearray(objects.get(shard))
    flipped[len(flipped) // 2] ^= 1
    objects.put(shard, bytes(flipped))
    objects.delete(smooth)
    assert {damage.key for damage in verify(store)} == {shard, smooth}
    assert repair(analysis) == []
    assert store_digests_of(store) == before


def test_a_run_that_is_removed_takes_its_noise_along(smoothing):
    analysis = smoothing()
    store = voxloom.run(analysis, until="fit").store
    voxloom.pipeline.remove_run(store, "sub-01_task-faces_run-1")
    objects = Objects(store)
    assert not [key for key in objects.list("") if "run-1" in key and key.startswith(("noise/", "fits/", "ledger/"))]
    assert [key for key in objects.list("noise") if "run-2" in key]
    assert voxloom.run(analysis).ok
