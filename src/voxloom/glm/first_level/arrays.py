"""A GLM of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.glm.first_level.fitted import labels_of
from voxloom.glm.first_level.rules import noise_model_of, require_rules
from voxloom.models.first_level.fit import fit_first_level

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def run_glm(
    Y: ArrayLike,
    X: ArrayLike | pd.DataFrame,
    noise_model: str = "ar1",
    bins: int = 100,
    n_jobs: int = 1,
    verbose: int = 0,
    random_state: Any = None,
    *,
    rules: str = "nilearn",
) -> tuple[NDArray[np.float64], xr.Dataset]:
    """Fit a design to series in memory.

    Parameters
    ----------
    Y : (T, V) array_like
    X : (T, K) array_like or DataFrame
    noise_model : {"ar1", "ols", "ar2" ... "ar8", "arma11"}
        As in `FirstLevelModel`.
    bins, n_jobs, verbose, random_state
        As in nilearn; without effect here.
    rules : {"nilearn", "voxloom"}
        Of AR(1).

    Returns
    -------
    labels : (V,) array
        AR(1) coefficient of every voxel; 0 where the noise has none.
    results : Dataset
        The fit, for `voxloom.glm.compute_contrast`, in place of nilearn's dictionary.

    Raises
    ------
    DesignError
        Rows of the two differ, or the design leaves no degrees of freedom.
    InputError
        The noise model is unknown.
    """
    require_rules(rules)
    design = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X)).add_prefix("reg")
    bold = xr.DataArray(Y, dims=("time", "voxel")).transpose("voxel", "time")
    fit = fit_first_level(bold, design, noise_model=noise_model_of(noise_model, rules))
    return labels_of(fit), fit
