"""Strategies against nilearn's `load_confounds` and `load_confounds_strategy` on real fMRIPrep tables."""

from __future__ import annotations

import itertools
import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds as nilearn_load
from nilearn.interfaces.fmriprep import load_confounds_strategy as nilearn_preset

from voxloom.errors import InputError, VoxloomWarning
from voxloom.io.bids.confounds import read_confounds
from voxloom.io.bids.denoise import denoise, load_confounds
from voxloom.spec import parse_confounds

FOLDER = "data/fmriprep_confounds/nilearn_test"
OLD, NEW, STEADY = (
    "test_desc-confounds_regressors",
    "test-v21_desc-confounds_timeseries",
    "no_nonsteady_desc-confounds_regressors",
)
EXPANSIONS = ("basic", "power2", "derivatives", "full")
COMPCOR = ("anat_combined", "anat_separated", "temporal", "temporal_anat_combined", "temporal_anat_separated")


@pytest.fixture
def staged(voxloom_data, tmp_path):
    """Put a table where nilearn looks for it; return the table's path and the image's."""

    def put(name: str, desc: str = "preproc"):
        table = tmp_path / f"sub-01_task-x_desc-confounds_{name.rsplit('_', 1)[1]}.tsv"
        shutil.copy(voxloom_data / FOLDER / f"{name}.tsv", table)
        sidecar = voxloom_data / FOLDER / f"{name}.json"
        if sidecar.exists():
            shutil.copy(sidecar, table.with_suffix(".json"))
        image = tmp_path / f"sub-01_task-x_desc-{desc}_bold.nii.gz"
        image.touch()
        return table, str(image)

    return put


def require_equal(ours, expected: tuple[pd.DataFrame, np.ndarray | None]) -> None:
    confounds, sample_mask = expected
    assert list(ours.confounds.columns) == list(confounds.columns)
    if sample_mask is not None and sample_mask.size == 0:  # nilearn takes means of nothing then
        assert not ours.sample_mask.any()
        return
    # pandas' parser, which nilearn uses, may be off by one unit in the last place, of which means are taken
    scale = np.abs(confounds.to_numpy()).max(axis=0, initial=0)
    assert (np.abs(ours.confounds.to_numpy() - confounds.to_numpy()) <= 1e-13 * (scale + 1)).all()
    kept = np.arange(len(ours.confounds)) if sample_mask is None else sample_mask
    np.testing.assert_array_equal(np.flatnonzero(ours.sample_mask), kept)


def both(staged, name: str, options: dict[str, object], desc: str = "preproc"):
    table, image = staged(name, desc)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = nilearn_load(image, **options)
        return load_confounds(table, dict(options, strategy=list(options["strategy"]))), expected


SINGLE = {
    **{f"motion {m}": {"strategy": ("motion",), "motion": m} for m in EXPANSIONS},
    **{f"wm_csf {m}": {"strategy": ("wm_csf",), "wm_csf": m} for m in EXPANSIONS},
    **{f"global_signal {m}": {"strategy": ("global_signal",), "global_signal": m} for m in EXPANSIONS},
    "high_pass": {"strategy": ("high_pass",)},
    "non_steady_state": {"strategy": ("non_steady_state", "motion"), "motion": "basic"},
    "together": {"strategy": ("motion", "high_pass", "wm_csf", "global_signal"), "global_signal": "full"},
}


@pytest.mark.parametrize("demean", [True, False])
@pytest.mark.parametrize("case", SINGLE)
@pytest.mark.parametrize("name", [OLD, NEW, STEADY])
def test_components_equal_nilearn(staged, name, case, demean):
    require_equal(*both(staged, name, SINGLE[case] | {"demean": demean}))


@pytest.mark.parametrize("n_compcor", ["all", 1, 2, 1000])
@pytest.mark.parametrize(("name", "compcor"), list(itertools.product((OLD, NEW), COMPCOR)))
def test_compcor_equals_nilearn(staged, name, compcor, n_compcor):
    options = {"strategy": ("high_pass", "compcor"), "compcor": compcor, "n_compcor": n_compcor}
    require_equal(*both(staged, name, options))


def test_compcor_of_masks_that_the_sidecar_does_not_have_is_refused_as_by_nilearn(staged):
    table, image = staged(OLD)
    sidecar = table.with_suffix(".json")
    content = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({name: about | {"Mask": "other"} for name, about in content.items()}))
    options = {"strategy": ["high_pass", "compcor"], "compcor": "anat_combined"}
    with pytest.raises(ValueError, match="compcor"):
        nilearn_load(image, **options)
    with pytest.raises(InputError, match=r"no component for compcor: anat_combined.*fMRIPrep"):
        load_confounds(table, options)


@pytest.mark.parametrize("scrub", [0, 2, 5])
@pytest.mark.parametrize("fd_threshold", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("std_dvars_threshold", [1.1, 1.5])
@pytest.mark.parametrize("name", [OLD, NEW, STEADY])
def test_scrubbing_equals_nilearn(staged, name, scrub, fd_threshold, std_dvars_threshold):
    options = {
        "strategy": ("motion", "scrub"),
        "motion": "derivatives",
        "scrub": scrub,
        "fd_threshold": fd_threshold,
        "std_dvars_threshold": std_dvars_threshold,
    }
    ours, expected = both(staged, name, options)
    require_equal(ours, expected)
    assert (~ours.sample_mask).sum() == ours.n_scrubbed + ours.n_non_steady_state


@pytest.mark.parametrize("name", [OLD, STEADY])
def test_aroma_equals_nilearn(staged, name):
    require_equal(*both(staged, name, {"strategy": ("ica_aroma", "wm_csf"), "ica_aroma": "basic"}))


def test_full_aroma_equals_nilearn(staged):
    require_equal(*both(staged, OLD, {"strategy": ("ica_aroma", "wm_csf")}, desc="smoothAROMAnonaggr"))


PRESETS = {
    "simple": [{}, {"motion": "basic", "wm_csf": "full"}, {"global_signal": "derivatives"}, {"demean": False}],
    "scrubbing": [{}, {"fd_threshold": 0.1, "scrub": 2}, {"global_signal": "basic", "wm_csf": "basic"}],
    "compcor": [{}, {"n_compcor": 3, "compcor": "temporal_anat_combined"}, {"global_signal": "basic"}],
    "ica_aroma": [{}, {"wm_csf": "power2"}],
}


@pytest.mark.parametrize(("preset", "options"), [(name, more) for name, cases in PRESETS.items() for more in cases])
@pytest.mark.parametrize("name", [OLD, NEW])
def test_presets_equal_nilearn(staged, name, preset, options):
    table, image = staged(name, "smoothAROMAnonaggr" if preset == "ica_aroma" else "preproc")
    spelled = {"strategy": preset} | options if options else preset
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        require_equal(load_confounds(table, spelled), nilearn_preset(image, denoise_strategy=preset, **options))


SMALL = pd.DataFrame(
    {
        "trans_x": np.arange(12.0) ** 2,
        "csf": np.arange(12.0),
        "framewise_displacement": [np.nan, 0, 0, 9, 0, 0, 0, 0, 9, 0, 0, 0],
        "std_dvars": [np.nan] + [1.0] * 11,
        "non_steady_state_outlier00": [1.0] + [0.0] * 11,
        "motion_outlier00": np.eye(12)[3],
        "motion_outlier01": np.eye(12)[9],
    }
)


def small(**options: object):
    return denoise(SMALL, None, parse_confounds(options), "run")


def test_scrubbing_leaves_out_short_segments_and_counts_by_reason():
    found = small(strategy=["scrub"], scrub=4)
    # 3 and 8 move; before 3 and after 8 there are fewer than 4; 0 was not steady
    np.testing.assert_array_equal(np.flatnonzero(found.sample_mask), [4, 5, 6, 7])
    assert (found.n_non_steady_state, found.n_scrubbed) == (1, 7)


def test_marks_of_volumes_leave_with_their_volume_and_others_stay():
    found = small(strategy=["scrub"], scrub=0, columns=["motion_outlier*", "csf"], demean=False)
    assert list(found.confounds.columns) == ["motion_outlier01", "csf"]
    assert not found.sample_mask[[0, 3, 8]].any()


def test_means_are_over_kept_volumes():
    usable = np.ones(12, bool)
    usable[5:] = False
    wanted = parse_confounds({"strategy": ["scrub"], "scrub": 0, "columns": ["trans_x", "csf"]})
    found = denoise(SMALL, None, wanted, "run", sample_mask=usable)
    np.testing.assert_array_equal(np.flatnonzero(found.sample_mask), [1, 2, 4])
    np.testing.assert_allclose(found.confounds[found.sample_mask].mean(), 0, atol=1e-14)
    np.testing.assert_allclose(found.confounds["csf"].diff()[1:], 1)


def test_columns_alone_leave_nothing_out():
    found = small(columns=["motion_outlier*", "non_steady*"])
    assert found.sample_mask.all()
    assert list(found.confounds.columns) == ["motion_outlier00", "motion_outlier01", "non_steady_state_outlier00"]


MISSING = {
    "motion": (
        {"strategy": ["motion"]},
        r"run: lacks trans_x_derivative1.* and 17 more of the strategy's motion\. fMRIPrep",
    ),
    "wm_csf": ({"strategy": ["wm_csf"]}, r"lacks white_matter of .*--level full"),
    "global_signal": ({"strategy": ["global_signal"]}, r"lacks global_signal of .*--level full"),
    "aroma": ({"strategy": ["ica_aroma"], "ica_aroma": "basic"}, r"aroma_motion_\*.*--use-aroma"),
    "sidecar": ({"strategy": ["high_pass", "compcor"]}, r"no JSON sidecar.*anat_combined"),
    "temporal": ({"strategy": ["high_pass", "compcor"], "compcor": "temporal"}, r"no component for compcor: temporal"),
    "column": ({"strategy": ["scrub"], "columns": ["rot_x"]}, r"no confound 'rot_x'"),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_missing_is_named_with_what_makes_it(case):
    options, words = MISSING[case]
    with pytest.raises(InputError, match=words):
        small(**options)


def test_missing_measures_of_scrubbing():
    with pytest.raises(InputError, match=r"lacks std_dvars of the strategy's scrub"):
        denoise(SMALL.drop(columns="std_dvars"), None, parse_confounds({"strategy": ["scrub"]}), "run")


def test_no_cosines_are_said():
    with pytest.warns(VoxloomWarning, match="run: has no cosine columns"):
        small(strategy=["high_pass"])


def test_temporal_compcor_needs_no_sidecar(staged):
    table, image = staged(NEW)
    options = {"strategy": ["high_pass", "compcor"], "compcor": "temporal", "n_compcor": 2}
    expected = nilearn_load(image, **options)
    table.with_suffix(".json").unlink()
    require_equal(load_confounds(table, options), expected)


def test_a_damaged_sidecar_is_named(staged):
    table, _ = staged(NEW)
    for text in ("[1, 2]", "{", '{"a_comp_cor_00": 3}'):
        table.with_suffix(".json").write_text(text)
        with pytest.raises(InputError, match=r"timeseries\.json: is no sidecar"):
            load_confounds(table, "simple")


def test_tables_of_fmriprep_before_1_2_are_refused_by_name(voxloom_data):
    folder = voxloom_data / "data/ds005_bids_layout_truncated_real/derivatives/fmriprep/sub-01/func"
    table = read_confounds(folder / "sub-01_task-mixedgamblestask_run-01_bold_confounds.tsv")
    with pytest.raises(InputError, match=r"lacks trans_x.*other names: list those under `columns`"):
        denoise(table, None, parse_confounds({"strategy": ["motion"]}), "run")
    assert denoise(table, None, parse_confounds(["X", "RotX"]), "run").confounds.shape[1] == 2
