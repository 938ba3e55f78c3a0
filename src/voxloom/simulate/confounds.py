"""Head motion and the confound table that fMRIPrep would write for a simulated run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from voxloom.kernels.design.drift import cosine_drift
from voxloom.simulate.phantom import CENTRE, CSF, WHITE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.simulate.phantom import Phantom

    FloatArray = NDArray[np.float64]

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
#: Share of a displacement that realignment and interpolation leave in the signal.
RESIDUAL = 0.15
#: Radius on which rotations count as displacement (Power et al. 2012), mm.
HEAD_RADIUS = 50.0
#: Period of fMRIPrep's slowest cosine that is not removed, s.
HIGH_PASS_PERIOD = 128.0


def head_motion(T: int, rng: np.random.Generator) -> FloatArray:
    """Draw realignment parameters: a slow random walk and, in half of the runs, one jump.

    Parameters
    ----------
    T : int
        Scans.
    rng : Generator

    Returns
    -------
    (T, 6) array
        Translations in mm, rotations in rad, order of `MOTION`.
    """
    scale = np.repeat([0.015, 0.0003], 3)
    walk = np.cumsum(rng.standard_normal((T, 6)) * scale, axis=0)
    jump = np.arange(T)[:, None] >= rng.integers(T)
    return np.asarray(walk + 15 * scale * rng.standard_normal(6) * jump * rng.integers(2))


def motion_maps(phantom: Phantom) -> FloatArray:
    """Signal that one mm or rad of each parameter adds: image gradient times displacement, (6, I, J, K)."""
    size = phantom.affine[0, 0]
    gradient = np.stack([np.gradient(phantom.mean, size, axis=axis) for axis in range(3)])
    arm = phantom.millimetres - np.reshape(CENTRE, (3, 1, 1, 1))
    turns = np.stack([np.cross(axis, arm, axisb=0, axisc=0) for axis in np.eye(3)])
    return -RESIDUAL * np.concatenate([gradient, np.einsum("aijk,baijk->bijk", gradient, turns)])


def confound_table(
    Y: FloatArray, tissue: NDArray[np.int8], motion: FloatArray, frame_times: FloatArray
) -> pd.DataFrame:
    """Confounds in fMRIPrep's columns and conventions (first derivatives start with NaN).

    Parameters
    ----------
    Y : (T, V) array
        Signal of the voxels inside the brain.
    tissue : (V,) int array
    motion : (T, 6) array
    frame_times : (T,) array
        Seconds.
    """
    tissues = {
        "csf": Y[:, tissue == CSF].mean(axis=1),
        "white_matter": Y[:, tissue == WHITE].mean(axis=1),
        "global_signal": Y.mean(axis=1),
    }
    dvars = np.sqrt((np.diff(Y, axis=0) ** 2).mean(axis=1))
    steps = np.abs(np.diff(motion, axis=0)) @ np.repeat([1.0, HEAD_RADIUS], 3)
    columns: dict[str, FloatArray] = {}
    for name, series in tissues.items():
        columns |= _expansion(name, series)
    columns["std_dvars"] = np.append(np.nan, dvars / np.median(dvars))
    columns["dvars"] = np.append(np.nan, dvars)
    columns["framewise_displacement"] = np.append(np.nan, steps)
    cosines = cosine_drift(1 / HIGH_PASS_PERIOD, frame_times)[:, :-1]  # the last one is the constant
    columns |= {f"cosine{k:02d}": column for k, column in enumerate(cosines.T)}
    for name, series in zip(MOTION, motion.T):
        columns |= _expansion(name, series)
    return pd.DataFrame(columns)


def _expansion(name: str, series: FloatArray) -> dict[str, FloatArray]:
    derivative = np.append(np.nan, np.diff(series))
    return {
        name: series,
        f"{name}_derivative1": derivative,
        f"{name}_derivative1_power2": derivative**2,
        f"{name}_power2": series**2,
    }
