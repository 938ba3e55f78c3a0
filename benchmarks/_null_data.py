"""Null data of a first level: designs of experiments, noise of known correlation, and false positives without counting.

What a model says of the noise depends on the data only through what no regressor explains. That is independent of the
best linear unbiased estimate of a contrast, the one that knows the noise. So given the residuals a model's effect is
that estimate, normal of known spread, plus a known difference; and the chance that its t passes a threshold is known
exactly. Its mean over voxels has the expectation of the share that passes, at a fraction of the standard error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.linalg import cholesky, pinv, solve_triangular, toeplitz
from scipy.stats import norm, t

from voxloom.kernels.expression import contrast_matrix
from voxloom.models.design.matrix import design_matrix, frame_times

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    #: Covariance of scans (lag, TR in s).
    Covariance = Callable[[NDArray[np.int64], float], FloatArray]

CONTRASTS = ("a", "b", "a - b")
LEVELS = (0.001, 0.05)


class Scene(NamedTuple):
    """A run: repetition time in s, scans, confounds that wander at random, and the share of scans that is scrubbed."""

    t_r: float
    n_scans: int
    n_confounds: int
    scrubbed: float = 0.0


SCENES = {"TR 3, 6 confounds": Scene(3, 130, 6), "TR 2, 24": Scene(2, 200, 24), "TR 0.7, 60": Scene(0.7, 450, 60)}


def block_events(seconds: float, rng: np.random.Generator) -> pd.DataFrame:
    """Conditions in turn for 15 s with 15 s of rest between."""
    onset = np.arange(10, seconds - 20, 30.0)
    return pd.DataFrame({"onset": onset, "duration": 15.0, "trial_type": np.resize(["a", "b"], onset.size)})


def single_events(seconds: float, rng: np.random.Generator) -> pd.DataFrame:
    """Short trials in random order, 3 to 9 s apart."""
    onset = 5 + np.cumsum(rng.uniform(3, 9, int(seconds / 3)))
    onset = onset[onset < seconds - 10]
    return pd.DataFrame({"onset": onset, "duration": 1.0, "trial_type": rng.choice(["a", "b"], onset.size)})


DESIGNS: dict[str, Callable[[float, np.random.Generator], pd.DataFrame]] = {
    "block": block_events,
    "events": single_events,
}


def design_of(scene: Scene, kind: str, rng: np.random.Generator) -> pd.DataFrame:
    """Design matrix with cosines of 1/128 Hz and confounds."""
    walks = rng.standard_normal((scene.n_scans, scene.n_confounds)).cumsum(axis=0)
    return design_matrix(
        frame_times(scene.n_scans, scene.t_r),
        DESIGNS[kind](scene.n_scans * scene.t_r, rng),
        hrf_model="spm",
        high_pass=1 / 128,
        add_regs=pd.DataFrame(walks, columns=[f"walk{i}" for i in range(scene.n_confounds)]),
    )


def white(lag: NDArray[np.int64], t_r: float) -> FloatArray:
    """Independent scans."""
    return np.where(lag == 0, 1.0, 0.0)


def falling(lag: NDArray[np.int64], t_r: float, seconds: float) -> FloatArray:
    """AR(1) whose correlation falls to 1/e in so many seconds."""
    return np.asarray(np.exp(-t_r * lag / seconds))


def ar2(lag: NDArray[np.int64], t_r: float) -> FloatArray:
    """Phi of 0.5 and 0.2 at every TR: powers of the roots of z^2 = 0.5 z + 0.2, and 0.5 / (1 - 0.2) at lag 1."""
    one, two = np.roots([1.0, -0.5, -0.2])
    share = (0.625 - two) / (one - two)
    return np.asarray(share * one**lag + (1 - share) * two**lag)


NOISES: dict[str, Covariance] = {
    "white": white,
    "AR(1)": lambda lag, t_r: falling(lag, t_r, 3),  # rho is 0.37, 0.51, 0.79 at TR 3, 2, 0.7
    "AR(1) + white": lambda lag, t_r: falling(lag, t_r, 10) + white(lag, t_r),
    "AR(2)": ar2,
    "1/f": lambda lag, t_r: falling(lag, t_r, 3) + falling(lag, t_r, 40) + white(lag, t_r),
}


class Draw(NamedTuple):
    """Null data of one draw of events, confounds, noise and scrubbed scans.

    Attributes
    ----------
    Y : (T, n) array
    design : DataFrame
        Of all T scans.
    kept : (m,) array of int
        Those that are not scrubbed.
    best : (3, n) array
        Best linear unbiased estimates of `CONTRASTS` from them.
    sd : (3,) array
        Their standard deviation.
    """

    Y: FloatArray
    design: pd.DataFrame
    kept: NDArray[np.int64]
    best: FloatArray
    sd: FloatArray


def draw(scene: Scene, kind: str, noise: str, n_voxels: int, seed: int) -> Draw:
    """Draw a design and data of so many voxels."""
    rng = np.random.default_rng(seed)
    design, T = design_of(scene, kind, rng), scene.n_scans
    kept = np.sort(rng.permutation(T)[round(scene.scrubbed * T) :])
    V = toeplitz(NOISES[noise](np.arange(T), scene.t_r))
    Y = cholesky(V, lower=True) @ rng.standard_normal((T, n_voxels))
    C = np.concatenate([contrast_matrix(each, list(design.columns)) for each in CONTRASTS])
    unwhite = cholesky(V[np.ix_(kept, kept)], lower=True)
    weights = C @ pinv(solve_triangular(unwhite, design.to_numpy()[kept], lower=True))
    best = weights @ solve_triangular(unwhite, Y[kept], lower=True)
    return Draw(Y, design, kept, best, np.linalg.norm(weights, axis=1))


class Tested(NamedTuple):
    """What a model says of `CONTRASTS` in a draw: arrays (3, n)."""

    effect: FloatArray
    variance: FloatArray
    dof: FloatArray


def passing(found: Tested, of: Draw) -> FloatArray:
    """Chance (level, n) that p of a voxel, two-sided, is below each of `LEVELS`, given its residuals."""
    shift = (found.effect - of.best) / of.sd[:, None]
    spread = np.sqrt(found.variance) / of.sd[:, None]
    bars = [t.isf(level / 2, found.dof) * spread for level in LEVELS]
    return np.array([(norm.cdf(-bar - shift) + norm.cdf(shift - bar)).mean(axis=0) for bar in bars])
