"""Events files: read as written, and one clear message for each that cannot be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from voxloom.errors import InputError
from voxloom.io.bids.events import read_events


@pytest.mark.parametrize("dataset", ["haxby_pseudo6_bids", "ds005_bids_layout"])
def test_real_files_agree_with_pandas(voxloom_data, dataset):
    """Independent reading: pandas' own defaults agree on these files."""
    paths = sorted((voxloom_data / "data" / dataset).glob("sub-*/func/*_events.tsv"))
    assert len(paths) == 12
    for path in paths:
        events = read_events(path)
        expected = pd.read_csv(path, sep="\t")
        assert list(events.columns) == list(expected.columns)
        for name in events.columns:
            if pd.api.types.is_numeric_dtype(expected[name]):
                np.testing.assert_array_equal(events[name].to_numpy(float), expected[name].to_numpy(float))
            else:
                assert events[name].tolist() == expected[name].tolist()
        assert events["onset"].dtype == events["duration"].dtype == np.float64


def test_names_stay_text_and_missing_is_nan(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_bytes("\ufeffonset\tduration\ttrial_type \n0\tn/a\t01\n1\t2\tNone\nn/a\t2\tn/a\n".encode())
    events = read_events(path)
    assert events["trial_type"].tolist()[:2] == ["01", "None"]
    assert pd.isna(events["trial_type"].iloc[2])
    np.testing.assert_array_equal(events["onset"], [0, 1, np.nan])
    np.testing.assert_array_equal(events["duration"], [np.nan, 2, 2])


def test_floats_are_read_to_the_last_bit(tmp_path):
    onsets = np.random.default_rng(0).uniform(0, 300, 200)
    path = tmp_path / "events.tsv"
    path.write_text("onset\tduration\n" + "".join(f"{onset!r}\t0\n" for onset in onsets.tolist()))
    np.testing.assert_array_equal(read_events(path)["onset"], onsets)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("onset\tduration\ttrial_type\n", "has no events"),
        ("onset\ttrial_type\n0\ta\n", "no column duration; it has onset, trial_type"),
        ("onset duration trial_type\n0 1 a\n", "tab-separated"),
        ("onset\tduration\n0\t1\nsoon\t1\n", "line 3: onset is 'soon'"),
        ("onset\tduration\tonset\n0\t1\t0\n", "several columns named onset"),
        ("onset\tduration\n0\t1\t2\n", "is no table"),
        ('onset\tduration\ttrial_type\n0\t1\t"a\n1\t1\tb\n2\t1\tc"\n', "over the end of its line"),
    ],
)
def test_refusals_name_the_file(tmp_path, text, words):
    path = tmp_path / "sub-01_events.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_events(path)
    assert str(caught.value).startswith(str(path))


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_events(tmp_path / "absent.tsv")
    (tmp_path / "image.tsv").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_events(tmp_path / "image.tsv")
