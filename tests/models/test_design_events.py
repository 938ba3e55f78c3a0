"""What check_events keeps, mends, warns of and refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from voxloom.errors import DesignError, VoxloomWarning
from voxloom.models.design.events import check_events

WHERE = "sub-01_events.tsv"


def table(**columns):
    return pd.DataFrame({"onset": [4.0, 0.0, 8.0], "duration": 1.0, "trial_type": ["b", "a", "b"]} | columns)


def test_good_events_pass_through_in_their_order():
    given = table(modulation=[1, 2, 3], response_time=[0.1, np.nan, 0.2])
    before = given.copy()
    checked = check_events(given, WHERE)
    assert checked["trial_type"].tolist() == ["b", "a", "b"]
    assert checked["onset"].tolist() == [4.0, 0.0, 8.0]
    assert checked["modulation"].tolist() == [1.0, 2.0, 3.0]
    assert checked["count"].tolist() == [1, 1, 1]
    assert checked["in_run"].all()
    pd.testing.assert_frame_equal(given, before)


def test_numbers_given_as_text_are_numbers():
    checked = check_events(table(onset=["1.5", "2", "3e0"]))
    assert checked["onset"].tolist() == [1.5, 2.0, 3.0]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 2, 2], ["1", "2", "2"]),
        ([1.0, 2.5, 2.0], ["1", "2.5", "2"]),
        ([True, False, True], ["True", "False", "True"]),
    ],
)
def test_labels_become_text(labels, names):
    assert check_events(table(trial_type=labels))["trial_type"].tolist() == names


def test_codes_keep_their_names_beside_empty_rows():
    with pytest.warns(VoxloomWarning, match=r"events without trial_type are dropped: 1 \(row 2\)"):
        checked = check_events(table(trial_type=[1, np.nan, 2]))
    assert checked["trial_type"].tolist() == ["1", "2"]


def test_missing_trial_type_column_makes_one_condition():
    with pytest.warns(VoxloomWarning, match=f"{WHERE}: no column 'trial_type'"):
        checked = check_events(table().drop(columns="trial_type"), WHERE)
    assert set(checked["trial_type"]) == {"dummy"}


def test_repeated_events_add_their_modulation():
    given = table(onset=[4.0, 0.0, 4.0], modulation=[2.0, 1.0, 5.0])
    with pytest.warns(VoxloomWarning, match=r"rows repeat an event: 1 \(the first 'b' at 4 s\)"):
        checked = check_events(given, WHERE)
    assert checked["modulation"].tolist() == [7.0, 1.0]
    assert checked["count"].tolist() == [2, 1]


def test_events_outside_the_run_are_counted():
    with pytest.warns(VoxloomWarning) as caught:
        checked = check_events(table(onset=[-30.0, 5.0, 120.5]), WHERE, start=-24.0, end=100.0)
    assert checked["in_run"].tolist() == [False, True, False]
    text = [str(w.message) for w in caught]
    assert any("start before -24 s are dropped: 1, the first at -30 s" in t for t in text)
    assert any("end of the run (100 s) contribute nothing: 1, the first at 120.5 s" in t for t in text)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (table(onset=[1, np.nan, 2]), r"onset is empty \(n/a\) in row 2\. Give finite numbers"),
        (table(onset=np.nan), "onset is empty .* in rows 1, 2, 3"),
        (table(duration=[1, 1, np.nan]), "duration is empty .* in row 3"),
        (table(duration=[1, np.inf, 1]), "duration is 'inf' in row 2"),
        (table(duration=[1, -0.5, 1]), "duration is negative in row 2"),
        (table(duration=["1", "long", "1"]), "duration is 'long' in row 2"),
        (table(modulation=[1, 2, np.nan]), "modulation is empty .* in row 3"),
        (table().drop(columns="onset"), r"has no column 'onset'; it has \['duration', 'trial_type'\]"),
        (table().iloc[:0], "has no events"),
        ({"onset": [1]}, "is a dict"),
    ],
)
def test_messages_name_file_and_rows(events, message):
    with pytest.raises(DesignError, match=f"{WHERE}: {message}"):
        check_events(events, WHERE)


def test_many_bad_rows_are_counted():
    events = pd.DataFrame({"onset": [np.nan] * 9, "duration": 1.0})
    with pytest.raises(DesignError, match="rows 1, 2, 3, 4, 5 and 4 more"):
        check_events(events)


def test_nothing_left_is_an_error():
    with (
        pytest.warns(VoxloomWarning, match="events without trial_type are dropped: 3"),
        pytest.raises(DesignError, match="has no events"),
    ):
        check_events(table(trial_type=["n/a", None, np.nan]))


def test_modulators_are_numbers_or_na():
    checked = check_events(table(rt=["0.5", "n/a", 2]), WHERE, modulators=["rt"])
    np.testing.assert_array_equal(checked["*rt"], [0.5, np.nan, 2.0])
    for column, message in (
        ({"rt": ["fast", "n/a", 2]}, "rt is 'fast' in row 1"),
        ({"rt": [np.inf, 1, 2]}, "rt is 'inf' in row 1"),
        ({"gain": 1.0}, r"'rt' is no modulator\. Give a column of the events; these may be: \['gain'\]"),
    ):
        with pytest.raises(DesignError, match=f"{WHERE}: {message}"):
            check_events(table(**column), WHERE, modulators=["rt"])
    with pytest.raises(DesignError, match="'duration' is no modulator"):
        check_events(table(), WHERE, modulators=["duration"])


def test_a_repeated_event_without_a_value_has_none():
    with pytest.warns(VoxloomWarning, match="repeat"):
        checked = check_events(table(onset=[4.0, 0.0, 4.0], rt=[np.nan, 1.0, 5.0]), modulators=["rt"])
    np.testing.assert_array_equal(checked["*rt"], [np.nan, 1.0])
