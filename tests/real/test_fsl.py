"""FSL on real data: fixed effects, first-level t of FILM, t to z, high-pass; the agreement reached is asserted.

FILM estimates autocorrelation from windowed lags and smooths it over space; REML estimates one coefficient a voxel. The
estimates differ, so the t differ; given FILM's coefficient at lag 1, what is left is its lags beyond one.
"""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import voxloom
from voxloom.kernels.tails import t_to_z
from voxloom.models.design.matrix import design_matrix, frame_times


def over_voxels(**maps) -> xr.Dataset:
    return xr.Dataset({name: ("voxel", np.asarray(values, dtype=float)) for name, values in maps.items()})


def test_precision_weighted_fixed_effects_equal_fsl(voxloom_data):
    fsl = np.load(voxloom_data / "data/lyman_fsl_reference/ffx_data.npz")
    runs = [
        over_voxels(effect=effect, variance=variance, dof=np.full(100, 50.0))
        for effect, variance in zip(fsl["con"].T, fsl["var"].T, strict=True)
    ]
    found = voxloom.fixed_effects(runs, precision_weighted=True)
    for name, theirs in (("effect", "con_ffx"), ("variance", "var_ffx"), ("stat", "t_ffx")):
        np.testing.assert_allclose(found[name], fsl[theirs], rtol=2e-6)
    assert (found["dof"] == 200).all()
    # the check has power: the plain mean is another number
    assert np.abs(voxloom.fixed_effects(runs)["stat"] / fsl["t_ffx"] - 1).max() > 0.1


@pytest.mark.parametrize("number", [1, 22, 43])
def test_fixed_effects_of_whole_brain_feat_runs_are_flameos_formula(voxloom_data, number):
    """flameo fe: b = sum(c / v) / sum(1 / v), var = 1 / sum(1 / v), over the runs that have the voxel."""
    folder = voxloom_data / "data/skbold_feat_2runs"
    stats = [folder / f"run{run}.feat/stats" for run in (1, 2)]
    effects, variances = (
        [nibabel.load(path / f"{kind}{number}.nii.gz") for path in stats] for kind in ("cope", "varcope")
    )
    mask = nibabel.Nifti1Image((effects[0].get_fdata() != 0).astype(np.uint8), effects[0].affine)
    maps = [voxloom.from_nifti([str(i.get_filename()) for i in images], mask=mask) for images in (effects, variances)]
    effect, variance = (found["effect"].drop_vars("map") for found in maps)
    runs = [xr.Dataset({"effect": effect[r], "variance": variance[r]}) for r in range(2)]
    runs = [run.assign(dof=xr.full_like(run["effect"], 100.0)) for run in runs]
    found = voxloom.fixed_effects([run.chunk(voxel=10_000) for run in runs], precision_weighted=True).compute()
    inside = mask.get_fdata() > 0
    c, v = (np.stack([i.get_fdata()[inside] for i in images]) for images in (effects, variances))
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(v > 0, 1 / v, 0)
    assert inside.sum() > 50_000
    known = weight.sum(axis=0) > 0
    mean = (weight * c).sum(axis=0)[known] / weight.sum(axis=0)[known]
    np.testing.assert_allclose(found["effect"][known], mean, rtol=2e-6, atol=1e-9)
    np.testing.assert_allclose(found["variance"][known], 1 / weight.sum(axis=0)[known], rtol=2e-6)
    np.testing.assert_array_equal(found["n"], (v > 0).sum(axis=0))


def film(voxloom_data) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Signal (V, T), design (T, K), contrasts, t of FILM (contrast, V) and its autocorrelation at lag 1."""
    fsl = np.load(voxloom_data / "data/lyman_fsl_reference/film_data.npz")
    Y = fsl["ts_data"].reshape(-1, 198).astype(float)
    return Y, fsl["X"], fsl["C"], fsl["T"].T, fsl["acf"][1]


def feat(voxloom_data) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    folder = voxloom_data / "data/fslpy_feat_realdata/1stlevel_realdata.feat"

    def image(name: str) -> np.ndarray:
        return nibabel.load(folder / name).get_fdata()[mask]

    mask = nibabel.load(folder / "mask.nii.gz").get_fdata() > 0
    X = np.loadtxt((folder / "design.mat").read_text().partition("/Matrix")[2].splitlines())
    t = np.stack([image(f"stats/tstat{i}.nii.gz") for i in (1, 2)])
    return image("filtered_func_data.nii.gz"), X, np.eye(4)[[0, 2]], t, image("stats/threshac1.nii.gz")[:, 1]


def agreement(data, noise_model: str, rho: np.ndarray | None = None) -> list[tuple[float, float]]:
    """Correlation with FILM's t and slope on it, of every contrast."""
    Y, X, C, t, _ = data
    design = pd.DataFrame(X, columns=[f"ev{i}" for i in range(X.shape[1])]).assign(constant=1.0)
    noise = None if rho is None else over_voxels(rho=np.round(rho, 2))
    bold = xr.DataArray(Y, dims=("voxel", "time"))
    fit = voxloom.fit_first_level(bold, design, noise_model=noise_model, noise=noise)
    found = [voxloom.contrast(fit, [*row, 0])["stat"].values for row in C]
    return [(np.corrcoef(a, b)[0, 1], np.polyfit(b, a, 1)[0]) for a, b in zip(found, t, strict=True)]


@pytest.mark.parametrize(
    ("noise_model", "least_r", "slopes"),
    [("ols", 0.98, (1.0, 1.1)), ("ar1", 0.99, (0.85, 0.95)), ("ar1-yule-walker", 0.993, (0.95, 1.0))],
)
def test_t_of_an_event_related_run_against_film(voxloom_data, noise_model, least_r, slopes):
    for r, slope in agreement(film(voxloom_data), noise_model):
        assert r > least_r
        assert slopes[0] < slope < slopes[1]


@pytest.mark.parametrize(
    ("noise_model", "least_r", "slopes"),
    # 45 scans of strong blocks: what the response function misses counts as autocorrelation, FILM's smoothing apart
    [("ols", 0.995, (1.2, 1.25)), ("ar1", 0.8, (0.4, 0.5)), ("ar1-yule-walker", 0.97, (0.8, 0.9))],
)
def test_t_of_a_short_block_run_against_film(voxloom_data, noise_model, least_r, slopes):
    for r, slope in agreement(feat(voxloom_data), noise_model):
        assert r > least_r
        assert slopes[0] < slope < slopes[1]


def test_given_films_autocorrelation_t_are_films(voxloom_data):
    data = feat(voxloom_data)
    for r, slope in agreement(data, "ar1", rho=data[4]):
        assert r > 0.999
        assert abs(slope - 1) < 0.005
    data = film(voxloom_data)
    for r, slope in agreement(data, "ar1", rho=data[4]):
        assert r > 0.993
        assert abs(slope - 1) < 0.04


@pytest.mark.parametrize("number", [1, 2])
def test_z_of_t_equals_feats(voxloom_data, number):
    stats = voxloom_data / "data/fslpy_feat_realdata/1stlevel_realdata.feat/stats"
    t, z = (nibabel.load(stats / f"{kind}stat{number}.nii.gz").get_fdata() for kind in "tz")
    np.testing.assert_allclose(t_to_z(t, float((stats / "dof").read_text())), z, atol=1e-6)


@pytest.mark.parametrize(("period", "least_r"), [(60, 0.95), (120, 0.985)])
def test_cosines_against_fsls_high_pass(voxloom_data, period, least_r):
    """FSL's filter (cut-off 60 s) takes out a Gaussian-weighted running line: nearer to cosines above twice that."""
    fsl = np.load(voxloom_data / "data/lyman_fsl_reference/hpf_data.npz")
    before, after = (fsl[name].reshape(-1, 198).astype(float) for name in ("orig", "filt"))
    drift = design_matrix(frame_times(198, float(fsl["tr"])), high_pass=1 / period).to_numpy()
    ours = before - before @ np.linalg.pinv(drift).T @ drift.T
    moving = after.std(axis=1) > 0
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours[moving], after[moving], strict=True)]
    assert np.median(r) > least_r
