"""What a design says of itself: worries in words, and a picture that shows them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from voxloom import design_diagnostics, design_matrix, plot_design
from voxloom.errors import ContrastError, DesignError
from voxloom.models.design.matrix import frame_times

TIMES = frame_times(100, 2.0)


def design(apart, n_scans=100, **options):
    """Two conditions, the second always so many seconds after the first."""
    onset = np.arange(10, 2 * n_scans - 30, 21.0)
    events = pd.DataFrame({"onset": [*onset, *(onset + apart)], "duration": 1.0})
    return design_matrix(
        frame_times(n_scans, 2.0), events.assign(trial_type=np.repeat(["a", "b"], len(onset))), **options
    )


def test_events_that_are_far_apart_are_told_apart():
    found = design_diagnostics(design(10.0), {"a - b": "a - b", "any": ["a", "b"]})
    assert not found.worries
    assert (found.contrasts["vif"] < 2.5).all()
    assert (found.rank, found.dof, found.n_volumes) == (7, 93, 100)


def test_events_that_follow_at_once_are_not():
    found = design_diagnostics(design(0.5), {"a - b": "a - b", "a + b": "a + b"})
    assert found.contrasts["vif"]["a - b"] > 10 > found.contrasts["vif"]["a + b"]
    (line,) = found.worries
    assert line.startswith("contrast a - b: its variance is severely inflated, ")
    assert found.regressors["vif"]["a"] > 10
    assert found.correlation.loc["a", "b"] > 0.9


def test_the_efficiency_says_which_design_needs_fewer_scans():
    """The variance of the estimate at noise of variance 1 is its inverse: compared with simulated fits."""
    X = design(4.0)
    found = design_diagnostics(X, {"a - b": "a - b"}).contrasts["efficiency"]["a - b"]
    noise = np.random.default_rng(0).standard_normal((100, 20_000))
    estimates = np.linalg.lstsq(X.to_numpy(), noise, rcond=None)[0]
    assert np.var(estimates[0] - estimates[1]) == pytest.approx(1 / found, rel=0.04)
    assert design_diagnostics(design(10.0), {"a - b": "a - b"}).contrasts["efficiency"]["a - b"] > found


@pytest.mark.filterwarnings("ignore::voxloom.errors.VoxloomWarning")
def test_singular_designs_and_few_volumes_are_worries():
    confounds = pd.DataFrame({"x": np.sin(np.arange(23)), "y": 2 * np.sin(np.arange(23))})
    found = design_diagnostics(design(5.0, 23, add_regs=confounds), {"y": "y", "a": "a"})
    assert found.worries == [
        "rank 4 of 5: ['y'] depend on columns before them",
        "19 degrees of freedom are left of 23 rows",
        "contrast y cannot be estimated",
    ]
    assert not found.contrasts["estimable"]["y"]
    assert found.contrasts["efficiency"]["y"] == 0
    assert found.condition_number == np.inf


def test_by_default_every_column_is_a_contrast_even_one_named_as_an_expression():
    X = pd.DataFrame(np.random.default_rng(0).standard_normal((30, 3)), columns=["a", "b", "a - b"])
    found = design_diagnostics(X)
    assert found.contrasts.index.tolist() == ["a", "b", "a - b"]
    np.testing.assert_array_equal(found.contrasts["vif"], found.regressors["vif"])


def test_bad_input():
    X = design(5.0)
    with pytest.raises(DesignError, match="rho: is 1"):
        design_diagnostics(X, rho=1.0)
    with pytest.raises(DesignError, match="not finite"):
        design_diagnostics(X.assign(a=np.nan))
    with pytest.raises(DesignError, match="is empty"):
        design_diagnostics(X.iloc[:0])
    with pytest.raises(ContrastError, match="Contrast not found in design matrix: 'c'"):
        design_diagnostics(X, {"c": "c"})


@pytest.mark.parametrize("contrasts", [None, {"a - b": "a - b", "any": ["a", "b"]}])
def test_the_picture_shows_severe_inflation_in_red(tmp_path, contrasts):
    def red(apart):
        picture = imread(plot_design(design(apart), tmp_path / f"new/{apart}.png", contrasts))[..., :3]
        return np.sum(np.abs(picture - np.array([0xC0, 0x39, 0x2B]) / 255).max(axis=-1) < 0.01)

    assert red(0.5) > 1000
    assert red(10.0) == 0
