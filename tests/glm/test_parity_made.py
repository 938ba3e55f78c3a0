"""nilearn and voxloom.glm over designs and data that hypothesis makes: the same maps where the rules are the same."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nilearn import glm as theirs
from nilearn.glm.first_level import FirstLevelModel as NilearnFirst
from nilearn.glm.second_level import SecondLevelModel as NilearnSecond

from voxloom import glm as ours
from voxloom.glm.first_level import FirstLevelModel
from voxloom.glm.second_level import SecondLevelModel

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE, N, T_R = (3, 2, 4), 48, 1.5
AFFINE = np.diag([3.0, 3, 3, 1])
#: Largest difference over the range of nilearn's map.
SAME = 1e-6
SEEDS = st.integers(0, 2**16)
few = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def quietly(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args, **kwargs)


def require_same(mine: Any, other: Any, what: Any) -> None:
    a, b = mine.get_fdata(), other.get_fdata().reshape(mine.shape)
    assert np.abs(a - b).max() <= SAME * max(1.0, np.ptp(b)), what


@st.composite
def masks(draw) -> nibabel.Nifti1Image:
    inside = np.random.default_rng(draw(SEEDS)).random(SHAPE) < 0.8
    inside[0, 0, 0] = True
    return nibabel.Nifti1Image(inside.astype(np.uint8), AFFINE)


@st.composite
def runs(draw) -> tuple[nibabel.Nifti1Image, pd.DataFrame, pd.DataFrame | None]:
    """A run of correlated noise over a mean, its events (blocks, impulses), and maybe confounds."""
    rng = np.random.default_rng(draw(SEEDS))
    noise = rng.standard_normal((*SHAPE, N))
    rho = draw(st.floats(0, 0.6))
    for t in range(1, N):
        noise[..., t] += rho * noise[..., t - 1]
    img = nibabel.Nifti1Image(rng.uniform(300, 900, (*SHAPE, 1)) + 9 * noise, AFFINE)  # float64: no rounding between
    img.header.set_zooms((3, 3, 3, T_R))
    n_events = draw(st.integers(4, 12))
    events = pd.DataFrame(
        {
            "onset": np.sort(rng.uniform(0, 0.9 * N * T_R, n_events)),
            "duration": draw(st.sampled_from([0.0, 1.5, 9.0])),
            "trial_type": np.resize(["face", "house"], n_events),
        }
    )
    confounds = pd.DataFrame(rng.standard_normal((N, 2)), columns=["x", "fd"]) if draw(st.booleans()) else None
    return img, events, confounds


FIRST = st.fixed_dictionaries(
    {
        "hrf_model": st.sampled_from(["glover", "spm", "glover + derivative", "spm + derivative + dispersion", None]),
        "drift_model": st.sampled_from(["cosine", "polynomial", None]),
        "high_pass": st.sampled_from([0.005, 0.01, 0.03]),
        "drift_order": st.integers(0, 3),
        "slice_time_ref": st.sampled_from([0.0, 0.5, 1.0]),
        "noise_model": st.sampled_from(["ols", "ar1"]),
        "signal_scaling": st.sampled_from([False, 0, (0, 1)]),
        "smoothing_fwhm": st.sampled_from([None, 5.0]),
    }
)


@few
@given(run=runs(), mask=masks(), options=FIRST, contrast=st.sampled_from(["face", "face - house", "0.5*face + house"]))
def test_first_level_maps_are_nilearns(run, mask, options, contrast):
    img, events, confounds = run
    found, expected = (
        quietly(model(t_r=T_R, mask_img=mask, **options).fit, img, events, confounds)
        for model in (FirstLevelModel, NilearnFirst)
    )
    X = found.design_matrices_[0]
    np.testing.assert_allclose(X, expected.design_matrices_[0], atol=1e-10)
    assume(np.linalg.matrix_rank(X) == X.shape[1])  # what a singular design cannot tell is refused here
    for output in ("z_score", "stat", "p_value", "effect_size", "effect_variance"):
        maps = (quietly(model.compute_contrast, contrast, output_type=output) for model in (found, expected))
        require_same(*maps, (options, output))
    rows = np.eye(found.design_matrices_[0].shape[1])[:2]
    F = (quietly(model.compute_contrast, rows, stat_type="F", output_type="z_score") for model in (found, expected))
    require_same(*F, (options, "F"))


@few
@given(made=st.lists(runs(), min_size=2, max_size=3), mask=masks(), noise_model=st.sampled_from(["ols", "ar1"]))
def test_maps_over_runs_are_nilearns(made, mask, noise_model):
    images, events, _ = zip(*made)
    found, expected = (
        quietly(model(t_r=T_R, mask_img=mask, noise_model=noise_model).fit, list(images), list(events))
        for model in (FirstLevelModel, NilearnFirst)
    )
    for contrast in ("face - house", ["face"] * len(made)):
        for output in ("z_score", "effect_variance"):
            maps = (quietly(model.compute_contrast, contrast, output_type=output) for model in (found, expected))
            require_same(*maps, output)


@st.composite
def group_designs(draw) -> tuple[pd.DataFrame, Any]:
    """A design over maps, and a contrast of it."""
    n, rng = draw(st.integers(8, 16)) // 2 * 2, np.random.default_rng(draw(SEEDS))
    kind = draw(st.sampled_from(["mean", "groups", "covariates", "paired", "F"]))
    if kind == "mean":
        return pd.DataFrame({"intercept": np.ones(n)}), "intercept"
    if kind == "groups":
        patients = np.arange(n) < draw(st.integers(2, n - 2))
        return pd.DataFrame({"patients": patients * 1.0, "controls": ~patients * 1.0}), "patients - controls"
    if kind == "paired":
        pairs = pd.DataFrame(np.kron(np.eye(n // 2), np.ones((2, 1)))).add_prefix("s")
        return pairs.assign(after=np.tile([1.0, -1.0], n // 2)), "after"
    table = pd.DataFrame({"age": rng.standard_normal(n), "iq": rng.standard_normal(n), "intercept": 1.0})
    return table, np.eye(3)[:2] if kind == "F" else "age - 0.5*iq"


@few
@given(made=group_designs(), mask=masks(), seed=SEEDS, smoothing_fwhm=st.sampled_from([None, 4.0]))
def test_second_level_maps_are_nilearns(made, mask, seed, smoothing_fwhm):
    design, contrast = made
    rng = np.random.default_rng(seed)
    maps = [nibabel.Nifti1Image(rng.standard_normal(SHAPE) + 0.4, AFFINE) for _ in range(len(design))]
    options = {"mask_img": mask, "smoothing_fwhm": smoothing_fwhm}
    found, expected = (model(**options).fit(maps, design_matrix=design) for model in (SecondLevelModel, NilearnSecond))
    kind = None if isinstance(contrast, str) else "F"
    for output in ("z_score", "stat", "p_value") + (() if kind else ("effect_size", "effect_variance")):
        asked = {"second_level_stat_type": kind, "output_type": output}
        require_same(*(quietly(model.compute_contrast, contrast, **asked) for model in (found, expected)), output)


@few
@given(
    seed=SEEDS,
    mask=masks(),
    control=st.sampled_from(["fpr", "fdr", "bonferroni", None]),
    alpha=st.floats(0.001, 0.3),
    cluster_threshold=st.integers(0, 5),
    two_sided=st.booleans(),
)
def test_thresholded_maps_are_nilearns(seed, mask, control, alpha, cluster_threshold, two_sided):
    z = nibabel.Nifti1Image(2 * np.random.default_rng(seed).standard_normal(SHAPE), AFFINE)
    options = {"alpha": alpha, "cluster_threshold": cluster_threshold, "two_sided": two_sided}
    options |= {"threshold": 1.5 if control is None else None, "height_control": control}
    found, cut = ours.threshold_stats_img(z, mask, **options)
    expected, their_cut = quietly(theirs.threshold_stats_img, z, mask, **options)
    assert cut == pytest.approx(their_cut, abs=1e-9)
    np.testing.assert_allclose(found.get_fdata(), expected.get_fdata(), rtol=1e-6)


@few
@given(
    seed=SEEDS, mask=masks(), thresholds=st.lists(st.floats(0.5, 3), min_size=1, max_size=3), alpha=st.floats(0.01, 0.3)
)
def test_true_discoveries_are_nilearns(seed, mask, thresholds, alpha):
    z = nibabel.Nifti1Image(2 * np.random.default_rng(seed).standard_normal(SHAPE), AFFINE)
    found = ours.cluster_level_inference(z, mask, threshold=thresholds, alpha=alpha)
    expected = quietly(theirs.cluster_level_inference, z, mask, threshold=thresholds, alpha=alpha)
    np.testing.assert_allclose(found.get_fdata(), expected.get_fdata(), atol=1e-6)


@few
@given(
    seed=SEEDS,
    mask=masks(),
    n=st.integers(2, 5),
    precision_weighted=st.booleans(),
    dofs=st.none() | st.floats(5, 200),
)
def test_fixed_effects_of_images_are_nilearns(seed, mask, n, precision_weighted, dofs):
    rng = np.random.default_rng(seed)
    effects = [nibabel.Nifti1Image(rng.standard_normal(SHAPE), AFFINE) for _ in range(n)]
    variances = [nibabel.Nifti1Image(rng.uniform(0.1, 2, SHAPE), AFFINE) for _ in range(n)]
    args = effects, variances, mask, precision_weighted, None if dofs is None else [dofs] * n
    pairs = zip(ours.compute_fixed_effects(*args), quietly(theirs.compute_fixed_effects, *args), strict=True)
    for mine, other in pairs:
        require_same(mine, other, precision_weighted)
