"""CPU time of a plan: in proportion to the work, and near what a run takes."""

from __future__ import annotations

import time

import numpy as np
import pytest

import voxloom
from voxloom.pipeline.planning import calibration, effort
from voxloom.pipeline.planning import plan as planning
from voxloom.pipeline.planning.sizes import stage_sizes

#: Nothing costs anything, but for what a test sets.
FREE = calibration.Rates(*[0.0] * len(calibration.Rates._fields))


@pytest.fixture
def survey(pristine_study, tmp_path, analysis_of):
    found = planning.look(planning.as_analysis(analysis_of(pristine_study, tmp_path)))
    for run in found.ws.runs:
        planning.check_run(found, run)
    found.design_seconds = 0.0
    return found


def seconds(survey, **rates: float) -> dict[str, float]:
    stages = {stage.name: stage for stage in stage_sizes(survey)}
    return effort.stage_seconds(survey, stages, FREE._replace(**rates))


@pytest.mark.parametrize(
    ("rate", "stages"),
    [
        ("decode", {"ingest"}),
        ("encode", {"ingest", "fit", "combine", "consolidate", "group", "correct"}),
        ("gzip", {"export"}),
        ("fit", {"fit"}),
        ("table", {"combine"}),
        ("test", {"combine"}),
        ("contrast", {"combine", "group"}),
        ("group", {"group"}),
        ("permutation", {"infer"}),
        ("tails", {"group", "correct", "export"}),
        ("sort", {"correct"}),
    ],
)
def test_each_rate_costs_its_stages_in_proportion(survey, rate, stages):
    once, twice = seconds(survey, **{rate: 1.0}), seconds(survey, **{rate: 2.0})
    assert {name for name, cost in once.items() if cost} == stages
    assert twice == pytest.approx({name: 2 * cost for name, cost in once.items()})


def test_cost_of_a_fit_is_voxels_times_designs(survey):
    cells = sum(matrix.size for matrix in survey.designs.values())
    assert seconds(survey, fit=1e-9)["fit"] == pytest.approx(1e-9 * survey.n_voxels * cells)
    voxels = survey.n_voxels
    before = seconds(survey, fit=1.0, permutation=1.0)
    survey.n_voxels = 3 * voxels
    after = seconds(survey, fit=1.0, permutation=1.0)
    assert after["fit"] == pytest.approx(3 * before["fit"])
    assert after["infer"] == pytest.approx(3 * before["infer"])


def test_calibration_gives_seconds_that_can_be(survey):
    rates = effort.measured_rates(survey)
    assert all(0 <= rate < 1 for rate in rates)
    assert all(seconds(survey, **rates._asdict()).values())


def test_rates_are_per_unit_of_the_work(survey, monkeypatch):
    """On a machine that takes a second for every call; of 4 subjects 8 are made, who have 2^8 sign flips."""

    def one_second(call) -> float:
        call()
        return 1.0

    monkeypatch.setattr(calibration, "seconds", one_second)
    rates = effort.measured_rates(survey)
    rows, columns = np.median([matrix.shape for matrix in survey.designs.values()], axis=0)
    voxels = calibration.VOXELS
    work = {"decode": 2**20, "encode": 2**20, "gzip": 2**19, "fit": voxels * rows * columns, "group": 8 * voxels}
    work |= {"permutation": 8 * 1024 * 2**8, "sort": 8 * voxels, "tails": voxels, "array": 12}
    assert {name: 1 / getattr(rates, name) for name in work} == pytest.approx(work)


def test_what_is_done_costs_nothing_more(pristine_study, tmp_path, analysis_of):
    analysis = analysis_of(pristine_study, tmp_path)
    assert voxloom.plan(analysis).cpu_seconds is None
    assert voxloom.plan(analysis, calibrate=True).cpu_seconds > 0
    voxloom.run(analysis)
    assert voxloom.plan(analysis, calibrate=True).cpu_seconds == 0


@pytest.mark.slow
def test_estimate_is_within_a_factor_of_two_and_a_half_of_a_run(tmp_path, analysis_of):
    """Timing under load is rough; CPU time of this process, compilation out of the way by a first run."""
    from voxloom.simulate import write_bids_study

    write_bids_study(tmp_path / "bids", n_subjects=6, n_runs=2, shape=(26, 30, 24), n_volumes=120)
    for name in ("first", "second"):
        folder = tmp_path / name
        analysis = analysis_of(tmp_path / "bids", folder, memory_budget="256MiB")
        planned = voxloom.plan(analysis, calibrate=True).cpu_seconds
        started = time.process_time()
        assert voxloom.run(analysis).ok
        taken = time.process_time() - started
    assert taken / 2.5 < planned < 2.5 * taken, (planned, taken)
