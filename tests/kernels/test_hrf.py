"""HRF kernels and convolution against nilearn, SPM's numbers and brute force on the fine grid."""

from __future__ import annotations

from functools import partial
from operator import itemgetter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level import hemodynamic_models as nilearn_hrf
from scipy import stats
from scipy.io import loadmat

from voxloom.errors import DesignError
from voxloom.kernels.design.convolve import convolve_events, fine_grid
from voxloom.kernels.design.hrf import (
    GLOVER,
    HRF_MODELS,
    SPM,
    GammaShape,
    HrfBasis,
    compute_regressor,
    double_gamma,
    hrf_kernels,
)

NAMED = [model for model in HRF_MODELS if model not in ("fir", None)]


@pytest.mark.parametrize("model", NAMED)
@pytest.mark.parametrize(("t_r", "oversampling"), [(2.0, 50), (0.735, 16), (3.1, 7)])
def test_kernels_equal_nilearn(model, t_r, oversampling):
    ours = hrf_kernels(model, t_r, oversampling)
    theirs = nilearn_hrf._hrf_kernel(model, t_r, oversampling)
    assert len(ours.kernels) == len(theirs)
    for a, b in zip(ours.kernels, theirs):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    assert ["c" + suffix for suffix in ours.suffixes] == nilearn_hrf._regressor_names("c", model)


def test_model_names_ignore_case_and_blanks():
    a, b = hrf_kernels("SPM+Derivative", 2.0), hrf_kernels("spm + derivative", 2.0)
    np.testing.assert_array_equal(a.kernels, b.kernels)


def test_double_gamma_is_the_difference_of_scipy_densities():
    t = np.linspace(-5, 40, 400)
    for shape in (SPM, GLOVER, GammaShape(5, 7, 0.5, 1.5, 0.3)):
        peak = stats.gamma.pdf(t, shape.delay / shape.dispersion, scale=shape.dispersion)
        dip = stats.gamma.pdf(t, shape.undershoot / shape.u_dispersion, scale=shape.u_dispersion)
        np.testing.assert_allclose(double_gamma(t, shape), peak - shape.ratio * dip, atol=1e-14)


def test_double_gamma_equals_spm_hrf_for_54_parameter_sets(voxloom_data):
    reference = loadmat(voxloom_data / "data/spm_reference_hrf_designs/spm_hrfs.mat", squeeze_me=True)
    assert len(reference["hrfs"]) == 54
    for (dt, peak, dip, peak_dispersion, dip_dispersion, ratio), hrf in zip(reference["params"], reference["hrfs"]):
        shape = GammaShape(peak, dip, peak_dispersion, dip_dispersion, 1 / ratio)
        ours = double_gamma(np.arange(hrf.size) * dt, shape)
        np.testing.assert_allclose(ours / ours.sum(), hrf, atol=1e-12)


def test_derivatives_point_the_way_of_spms_basis_set(voxloom_data):
    """SPM steps the time derivative by 1 s, nilearn by 0.1 s; on SPM's step the two agree."""
    bases = loadmat(voxloom_data / "data/spm_reference_hrf_designs/spm_bases.mat", squeeze_me=True)
    dt = float(bases["dt"])
    t, spm = np.arange(bases["hrf"].size) * dt, SPM._replace(ratio=1 / 6)
    scale = double_gamma(t, spm).sum()
    np.testing.assert_allclose(double_gamma(t, spm) / scale, bases["hrf"], atol=1e-12)
    later = double_gamma(t - 1, spm)
    np.testing.assert_allclose(double_gamma(t, spm) / scale - later / later.sum(), bases["dhrf"], atol=1e-9)
    kernels = hrf_kernels("spm + derivative + dispersion", dt, 1).kernels
    for ours, theirs, agreement in zip(kernels, (bases[k] for k in ("hrf", "dhrf", "ddhrf")), AGREEMENT):
        assert np.corrcoef(ours, theirs[: ours.size])[0, 1] > agreement


#: Correlations with SPM's response and derivatives (measured: 0.999995, 0.961, 0.99997).
AGREEMENT = (0.9999, 0.96, 0.9999)


def seconds(t):
    return double_gamma(t, SPM)


def test_function_of_seconds_does_not_depend_on_oversampling():
    times = np.arange(60) * 2.0
    coarse, fine = (compute_regressor([10.0], [20.0], [1.0], seconds, times, oversampling=n)[0] for n in (50, 400))
    # rectangle rule: the error falls with the step, 2 s / 50
    np.testing.assert_allclose(coarse, fine, atol=0.01)
    exact = stats.gamma.cdf(30.0, 6) - SPM.ratio * stats.gamma.cdf(30.0, 16)
    long, suffixes = compute_regressor([0.0], [100.0], [1.0], seconds, times)
    np.testing.assert_allclose(long[15, 0], exact, atol=1e-2)
    assert suffixes == ["_seconds"]


def test_one_and_two_argument_functions_are_told_apart():
    two = partial(nilearn_hrf.spm_hrf, time_length=20.0)
    np.testing.assert_array_equal(
        hrf_kernels(nilearn_hrf.glover_hrf, 2.0, 10).kernels[0], nilearn_hrf.glover_hrf(2.0, 10)
    )
    np.testing.assert_array_equal(hrf_kernels(two, 2.0, 10).kernels[0], nilearn_hrf.spm_hrf(2.0, 10, time_length=20.0))
    # the last is compiled and has no signature to look at
    for one in (
        seconds,
        lambda t, peak=6.0: stats.gamma.pdf(t, peak),
        np.cos,
        partial(np.power, 0.5),
        itemgetter(...),
    ):
        dt = 0.2
        np.testing.assert_array_equal(hrf_kernels(one, 2.0, 10).kernels[0], dt * np.asarray(one(np.arange(160) * dt)))
    assert hrf_kernels([seconds, np.cos], 2.0, 10).suffixes == ["_seconds", "_cos"]
    for neither in (lambda: 1.0, lambda a, b, c: a, lambda t, *, peak: t):
        with pytest.raises(DesignError, match=r"<lambda> cannot be called.*t_r and oversampling"):
            hrf_kernels(neither, 2.0, 10)


def test_what_is_no_response_is_refused():
    with pytest.raises(DesignError, match=r"'gamma' is not known.*'glover \+ derivative'"):
        hrf_kernels("gamma", 2.0)
    for function, message in (
        (lambda t: np.where(t > 5, np.nan, 1.0), r"returned 674 of 800 values that are not finite"),
        (lambda t: 1.0, r"an array of shape \(\), not \(800,\)\. .* array of the same length"),
        (lambda t: t[:-1], r"an array of shape \(799,\), not \(800,\)"),
        (lambda t: np.ones((t.size, 2)), r"an array of shape \(800, 2\)"),
        (lambda t_r, oversampling: np.ones((4, 4)), r"an array of shape \(4, 4\), not one dimension"),
        (lambda t: ["a"] * t.size, "returned no numbers"),
        (lambda t: 1j * t, "returned complex numbers"),
        ([], r"\[\] is not a list of functions"),
        ([np.cos, "spm"], "is not a list of functions"),
    ):
        with pytest.raises(DesignError, match=message):
            hrf_kernels(function, 2.0)
    with pytest.raises(DesignError, match="too coarse"):
        hrf_kernels("spm", 40.0, 1)
    for delays in ([], [-1], [0.5]):
        with pytest.raises(DesignError, match="whole scans"):
            hrf_kernels("fir", 2.0, fir_delays=delays)


events = st.lists(
    st.tuples(
        st.one_of(st.floats(-24, 130), st.integers(-10, 130).map(float)),
        st.one_of(st.just(0.0), st.floats(0, 40)),
        st.one_of(st.just(0.0), st.floats(0.01, 3), st.floats(-3, -0.01)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(
    events=events,
    model=st.sampled_from([*NAMED, "fir", None]),
    t_r=st.sampled_from([0.72, 1.0, 2.0, 2.5]),
    n_scans=st.integers(8, 60),
    reference=st.sampled_from([0.0, 0.5, 1.0]),
    oversampling=st.sampled_from([1, 16, 50]),
    min_onset=st.sampled_from([-24.0, -10.0, 0.0]),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_regressors_equal_nilearn(events, model, t_r, n_scans, reference, oversampling, min_onset):
    times = np.linspace(reference * t_r, (n_scans - 1 + reference) * t_r, n_scans)
    # before min_onset the rules differ on purpose
    onsets, durations, amplitudes = np.array(
        [e for e in events if e[0] >= times[0] + min_onset] or [(times[0], 1, 1)]
    ).T
    options = {"oversampling": oversampling, "min_onset": min_onset, "fir_delays": [0, 2, 5]}
    ours, suffixes = compute_regressor(onsets, durations, amplitudes, model, times, **options)
    theirs, names = nilearn_hrf.compute_regressor((onsets, durations, amplitudes), model, times, con_id="c", **options)
    assert ["c" + suffix for suffix in suffixes] == names
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)


def brute_force(onsets, durations, amplitudes, basis, times, frames):
    """Place events one by one, convolve the whole grid, interpolate."""
    course = np.zeros(times.size)
    for onset, duration, amplitude in zip(onsets, durations, amplitudes):
        inside = np.flatnonzero(times >= onset)
        if onset < times[0] or not inside.size:
            continue
        after = np.flatnonzero(times >= onset + duration)
        stop = max(after[0] if after.size else times.size - 1, inside[0] + 1)
        course[inside[0] : stop] += amplitude
    return np.stack(
        [np.interp(frames, times, np.convolve(course, kernel)[: times.size]) for kernel in basis.kernels], 1
    )


def test_step_responses_equal_convolution_of_the_grid():
    rng = np.random.default_rng(0)
    frames = np.arange(200) * 1.1
    grid = fine_grid(frames, oversampling=20)
    basis = HrfBasis([rng.standard_normal(n) for n in (1, 40, 700)], ["", "a", "b"], orthogonal=False)
    onsets, durations, amplitudes = rng.uniform(-40, 215, 80), rng.exponential(5, 80), rng.standard_normal(80)
    durations[::3] = 0
    ours = convolve_events(onsets, durations, amplitudes, basis, grid)
    np.testing.assert_allclose(ours, brute_force(onsets, durations, amplitudes, basis, grid.times, frames), atol=1e-11)


def test_events_are_linear_and_early_ones_are_dropped():
    times = np.arange(50) * 2.0
    a, _ = compute_regressor([5.0], [2.0], [1.0], "spm", times)
    b, _ = compute_regressor([11.0], [0.0], [-2.0], "spm", times)
    both, _ = compute_regressor([-30.0, 5.0, 11.0, 500.0], [40.0, 2.0, 0.0, 1.0], [9.0, 1.0, -2.0, 9.0], "spm", times)
    np.testing.assert_allclose(both, a + b, atol=1e-14)


def test_gaps_between_frames_do_not_stretch_the_response():
    """Frames of a scrubbed run hold the values they have in the whole run."""
    times = np.arange(80) * 2.0
    kept = np.r_[0:20, 30:33, 40:80]
    onsets, durations, amplitudes = [10.0, 50.0, 90.0], [3.0, 0.0, 8.0], [1.0, 1.0, 1.0]
    whole, _ = compute_regressor(onsets, durations, amplitudes, "spm", times)
    scrubbed, _ = compute_regressor(onsets, durations, amplitudes, "spm", times[kept])
    np.testing.assert_allclose(scrubbed, whole[kept], atol=1e-10)


def test_derivatives_are_orthogonal_within_a_condition():
    times = np.arange(100) * 1.5
    X, _ = compute_regressor([3.0, 40.0], [0.0, 6.0], [1.0, 2.0], "glover + derivative + dispersion", times)
    unit = X / np.linalg.norm(X, axis=0)
    np.testing.assert_allclose(unit.T @ unit, np.eye(3), atol=1e-13)


@pytest.mark.parametrize("frames", [[0.0], [0.0, 0.0, 1.0], [0.0, np.nan, 2.0], [0.0, 1.0, np.inf], [[0.0, 1.0]]])
def test_frame_times_must_increase(frames):
    with pytest.raises(DesignError, match="frame_times"):
        fine_grid(frames)


def test_grid_options_are_checked():
    for options in ({"oversampling": 0}, {"oversampling": 2.5}, {"min_onset": 3.0}, {"min_onset": -np.inf}):
        with pytest.raises(DesignError, match=next(iter(options))):
            fine_grid([0.0, 1.0], **options)
