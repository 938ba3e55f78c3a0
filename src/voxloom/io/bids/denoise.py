"""Regressors and kept volumes of a run, from its confounds table and what an analysis says of confounds.

Equal to nilearn's `load_confounds` on the same tables; beyond it, temporal CompCor does without a sidecar, more
than the first row of a column may be missing, and columns may be added by name.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from voxloom.errors import VoxloomWarning
from voxloom.io.bids.confound_names import SCRUB, component_names
from voxloom.io.bids.confounds import fill_leading, numeric, read_components, read_confounds, select_confounds
from voxloom.kernels.noise.scrub import scrub
from voxloom.spec.confounds import ALWAYS, Confounds
from voxloom.spec.files import parse_confounds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from voxloom.io.bids.confound_names import Components

    BoolArray = NDArray[np.bool_]


class Denoising(NamedTuple):
    """What confounds make of a run.

    Attributes
    ----------
    confounds : DataFrame
        (T, k) float64, finite: a row for every volume, kept or not.
    sample_mask : (T,) bool array
        Volumes to keep.
    n_non_steady_state, n_scrubbed : int
        Volumes left out before the steady state; those left out by scrubbing, and not for that reason already.
    """

    confounds: pd.DataFrame
    sample_mask: BoolArray
    n_non_steady_state: int = 0
    n_scrubbed: int = 0


def load_confounds(
    path: str | Path, confounds: str | Sequence[str] | Mapping[str, Any] | Confounds = "simple"
) -> Denoising:
    """Read confounds of fMRIPrep by columns or by strategy, as nilearn's functions of this name do.

    Parameters
    ----------
    path : path-like
        Confounds table (``*_desc-confounds_timeseries.tsv``); its JSON sidecar is read where it is there.
    confounds : str, sequence of str, mapping or Confounds
        As `first_level.confounds` of an analysis file: the name of a preset, columns and globs, or a mapping
        with `strategy` and its parameters.

    Returns
    -------
    Denoising
        ``confounds`` for `design_matrix(add_regs=)`, ``sample_mask`` for `fit_first_level`, and counts.

    Raises
    ------
    InputError
        The table is not readable, or lacks columns; the message names what makes them.
    """
    wanted = confounds if isinstance(confounds, Confounds) else parse_confounds(confounds)
    return denoise(read_confounds(path), read_components(path), wanted, str(path))


def denoise(
    table: pd.DataFrame,
    components: Components | None,
    wanted: Confounds,
    where: str,
    *,
    sample_mask: BoolArray | None = None,
) -> Denoising:
    """Apply what an analysis says of confounds to the table of a run.

    Parameters
    ----------
    table : DataFrame
        As `read_confounds` gives it, (T, n).
    components : mapping or None
        As `read_components` gives it.
    wanted : Confounds
    where : str
        How messages name the table.
    sample_mask : (T,) bool array, optional
        Volumes that may be used at all; the others are left out too, and do not count in means.

    Returns
    -------
    Denoising
        Regressors of the strategy by name, then those of `columns` in their order. Of these, one that is zero
        at all volumes that are kept, as those that mark a single volume, is left out with its volume.

    Raises
    ------
    InputError
        Columns or the sidecar are absent, or values are missing.
    """
    usable = np.ones(len(table), bool) if sample_mask is None else sample_mask
    names: dict[str, list[str]] = {
        component: component_names(component, wanted, list(table.columns), components, where)
        for component in wanted.strategy
    }
    unsteady = numeric(table, names.pop(ALWAYS, ()), where).to_numpy().any(axis=1)
    scrubbed = _scrubbed(table, wanted, where) if names.pop("scrub", ()) else np.zeros(len(table), bool)
    keep = usable & ~unsteady & ~scrubbed
    strategic = _of_strategy(table, names, where)
    added = _of_columns(table, wanted.columns, keep, where)
    regressors = pd.concat([strategic, added[added.columns.difference(strategic.columns, sort=False)]], axis=1)
    if wanted.demean and wanted.strategy and keep.any():
        regressors = regressors - regressors[keep].mean()
    return Denoising(
        confounds=regressors,
        sample_mask=keep,
        n_non_steady_state=int(unsteady.sum()),
        n_scrubbed=int((scrubbed & ~unsteady).sum()),
    )


def _scrubbed(table: pd.DataFrame, wanted: Confounds, where: str) -> BoolArray:
    """Volumes that move too much, and short stretches between them; a missing measure is no movement."""
    measures = numeric(table, SCRUB, where)
    fd, std_dvars = (measures[name].to_numpy() for name in SCRUB)
    return ~scrub((fd > wanted.fd_threshold) | (std_dvars > wanted.std_dvars_threshold), wanted.scrub)


def _of_strategy(table: pd.DataFrame, names: Mapping[str, Sequence[str]], where: str) -> pd.DataFrame:
    """Columns of the components, by name."""
    if "high_pass" in names and not names["high_pass"]:
        warnings.warn(
            f"{where}: has no cosine columns, so high_pass takes out no slow drift; right for a run shorter than the "
            "cut-off of fMRIPrep (128 s), else set `drift_model: cosine` and leave high_pass out.",
            VoxloomWarning,
            stacklevel=3,
        )
    chosen = sorted({name for group in names.values() for name in group})
    return fill_leading(numeric(table, chosen, where), where)


def _of_columns(table: pd.DataFrame, columns: Sequence[str], keep: BoolArray, where: str) -> pd.DataFrame:
    """Columns by name, but for marks of volumes that have left."""
    chosen = select_confounds(table, columns, where)
    return chosen.loc[:, (chosen[keep] != 0).any() | (chosen == 0).all()]
