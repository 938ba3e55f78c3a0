"""The demo in small: it ends, finds the truth, draws its picture, and does nothing the second time."""

from __future__ import annotations

import pytest

from voxloom.demo import run_demo
from voxloom.engine.events import TaskFinished

SMALL = {"n_subjects": 12, "n_runs": 1, "shape": (13, 15, 12), "n_volumes": 90, "effect": 3.0, "seed": 1}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("demo"), workers=1, **SMALL)


def test_finds_the_truth(demo):
    found = demo.recovery
    assert found.slope == pytest.approx(1, abs=0.1)
    assert found.correlation > 0.9
    assert 0.9 < found.coverage < 0.99
    assert found.dice > 0.7
    assert f"Dice {found.dice:.2f}" in str(demo)


def test_writes_picture_and_maps(demo):
    assert demo.picture.stat().st_size > 50_000
    assert list(demo.results.rglob("*faceMinusHouse*stat-p_desc-fwe*.nii.gz"))


def test_second_time_nothing_is_computed(demo):
    events = []
    again = run_demo(demo.analysis.parent, workers=1, on_event=events.append, **SMALL)
    assert not [event for event in events if isinstance(event, TaskFinished)]
    assert again.recovery == demo.recovery
