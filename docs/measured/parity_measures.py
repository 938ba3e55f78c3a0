"""The same small data through nilearn and voxloom: how far apart their maps are, setting by setting."""

from __future__ import annotations

from functools import cache
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from nilearn.glm import compute_fixed_effects
from nilearn.glm.first_level import FirstLevelModel
from nilearn.image import smooth_img

import voxloom
from voxloom.kernels.volumes.smooth import smooth_volume
from voxloom.models.contrasts import combine_f, contrast_rows
from voxloom.models.design.matrix import frame_times

N, T_R, SHAPE = 90, 2.0, (6, 5, 4)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
USUAL: dict[str, Any] = {"hrf_model": "spm", "drift_model": "cosine", "high_pass": 0.01}
#: An F test of both conditions.
F_ROWS, F_NAMES = np.array([[1.0, 0], [0, 1]]), ["face", "house"]
#: Where voxloom has another name for the value of an option.
NOISE = {"ar1": "ar1-yule-walker"}


@cache
def events(run: int = 0) -> pd.DataFrame:
    """Blocks and impulses of two conditions, one of them modulated."""
    rng = np.random.default_rng(run)
    onset = np.arange(4.0, 150, 12.5)
    return pd.DataFrame(
        {
            "onset": onset + rng.uniform(0, 3, onset.size),
            "duration": rng.choice([0.0, 4.0], onset.size),
            "trial_type": np.resize(["face", "house", "house", "face"], onset.size),
        }
    )


@cache
def image(run: int = 0) -> nibabel.Nifti1Image:
    """A brain that responds here and there, with autocorrelated noise; float64, so that rounding is small."""
    rng = np.random.default_rng(100 + run)
    noise = rng.standard_normal((*SHAPE, N))
    for t in range(1, N):
        noise[..., t] += 0.4 * noise[..., t - 1]
    X = voxloom.design_matrix(frame_times(N, T_R), events(run))
    signal = rng.uniform(0, 3, SHAPE)[..., np.newaxis] * (X["face"].to_numpy() - 0.5 * X["house"].to_numpy())
    made = nibabel.Nifti1Image(rng.uniform(400, 900, (*SHAPE, 1)) + 8 * noise + 5 * signal, AFFINE)
    made.header.set_zooms((3, 3, 3, T_R))
    return made


MASK = nibabel.Nifti1Image(np.ones(SHAPE, dtype=np.uint8), AFFINE)


def theirs(
    contrast: Any = "face - house",
    output: str = "stat",
    *,
    run: int = 0,
    fit: dict[str, Any] | None = None,
    stat_type: str | None = None,
    **options: Any,
) -> np.ndarray:
    """A map of nilearn's, flat."""
    settings = (
        {"t_r": T_R, "mask_img": MASK, "signal_scaling": False, "noise_model": "ols", "reports": False}
        | USUAL
        | options
    )
    model = FirstLevelModel(**settings).fit(image(run), **({"events": events(run)} | (fit or {})))
    return model.compute_contrast(contrast, stat_type, output).get_fdata().ravel()


def design(
    run: int = 0, *, slice_time_ref: float = 0.0, table: pd.DataFrame | None = None, **options: Any
) -> pd.DataFrame:
    """The design of voxloom."""
    times = frame_times(N, T_R, slice_time_ref)
    return voxloom.design_matrix(times, events(run) if table is None else table, **(USUAL | options))


def ours(
    contrast: Any = "face - house",
    output: str = "stat",
    *,
    run: int = 0,
    matrix: pd.DataFrame | None = None,
    noise_model: str = "ols",
    signal_scaling: Any = None,
    sample_mask: Any = None,
    stat_type: str | None = None,
    **options: Any,
) -> np.ndarray:
    """The same map of voxloom's."""
    fit = voxloom.fit_first_level(
        voxloom.from_nifti(image(run), MASK),
        design(run, **options) if matrix is None else matrix,
        noise_model=noise_model,
        signal_scaling=signal_scaling,
        sample_mask=sample_mask,
    )
    return voxloom.contrast(fit, contrast, stat_type=stat_type)[output].to_numpy()


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def both(contrast: Any = "face - house", **options: Any) -> float:
    """Both packages with the same options."""
    here = options | {"noise_model": NOISE.get(options.get("noise_model", "ols"), options.get("noise_model", "ols"))}
    return apart(ours(contrast, **here), theirs(contrast, **options))


def bump(t: np.ndarray) -> np.ndarray:
    """A response as a function of seconds."""
    return np.exp(-((t - 5) ** 2) / 8)


def sampled_bump(t_r: float, oversampling: int) -> np.ndarray:
    """The same as nilearn wants it."""
    step = t_r / oversampling
    return bump(np.arange(round(32 / step)) * step) * step


def early() -> float:
    """An event before `min_onset`."""
    table = pd.concat([events(), pd.DataFrame({"onset": [-30.0], "duration": [20.0], "trial_type": ["face"]})])
    return apart(ours(table=table), theirs(fit={"events": table}))


def modulated(rule: str) -> float:
    """Events with a `modulation` column."""
    table = events().assign(modulation=np.linspace(0.5, 3, len(events())))
    return apart(ours(table=table, modulation=rule), theirs(fit={"events": table}))


def confounded() -> float:
    """Three random walks beside the events."""
    added = pd.DataFrame(np.random.default_rng(3).standard_normal((N, 3)).cumsum(0), columns=["x", "y", "z"])
    return apart(ours(add_regs=added), theirs(fit={"confounds": added}))


def scrubbed(noise_model: str) -> float:
    """Six volumes left out."""
    kept = np.setdiff1d(np.arange(N), [10, 11, 40, 41, 42, 70])
    here = ours(sample_mask=kept, noise_model=NOISE.get(noise_model, noise_model))
    return apart(here, theirs(noise_model=noise_model, fit={"sample_masks": kept}))


def given_design() -> float:
    """A design instead of events."""
    X = design()
    return apart(ours(matrix=X), theirs(fit={"events": None, "design_matrices": X}))


def singular() -> float:
    """A design with a column twice."""
    X = design().assign(again=lambda X: X["drift_1"])
    return apart(ours(matrix=X), theirs(fit={"events": None, "design_matrices": X}))


def smoothed() -> float:
    """The images themselves, smoothed by 6 mm."""
    data = image().get_fdata()
    here = np.stack([smooth_volume(volume, 6.0, (3, 3, 3)) for volume in np.moveaxis(data, -1, 0)], axis=-1)
    return apart(here, smooth_img(image(), 6.0).get_fdata())


def output(name: str, here: str) -> float:
    """A map by nilearn's name and by voxloom's."""
    contrast = "face - house"
    return apart(ours(contrast, here), theirs(contrast, name))


def over_runs(contrast: Any, precision_weighted: bool | None) -> float:
    """Two runs: nilearn's own way for several runs, or its compute_fixed_effects."""
    fits = [voxloom.fit_first_level(voxloom.from_nifti(image(r), MASK), design(r), noise_model="ols") for r in (0, 1)]
    if precision_weighted is None:
        model = FirstLevelModel(t_r=T_R, mask_img=MASK, signal_scaling=False, noise_model="ols", reports=False, **USUAL)
        model.fit([image(0), image(1)], [events(0), events(1)])
        there = model.compute_contrast(contrast, output_type="stat").get_fdata().ravel()
        if not isinstance(contrast, str):
            return apart(combine_f([contrast_rows(fit, ["face", "house"]) for fit in fits])["stat"].to_numpy(), there)
    else:
        there = published(precision_weighted)
    runs = [voxloom.contrast(fit, contrast) for fit in fits]
    return apart(voxloom.fixed_effects(runs, precision_weighted=bool(precision_weighted))["stat"].to_numpy(), there)


def published(precision_weighted: bool) -> np.ndarray:
    """T of nilearn's `compute_fixed_effects` over two runs."""
    maps = [
        [nibabel.Nifti1Image(theirs(output=kind, run=r).reshape(SHAPE), AFFINE) for r in (0, 1)]
        for kind in ("effect_size", "effect_variance")
    ]
    _, _, stat, _ = compute_fixed_effects(*maps, MASK, precision_weighted=precision_weighted)
    return stat.get_fdata().ravel()


def wide_f() -> np.ndarray:
    """Weights for every column, as nilearn wants them."""
    return np.pad(F_ROWS, ((0, 0), (0, design().shape[1] - 2)))
