"""Scrubbing against nilearn's own rule, for any pattern of bad volumes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from nilearn.interfaces.fmriprep.load_confounds_scrub import optimize_scrub

from voxloom.kernels.noise.scrub import scrub
from voxloom.kernels.noise.segments import segments_of


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 8))
def test_equal_to_nilearn(bad, min_length):
    bad = np.array(bad)
    expected = np.flatnonzero(bad)
    if expected.size and min_length:
        expected = optimize_scrub(expected, bad.size, min_length)
    np.testing.assert_array_equal(np.flatnonzero(~scrub(bad, min_length)), expected)


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_segments_start_where_the_volume_before_is_left_out(keep):
    kept = np.flatnonzero(keep)
    starts = segments_of(kept, kept.size, stationary=True).starts
    assert starts.tolist() == [row for row, k in enumerate(kept) if row == 0 or not keep[k - 1]]
