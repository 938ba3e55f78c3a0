"""Volumes that are left out of a model: their rows leave the design, its regressors stay as they were built."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from voxloom.errors import DesignError, InputError, VoxloomWarning
from voxloom.kernels.design.gram_schmidt import dependent
from voxloom.kernels.linalg import reduce_design
from voxloom.kernels.noise.segments import FAR

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray


def kept_rows(sample_mask: ArrayLike, n_volumes: int) -> NDArray[np.int64]:
    """Increasing indices of the volumes that a sample mask, indices or a bool per volume, keeps.

    Raises
    ------
    InputError
        Not one of these, or no volume is kept.
    """
    mask = np.asarray(sample_mask)
    remedy = f"Indices below {n_volumes}, increasing, or one bool per volume are wanted."
    if mask.size == 0 or (mask.dtype.kind == "b" and not mask.any()):
        raise InputError("sample_mask", "keeps no volume.", remedy)
    if mask.ndim != 1 or mask.dtype.kind not in "biu":
        raise InputError("sample_mask", f"has {mask.ndim} dimensions and dtype {mask.dtype}.", remedy)
    if mask.dtype.kind == "b":
        if mask.size != n_volumes:
            raise InputError("sample_mask", f"has {mask.size} values for {n_volumes} volumes.", remedy)
        mask = np.flatnonzero(mask)
    if mask[0] < 0 or mask[-1] >= n_volumes or np.any(np.diff(mask.astype(np.int64)) <= 0):
        raise InputError("sample_mask", f"keeps the volumes {mask.tolist()[:8]}...", remedy)
    return mask.astype(np.int64)


def run_scans(kept: NDArray[np.int64], run_starts: Sequence[int], n_volumes: int) -> NDArray[np.int64]:
    """Numbers of the kept volumes such that those of one run lie far from those of another (`kernels.noise.segments`).

    Raises
    ------
    InputError
        The starts of runs are not increasing volumes from 0.
    """
    first = np.asarray(run_starts, dtype=np.int64)
    if first.size == 0 or first[0] != 0 or np.any(np.diff(first) <= 0) or first[-1] >= n_volumes:
        raise InputError("run_starts", f"are {first.tolist()} of {n_volumes} volumes.", "Increasing, from 0.")
    return kept + FAR * (np.searchsorted(first, kept, side="right") - 1)


def keep_volumes(design: pd.DataFrame, sample_mask: ArrayLike, where: str = "design") -> pd.DataFrame:
    """Rows of the design at the volumes that are kept.

    Parameters
    ----------
    design : DataFrame
        A row for every volume of the run.
    sample_mask : array_like
        Volumes to keep, as indices or bool per volume.
    where : str
        How messages name the design.

    Returns
    -------
    DataFrame
        Its index has the frame times of the kept volumes.

    Raises
    ------
    DesignError
        The volumes left are too few for the columns.
    InputError
        As `kept_rows` does.

    Warns
    -----
    VoxloomWarning
        Names columns that only the volumes left out told apart from others, or from zero.
    """
    kept = design.iloc[kept_rows(sample_mask, len(design))]
    rank = reduce_design(kept.to_numpy(dtype=float)).rank
    if not 0 < rank < len(kept):
        raise DesignError(
            where,
            f"{len(kept)} of {len(design)} volumes are kept, too few for a design of {design.shape[1]} columns "
            f"and rank {rank}.",
            "Scrub less, use fewer confounds, or leave the run out with data.filters.",
        )
    lost = sorted(set(dependent(kept)) - set(dependent(design)))
    if lost:
        warnings.warn(
            f"{where}: without the volumes that are left out, {[str(design.columns[k]) for k in lost]} are zero or "
            "linear combinations of columns before them. Contrasts that need them cannot be estimated.",
            VoxloomWarning,
            stacklevel=2,
        )
    return kept
