"""Design matrices against nilearn and SPM, the rules that differ on purpose, and bad input."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level import make_first_level_design_matrix, spm_hrf
from scipy.io import loadmat

from voxloom.errors import DesignError, VoxloomWarning
from voxloom.kernels.design.hrf import HRF_MODELS
from voxloom.kernels.linalg import reduce_design
from voxloom.models.design.matrix import dependent_columns, design_matrix, frame_times

TIMES = frame_times(100, 2.0)


def blocks(**columns):
    return pd.DataFrame(
        {
            "onset": [10.0, 40.0, 70.0, 100.0, 130.0, 160.0],
            "duration": 8.0,
            "trial_type": ["face", "house"] * 3,
        }
        | columns
    )


def test_frame_times():
    np.testing.assert_allclose(frame_times(4, 1.5, 0.5), [0.75, 2.25, 3.75, 5.25])
    for arguments in ((0, 2.0, 0.0), (5, 0.0, 0.0), (5, np.nan, 0.0), (5, 2.0, 1.5)):
        with pytest.raises(DesignError):
            frame_times(*arguments)


def slow_bump(t_r, oversampling):
    """A response as nilearn's are given."""
    return np.sin(np.linspace(0, np.pi, int(20 / t_r * oversampling))) / oversampling


event = st.tuples(
    st.one_of(st.floats(-24, 110), st.integers(-12, 110).map(float)),
    st.one_of(st.just(0.0), st.floats(0, 30)),
    st.sampled_from(["face", "House", "é", "cat 2", "a_b"]),
    st.floats(0.1, 3),
)


@st.composite
def event_rows(draw):
    """Blocks, impulses and both, some before the run, some given twice."""
    rows = draw(st.lists(event, min_size=1, max_size=15))
    return rows + draw(st.lists(st.sampled_from(rows), max_size=3))


@settings(max_examples=100, deadline=None)
@given(
    rows=event_rows(),
    model=st.sampled_from([*HRF_MODELS, slow_bump, [slow_bump, spm_hrf]]),
    drift=st.sampled_from(
        [{"drift_model": "cosine", "high_pass": 0.03}, {"drift_model": None}, {"drift_model": "cosine"}]
        + [{"drift_model": "polynomial", "drift_order": k} for k in range(4)]
    ),
    modulated=st.booleans(),
    t_r=st.one_of(st.sampled_from([0.8, 2.0, 3.0]), st.integers(400, 4000).map(lambda ms: ms / 1000)),
    n_scans=st.integers(20, 50),
    reference=st.one_of(st.sampled_from([0.0, 0.5]), st.floats(0, 1)),
    added=st.sampled_from([None, "array", "frame"]),
    grid=st.fixed_dictionaries(
        {"min_onset": st.sampled_from([-24.0, -7.3, 0.0]), "oversampling": st.sampled_from([3, 16, 50])}
    ),
)
@pytest.mark.filterwarnings("ignore")
def test_equals_nilearn(rows, model, drift, modulated, t_r, n_scans, reference, added, grid):
    times = frame_times(n_scans, t_r, reference)
    # before min_onset the rules differ on purpose
    rows = [row for row in rows if row[0] >= times[0] + grid["min_onset"]] or [(times[0], 1.0, "face", 1.0)]
    events = pd.DataFrame(rows, columns=["onset", "duration", "trial_type", "modulation"])
    if not modulated:
        events = events.drop(columns="modulation")
    confounds = np.random.default_rng(0).standard_normal((n_scans, 2))
    options = drift | grid | {"hrf_model": model, "fir_delays": [0, 1, 4]}
    if added:
        options["add_regs"] = confounds if added == "array" else pd.DataFrame(confounds, columns=["x", "y"])
    ours = design_matrix(times, events, modulation="amplitude" if modulated else "separate", **options)
    theirs = make_first_level_design_matrix(times, events, **options)
    assert ours.columns.tolist() == theirs.columns.tolist()
    np.testing.assert_allclose(ours.index, theirs.index)
    np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=0, atol=1e-10)


def test_without_events_there_are_drifts_and_confounds():
    confounds = np.arange(200.0).reshape(100, 2) ** 0.5
    ours = design_matrix(TIMES, add_regs=confounds, add_reg_names=["trans_x", "rot_z"], high_pass=0.008)
    theirs = make_first_level_design_matrix(
        TIMES, add_regs=confounds, add_reg_names=["trans_x", "rot_z"], high_pass=0.008
    )
    pd.testing.assert_frame_equal(ours, theirs)


def test_one_added_regressor_may_be_a_vector():
    x = np.sin(TIMES)
    np.testing.assert_array_equal(design_matrix(TIMES, add_regs=x)["reg0"], x)


def test_function_of_seconds_names_its_columns():
    def bump(t):
        return np.exp(-((t - 5) ** 2))

    X = design_matrix(TIMES, blocks(), hrf_model=bump, drift_model=None)
    assert X.columns.tolist() == ["face_bump", "house_bump", "constant"]
    # a block of 8 s and the integral of the function
    assert X["face_bump"].max() == pytest.approx(np.sqrt(np.pi), abs=0.05)


# -- modulation


@settings(max_examples=40, deadline=None)
@given(
    modulation=st.lists(st.floats(-5, 5), min_size=6, max_size=6),
    model=st.sampled_from(["spm", "glover", "fir", None]),
)
@pytest.mark.filterwarnings("ignore")
def test_separate_modulation_splits_the_amplitude(modulation, model):
    """Amplitude m is m_mean of the main effect plus the centred modulator: regressors are linear in it."""
    options = {"hrf_model": model, "drift_model": None}
    events = blocks(modulation=modulation)
    separate, scaled = (design_matrix(TIMES, events, modulation=m, **options) for m in ("separate", "amplitude"))
    plain = design_matrix(TIMES, blocks(), **options)
    for k, name in enumerate(["face", "house"]):
        suffix = "_delay_0" if model == "fir" else ""
        mean = np.mean(modulation[k::2])
        modulator = separate.get(f"{name}*modulation{suffix}", 0.0)
        np.testing.assert_array_equal(separate[name + suffix], plain[name + suffix])
        np.testing.assert_allclose(mean * separate[name + suffix] + modulator, scaled[name + suffix], atol=1e-12)


def test_modulator_follows_its_condition_with_its_derivatives():
    events = blocks(modulation=[1, 1, 2, 1, 3, 1])
    X = design_matrix(TIMES, events, hrf_model="spm + derivative", drift_model=None)
    assert X.columns.tolist() == [
        "face",
        "face_derivative",
        "face*modulation",
        "face*modulation_derivative",
        "house",
        "house_derivative",
        "constant",
    ]


def test_a_repeated_event_counts_twice():
    """The pair of equal rows gives what two rows a moment apart would give."""
    rows = {"duration": 8.0, "trial_type": "face", "modulation": [1.0, 3.0, 3.0, 8.0]}
    with pytest.warns(VoxloomWarning, match="repeat"):
        merged = design_matrix(TIMES, pd.DataFrame({"onset": [10.0, 70.0, 70.0, 130.0]} | rows))
    apart = design_matrix(TIMES, pd.DataFrame({"onset": [10.0, 70.0, 70.0 - 1e-9, 130.0]} | rows))
    assert "face*modulation" in merged
    np.testing.assert_allclose(merged, apart, atol=1e-12)


def test_a_repeated_event_alone_is_no_modulation():
    events = blocks(onset=[10.0, 40.0, 10.0, 100.0, 130.0, 160.0])
    with pytest.warns(VoxloomWarning, match="repeat"):
        assert "face*modulation" not in design_matrix(TIMES, events)


def test_constant_modulation_is_reported():
    events = blocks(modulation=[2.0, 1.0] * 3)
    with pytest.warns(VoxloomWarning, match=r"modulation of \['face'\] is the same for all"):
        X = design_matrix(TIMES, events)
    pd.testing.assert_frame_equal(X, design_matrix(TIMES, blocks()))
    scaled = design_matrix(TIMES, events, modulation="amplitude")
    np.testing.assert_allclose(scaled["face"], 2 * X["face"])


# -- events outside the run


def test_early_events_are_dropped_not_clamped():
    early = pd.concat([blocks(), pd.DataFrame({"onset": [-30.0], "duration": [20.0], "trial_type": ["face"]})])
    with pytest.warns(VoxloomWarning, match="start before -24 s are dropped: 1"):
        X = design_matrix(TIMES, early)
    pd.testing.assert_frame_equal(X, design_matrix(TIMES, blocks()))
    with pytest.warns(UserWarning, match="earlier"):
        clamped = make_first_level_design_matrix(TIMES, early, hrf_model="spm")
    assert np.abs(clamped["face"] - X["face"]).max() > 0.1


def test_late_events_contribute_nothing():
    late = pd.concat([blocks(), pd.DataFrame({"onset": [200.0, 230.0], "duration": 1.0, "trial_type": "face"})])
    with pytest.warns(VoxloomWarning, match=r"end of the run \(200 s\) contribute nothing: 2, the first at 200 s"):
        X = design_matrix(TIMES, late, where="run-1")
    pd.testing.assert_frame_equal(X, design_matrix(TIMES, blocks()))


def test_events_outside_do_not_move_the_mean_modulation():
    events = blocks(modulation=[1, 1, 2, 1, 3, 1.0])
    late = pd.DataFrame({"onset": [300.0], "duration": 1.0, "trial_type": "face", "modulation": 99.0})
    with pytest.warns(VoxloomWarning, match="end of the run"):
        X = design_matrix(TIMES, pd.concat([events, late]))
    pd.testing.assert_frame_equal(X, design_matrix(TIMES, events))


def test_a_condition_that_never_happens_is_a_named_zero_column():
    with pytest.warns(VoxloomWarning) as caught:
        X = design_matrix(TIMES, blocks(onset=[10.0, 400.0, 70.0, 500.0, 130.0, 600.0]), where="run-1")
    assert not X["house"].any()
    assert any("run-1: Design matrix is singular: " in str(w.message) and "['house']" in str(w.message) for w in caught)


# -- singular designs and bad input


def test_singular_designs_name_the_later_columns():
    confounds = pd.DataFrame(np.random.default_rng(0).standard_normal((100, 3)), columns=list("xyz"))
    confounds["copy"] = confounds["x"] * 1e6
    confounds["sum"] = confounds["y"] - confounds["z"]
    confounds["ones"] = 1.0
    with pytest.warns(VoxloomWarning, match=r"is singular: its rank is \d+ of \d+; \['copy', 'sum', 'constant'\]"):
        X = design_matrix(TIMES, blocks(), add_regs=confounds)
    assert reduce_design(X.to_numpy()).rank == X.shape[1] - 3
    # nilearn's full_rank changes such a design; here columns stay as given
    np.testing.assert_array_equal(X["copy"], confounds["copy"])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_dependent_columns_agree_with_the_rank(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, k, extra = data.draw(st.integers(5, 40)), data.draw(st.integers(1, 6)), data.draw(st.integers(0, 4))
    base = rng.standard_normal((n, k))
    X = np.column_stack([base, base @ rng.standard_normal((k, extra))])[:, rng.permutation(k + extra)]
    names = [f"c{i}" for i in range(k + extra)]
    found = dependent_columns(X, names)
    assert len(found) == k + extra - reduce_design(X).rank
    kept = [i for i, name in enumerate(names) if name not in found]
    assert reduce_design(X[:, kept]).rank == len(kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"add_regs": np.zeros((90, 2))}, "run-1: add_regs have 90 rows, but the run has 100 volumes"),
        ({"add_regs": np.zeros((2, 100))}, "run-1: add_regs have 2 rows, but the run has 100 volumes"),
        (
            {"add_regs": pd.DataFrame({"fd": np.r_[np.nan, np.ones(99)], "x": np.arange(100)})},
            r"added regressors \['fd'\] hold n/a",
        ),
        ({"add_regs": pd.DataFrame({"x": ["a"] * 100})}, "add_regs are not numeric"),
        ({"add_regs": np.ones((100, 2)), "add_reg_names": ["x"]}, "1 names for 2 added regressors"),
        (
            {"add_regs": np.ones((100, 1)), "add_reg_names": ["constant"]},
            r"columns \['constant'\] occur more",
        ),
        (
            {"add_regs": np.ones((100, 1)), "add_reg_names": ["face"]},
            r"columns \['face'\] occur more than once",
        ),
        ({"drift_model": "spline"}, "drift_model: 'spline' is not known"),
        ({"hrf_model": "boynton"}, "hrf_model: 'boynton' is not known"),
        ({"modulation": "none"}, "modulation='none' is not known"),
        ({"high_pass": 0.3}, "high_pass: 0.3 Hz"),
        ({"hrf_model": "fir", "fir_delays": [1, 1]}, "face_delay_1.* occur more than once"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(DesignError, match=message):
        design_matrix(TIMES, blocks(), where="run-1", **options)


def test_bad_events_and_times_are_refused():
    with pytest.raises(DesignError, match=r"run-1: onset is empty \(n/a\) in row 2"):
        design_matrix(TIMES, blocks(onset=[1, np.nan, 3, 4, 5, 6]), where="run-1")
    with pytest.raises(DesignError, match="frame_times"):
        design_matrix([0.0, 2.0, 2.0], blocks())


# -- SPM's own designs


@pytest.mark.parametrize(("key", "duration", "agreement"), [("arr_0", 0.0, 0.9995), ("arr_1", 10.0, 0.9998)])
def test_agrees_with_spm_designs(voxloom_data, key, duration, agreement):
    """Correlations as measured; the sampling of the response differs by a fraction of the grid's step."""
    with np.load(voxloom_data / "data/spm_reference_hrf_designs/spm_dmtx.npz") as reference:
        spm = reference[key]
    events = pd.DataFrame(
        {"onset": [30, 50, 70, 10, 30, 80, 30, 40, 60], "duration": duration, "trial_type": list("aaabbbccc")}
    )
    X = design_matrix(np.arange(100.0), events, drift_model=None).to_numpy()
    assert min(np.corrcoef(X[:, k], spm[:, k])[0, 1] for k in range(3)) > agreement
    if duration:
        assert np.sum((X - spm) ** 2) < 1e-4 * np.sum(spm**2)


def test_agrees_with_an_spm_two_session_localizer(voxloom_data):
    path = voxloom_data / "data/spm_reference_hrf_designs/pyhrf_SPM_v12.mat.gz"
    spm = loadmat(io.BytesIO(gzip.decompress(path.read_bytes())), squeeze_me=True, struct_as_record=False)["SPM"]
    row = 0
    for i, (session, n) in enumerate(zip(spm.Sess, spm.nscan)):
        # SPM samples bin T0 = 8 of 16, counted from one
        ours = design_matrix(frame_times(n, 2.4, 7.5 / 16), spm_events(session.U), drift_model=None)
        for j, condition in enumerate(session.U):
            theirs = spm.xX.X[row : row + n, 2 * i + j]
            assert np.corrcoef(ours[condition.name], theirs)[0, 1] > 0.999
        row += n


def test_agrees_with_spm_face_repetition(voxloom_data):
    path = voxloom_data / "data/spm_reference_hrf_designs/bidspm_SPM_facerep.mat"
    spm = loadmat(path, squeeze_me=True, struct_as_record=False)["SPM"]
    ours = design_matrix(
        frame_times(351, 2.0, 0.5),
        spm_events(spm.Sess.U),
        hrf_model="spm + derivative + dispersion",
        drift_model=None,
    )
    for j, condition in enumerate(spm.Sess.U):
        theirs = spm.xX.X[:, 3 * j : 3 * j + 3]
        mine = ours[[condition.name + s for s in ("", "_derivative", "_dispersion")]].to_numpy()
        assert np.corrcoef(mine[:, 0], theirs[:, 0])[0, 1] > 0.9999
        # steps and orthogonalisation of the derivatives differ; the spaces they span hardly do
        Q, R = (np.linalg.qr(M - M.mean(axis=0))[0] for M in (mine, theirs))
        assert np.linalg.svd(Q.T @ R, compute_uv=False).min() > 0.98


def spm_events(conditions):
    return pd.concat(pd.DataFrame({"onset": u.ons, "duration": u.dur, "trial_type": u.name}) for u in conditions)
