"""Several modulators of a condition: regressors of their own, linear in the values, in Python and in an analysis."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level import make_first_level_design_matrix

from voxloom.errors import DesignError, InputError, VoxloomWarning
from voxloom.models.design.matrix import design_matrix, frame_times
from voxloom.pipeline.stages.design import RunTables, build
from voxloom.spec import FirstLevel

TIMES = frame_times(100, 2.0)
values = st.lists(st.floats(-5, 5), min_size=6, max_size=6)


def events(**columns):
    return pd.DataFrame(
        {
            "onset": [10.0, 40.0, 70.0, 100.0, 130.0, 160.0],
            "duration": 2.0,
            "trial_type": ["face", "house"] * 3,
            "rt": [0.5, 0.7, 0.9, 0.4, 0.7, 0.8],
            "gain": [3, 1, 2, 2, 7, 5],
        }
        | columns
    )


@settings(max_examples=30, deadline=None)
@given(rt=values, gain=values, model=st.sampled_from(["spm", "glover + derivative", None]))
@pytest.mark.filterwarnings("ignore")
def test_every_modulator_is_what_nilearn_makes_of_its_centred_values_alone(rt, gain, model):
    """So neither modulator depends on the other: nothing is orthogonalised between them."""
    table, options = events(rt=rt, gain=gain), {"hrf_model": model, "drift_model": None}
    X = design_matrix(TIMES, table, modulators=["rt", "gain"], **options)
    for condition in ("face", "house"):
        rows = table[table["trial_type"] == condition]
        for name in ("rt", "gain"):
            if np.ptp(rows[name]) <= 1e-12 * rows[name].abs().max():
                assert f"{condition}*{name}" not in X
                continue
            alone = rows.assign(modulation=rows[name] - rows[name].mean())
            theirs = make_first_level_design_matrix(TIMES, alone, **options)
            np.testing.assert_allclose(X[f"{condition}*{name}"], theirs[condition], atol=1e-10)
    plain = design_matrix(TIMES, events(), **options)
    pd.testing.assert_frame_equal(X[plain.columns], plain)


def test_conditions_choose_their_modulators():
    X = design_matrix(TIMES, events(), modulators={"face": ["gain", "rt"], "house": "rt"}, drift_model=None)
    assert X.columns.tolist() == ["face", "face*gain", "face*rt", "house", "house*rt", "constant"]
    swapped = design_matrix(TIMES, events(), modulators={"house": ["rt"], "face": ["rt", "gain"]}, drift_model=None)
    pd.testing.assert_frame_equal(X, swapped[X.columns])


def test_modulation_and_modulators_stand_side_by_side():
    table = events(modulation=[1, 1, 2, 1, 3, 1])
    X = design_matrix(TIMES, table, modulators={"face": ["rt"]}, drift_model=None)
    assert X.columns.tolist() == ["face", "face*modulation", "face*rt", "house", "constant"]


def test_a_column_that_is_na_throughout_a_condition_does_not_modulate_it():
    table = events(rt=[0.5, np.nan, 0.9, np.nan, 0.7, np.nan])
    X = design_matrix(TIMES, table, modulators=["rt"], drift_model=None)
    assert X.columns.tolist() == ["face", "face*rt", "house", "constant"]
    with pytest.raises(DesignError, match=r"run-1: rt is n/a in 3 of 3 events of 'house', the first at 40 s"):
        design_matrix(TIMES, table, modulators={"house": ["rt"]}, where="run-1")


def test_a_single_missing_value_is_refused():
    with pytest.raises(DesignError, match=r"rt is n/a in 1 of 3 events of 'face', the first at 70 s\. Give such"):
        design_matrix(TIMES, events(rt=[0.5, 1, np.nan, 1, 0.7, 2]), modulators=["rt"])


def test_a_constant_modulator_leaves_the_main_effect_with_a_warning():
    table = events(rt=[2.0, 1.0, 2.0, 3.0, 2.0, 1.0])
    with pytest.warns(VoxloomWarning, match=r"run-1: \['face\*rt'\] have the same value at all events"):
        X = design_matrix(TIMES, table, modulators=["rt"], drift_model=None, where="run-1")
    assert X.columns.tolist() == ["face", "house", "house*rt", "constant"]


def test_a_condition_that_does_not_occur_is_told():
    with pytest.warns(VoxloomWarning, match=r"modulators are wanted of \['fase'\], but there are no such events"):
        design_matrix(TIMES, events(), modulators={"fase": ["rt"]})


def test_the_analysis_file_reaches_the_design():
    written = {"modulators": {"face": ["rt", "gain"]}, "oversampling": 16, "min_onset": -12}
    early = pd.concat([events(), events().iloc[:1].assign(onset=-15.0)])
    run = RunTables("run-1", 100, 2.0, "", early, None, None, np.ones(100, bool))
    with pytest.warns(VoxloomWarning, match="before -12 s are dropped: 1"):
        built = build(run, FirstLevel(**written))
    direct = design_matrix(TIMES, events(), oversampling=16, min_onset=-12, modulators={"face": ["rt", "gain"]})
    pd.testing.assert_frame_equal(built.matrix, direct, check_names=False)
    assert FirstLevel(modulators="rt").modulators == ("rt",)
    for wrong in ({"oversampling": 0}, {"min_onset": 3}, {"modulators": {"face": [""]}}):
        with pytest.raises((ValueError, InputError), match=next(iter(wrong))):
            FirstLevel(**wrong)
