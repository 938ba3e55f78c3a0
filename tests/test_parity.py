"""The page on nilearn's options is current: its lines, its numbers, and what it says without numbers."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from nilearn.glm.first_level import FirstLevelModel

from voxloom.errors import ContrastError, InputError

DOCS = Path(__file__).resolve().parents[1] / "docs/measured"


@pytest.fixture
def parity(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("make_parity")


@pytest.fixture
def measures(parity):
    return importlib.import_module("parity_measures")


def test_every_option_of_the_model_has_a_line(parity):
    options = set(inspect.signature(FirstLevelModel).parameters)
    given = set(inspect.signature(FirstLevelModel.fit).parameters) - {"self", "run_imgs"}
    fit = {f"fit: {name}" for name in given}
    outputs = {row.setting.strip("`") for row in parity.ROWS if row.option == "output_type"}
    assert options | fit <= {row.option for row in parity.ROWS}
    assert {"z_score", "stat", "p_value", "effect_size", "effect_variance"} <= outputs


def test_the_page_is_what_the_script_writes_now(parity):
    """Numbers of things that differ hold to their digit or the next; a last bit may move a random fit."""
    differences = [parity.measured(row) for row in parity.ROWS]
    wrong = [
        (row.option, row.setting, difference)
        for row, difference in zip(parity.ROWS, differences)
        if difference is not None and (difference < parity.ROUNDING) != row.same
    ]
    assert not wrong
    number = r"(?<=\| )[\d.e-]+(?= \|)"
    page, now = parity.PAGE.read_text(), parity.page(differences)
    assert re.sub(number, "", page) == re.sub(number, "", now)
    written, found = (np.array(re.findall(number, text), float) for text in (page, now))
    np.testing.assert_allclose(written, found, rtol=0.3)


def test_what_is_refused(measures):
    for scaling in (1, (0, 1)):
        with pytest.raises(InputError, match="signal_scaling"):
            measures.ours(signal_scaling=scaling)
    with pytest.raises(ContrastError, match="has 2 weights"):
        measures.ours([1.0, -1.0])


@pytest.mark.filterwarnings("ignore")
def test_what_the_page_says_of_nilearn(measures):
    with pytest.raises(ValueError, match="broadcast"):
        measures.theirs(signal_scaling=1)
    np.testing.assert_array_equal(measures.theirs(np.array([1.0, -1.0])), measures.theirs())
    raw, standardised = (measures.theirs(standardize=s, output="effect_size") for s in (False, "zscore_sample"))
    np.testing.assert_array_equal(raw, standardised)
    model = FirstLevelModel(t_r=measures.T_R, mask_img=measures.MASK, noise_model="ols", reports=False)
    one = measures.events(1)
    model.fit([measures.image(0), measures.image(1)], [measures.events(0), one[one["trial_type"] == "face"]])
    with pytest.raises(ValueError, match="house"):
        model.compute_contrast("face - house")
