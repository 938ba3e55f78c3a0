"""Confounds against nilearn's `load_confounds` on real fMRIPrep tables, and the rule for leading n/a."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds

from voxloom.errors import InputError, VoxloomWarning
from voxloom.io.bids.confounds import read_confounds, require_rows, select_confounds

FOLDER = "data/fmriprep_confounds/nilearn_test"
NEW, OLD = "test-v21_desc-confounds_timeseries", "test_desc-confounds_regressors"


@pytest.fixture
def stage(voxloom_data, tmp_path):
    """Put a table where nilearn looks for it; return the table's path and the image's."""

    def put(name: str):
        suffix = name.rsplit("_", 1)[1]
        table = tmp_path / f"sub-01_task-x_desc-confounds_{suffix}.tsv"
        shutil.copy(voxloom_data / FOLDER / f"{name}.tsv", table)
        shutil.copy(voxloom_data / FOLDER / f"{name}.json", table.with_suffix(".json"))
        image = tmp_path / "sub-01_task-x_desc-preproc_bold.nii.gz"
        image.touch()
        return table, str(image)

    return put


@pytest.mark.parametrize("name", [NEW, OLD])
@pytest.mark.parametrize(
    ("options", "patterns"),
    [
        (
            {"strategy": ("motion",), "motion": "derivatives"},
            ["trans_?", "rot_?", "trans_?_derivative1", "rot_?_derivative1"],
        ),
        ({"strategy": ("motion", "high_pass"), "motion": "full"}, ["trans_*", "rot_*", "cosine*"]),
        ({"strategy": ("wm_csf",), "wm_csf": "full"}, ["csf", "csf_d*", "csf_power2", "white_matter*"]),
    ],
)
def test_equal_to_nilearn(stage, name, options, patterns):
    table, image = stage(name)
    expected, _ = load_confounds(image, demean=False, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VoxloomWarning)
        chosen = select_confounds(read_confounds(table), patterns, "table")
    assert sorted(chosen.columns) == sorted(expected.columns)
    # pandas' parser, which nilearn uses, may be off by one unit in the last place
    np.testing.assert_allclose(chosen[expected.columns], expected, rtol=1e-14, atol=0)


def test_haxby(voxloom_data):
    folder = voxloom_data / "data/haxby_pseudo6_bids/derivatives/fmriprep/sub-01/func"
    table = read_confounds(folder / "sub-01_task-objectviewing_run-1_desc-confounds_timeseries.tsv")
    require_rows(table, 121, "table")
    with pytest.raises(InputError, match="121 rows, but the run has 120 volumes"):
        require_rows(table, 120, "table")
    chosen = select_confounds(table, ["cosine*", "rot_?", "cosine01"], "table")
    assert list(chosen.columns) == ["cosine00", "cosine01", "cosine02", "cosine03", "rot_x", "rot_y", "rot_z"]
    assert np.isfinite(chosen.to_numpy()).all()


def table(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_leading_missing_values_take_the_first_that_follows():
    raw = table(a=[np.nan, 3.0, 4.0], b=[np.nan, np.nan, 5.0], c=[1.0, 2.0, 3.0])
    with pytest.warns(VoxloomWarning, match="run: n/a in the first 2 rows of a, b filled"):
        filled = select_confounds(raw, ["*"], "run")
    np.testing.assert_array_equal(filled, [[3, 5, 1], [3, 5, 2], [4, 5, 3]])
    assert raw["a"].isna().sum() == 1, "the table itself stays as it was"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0, np.nan, 3.0], "'a' lacks a finite value in 1 of 3 rows, first row 1"),
        ([np.nan, np.nan, np.nan], "'a' lacks a finite value in 3 of 3 rows"),
        ([1.0, 2.0, np.inf], "first row 2"),
        (["x", "y", "z"], "holds text"),
    ],
)
def test_other_missing_values_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        select_confounds(table(a=values), ["a"], "run")


def test_leading_and_inner_missing_values():
    with pytest.raises(InputError, match="1 of 4 rows, first row 2"), pytest.warns(VoxloomWarning):
        select_confounds(table(a=[np.nan, 1.0, np.nan, 2.0]), ["a"], "run")


def test_unknown_columns_name_the_nearest():
    known = table(trans_x=[0.0], rot_x=[0.0])
    with pytest.raises(InputError, match=r"run: has no confound 'tran_x'. Did you mean `trans_x`\?"):
        select_confounds(known, ["tran_x"], "run")
    with pytest.raises(InputError, match=r"has no confound 'scrubing'. Did you mean `scrubbing`\?"):
        select_confounds(known, ["scrubing"], "run")
    with pytest.raises(InputError, match="has no confound 'cosine"):
        select_confounds(known, ["cosine*"], "run")


def test_globs_for_outliers_may_match_nothing():
    known = table(trans_x=[0.0, 1.0])
    assert list(select_confounds(known, ["trans_x", "motion_outlier*"], "run").columns) == ["trans_x"]
    assert select_confounds(known, ["non_steady_state_outlier*"], "run").shape == (2, 0)
    with pytest.raises(InputError, match="motion_outlier00"):
        select_confounds(known, ["motion_outlier00"], "run")


def test_constant_columns_are_kept():
    assert select_confounds(table(a=[0.0, 0.0]), ["a"], "run").to_numpy().tolist() == [[0.0], [0.0]]


def test_unreadable(tmp_path):
    with pytest.raises(InputError, match=r"data\.derivatives"):
        read_confounds(tmp_path / "absent.tsv")
    (tmp_path / "empty.tsv").touch()
    with pytest.raises(InputError, match="is empty"):
        read_confounds(tmp_path / "empty.tsv")
