"""Contrasts by nilearn's names: of one fit, over runs, and of images."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from voxloom.errors import ContrastError, InputError, VoxloomWarning
from voxloom.glm.images import Masker
from voxloom.kernels.expression import parse_contrast
from voxloom.models.contrasts import contrast
from voxloom.models.first_level.fit import fixed_effects
from voxloom.models.first_level.runs import contrast_over_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: Degrees of freedom of a map that comes without any, as in nilearn.
DOF = 100.0
#: Variances below this are taken for it, as in nilearn.
LEAST_VARIANCE = 1e-16


class Contrast(NamedTuple):
    """A contrast of one fit, in memory; ``maps`` as `voxloom.contrast` gives them."""

    maps: xr.Dataset

    def effect_size(self) -> FloatArray:
        """Effect (voxel,); of t."""
        return np.asarray(self.maps["effect"])

    def effect_variance(self) -> FloatArray:
        """Variance of the effect (voxel,); of t."""
        return np.asarray(self.maps["variance"])

    def stat(self) -> FloatArray:
        """Statistic, t or F (voxel,)."""
        return np.asarray(self.maps["stat"])

    def z_score(self) -> FloatArray:
        """Statistic as z (voxel,)."""
        return np.asarray(self.maps["z_score"])

    def p_value(self) -> FloatArray:
        """Upper tail (voxel,)."""
        return np.asarray(self.maps["p_value"])


def compute_contrast(
    labels: ArrayLike, regression_result: xr.Dataset, con_val: Any, stat_type: str | None = None
) -> Contrast:
    """Test a contrast of what `voxloom.glm.first_level.run_glm` gave.

    Parameters
    ----------
    labels : (voxel,) array_like
        From `run_glm`; the fit knows them too.
    regression_result : Dataset
        From `run_glm`.
    con_val : str, (K,) or (q, K) array_like
        Expression or weights; short ones are filled up with 0, with a warning.
    stat_type : {"t", "F"}, optional

    Raises
    ------
    InputError
        `labels` are of other voxels.
    ContrastError
        As `voxloom.contrast`.
    """
    if np.size(labels) != regression_result.sizes["voxel"]:
        raise InputError(
            "labels",
            f"are of {np.size(labels)} voxels, but the fit has {regression_result.sizes['voxel']}.",
            "Take both from one call of run_glm.",
        )
    columns = list(map(str, regression_result["regressor"].values))
    return Contrast(contrast(regression_result, padded(con_val, columns), stat_type=stat_type))


def expression_to_contrast_vector(expression: str, design_columns: Sequence[str]) -> FloatArray:
    """Weights (K,) of an expression of column names, such as ``"face - 0.5 * house"``.

    Raises
    ------
    ContrastError
        A name is no column, or it is no weighted sum of columns.
    """
    return parse_contrast(expression, list(design_columns))


def padded(chosen: Any, columns: Sequence[str]) -> Any:
    """A contrast with a weight for every column; expressions as they are.

    Raises
    ------
    ContrastError
        There are more weights than columns.
    """
    if isinstance(chosen, str):
        return chosen
    weights = np.asarray(chosen, dtype=np.float64)
    lack = len(columns) - (weights.shape[-1] if weights.ndim else 0)
    if lack < 0:
        raise ContrastError(
            "contrast", f"is too long: {weights.shape[-1]} weights for {len(columns)} columns.", f"They are {columns}."
        )
    if lack:
        warnings.warn(
            f"contrast: {len(columns) - lack} weights for {len(columns)} columns; 0 is taken for {columns[-lack:]}.",
            VoxloomWarning,
            stacklevel=3,
        )
    return np.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(0, lack)])


def over_runs(fits: Sequence[xr.Dataset], contrast_def: Any, stat_type: str | None) -> xr.Dataset:
    """Fixed effects of a contrast over the runs; None or zeros leave a run out.

    Raises
    ------
    InputError
        Contrasts are not as many as runs, or every run is left out.
    ContrastError
        As `voxloom.contrast_over_runs`.
    """
    named = {f"run-{i}": fit for i, fit in enumerate(fits, 1)}
    asked = {
        run: padded(chosen, list(map(str, named[run]["regressor"].values)))
        for run, chosen in zip(named, _each(contrast_def, len(named)))
        if not _is_empty(chosen)
    }
    if not asked:
        raise InputError("contrast_def", "leaves out every run.", "Give a contrast for one at least.")
    if len(asked) == 1:
        ((run, chosen),) = asked.items()
        return contrast(named[run], chosen, stat_type=stat_type)
    return contrast_over_runs(named, asked, stat_type=stat_type)


def _each(contrast_def: Any, n_runs: int) -> list[Any]:
    """One contrast per run."""
    if not isinstance(contrast_def, list | tuple) or (
        contrast_def and np.isscalar(contrast_def[0]) and not isinstance(contrast_def[0], str)
    ):
        return [contrast_def] * n_runs
    if len(contrast_def) == 1:
        return list(contrast_def) * n_runs
    if len(contrast_def) != n_runs:
        raise InputError(
            "contrast_def",
            f"is a list of {len(contrast_def)} contrasts, but there are {n_runs} runs.",
            "Give one, or one for each run; rows of an F contrast as an array.",
        )
    return list(contrast_def)


def _is_empty(chosen: Any) -> bool:
    return chosen is None or (not isinstance(chosen, str) and not np.any(chosen))


def compute_fixed_effects(
    contrast_imgs: Sequence[Any],
    variance_imgs: Sequence[Any],
    mask: Any = None,
    precision_weighted: bool = False,
    dofs: Sequence[float] | None = None,
) -> tuple[Any, Any, Any, Any]:
    """Combine a t contrast over runs or sessions, from images.

    Parameters
    ----------
    contrast_imgs, variance_imgs : sequence of paths or images
    mask : path, image or masker, optional
        By default the voxels whose effects are finite and not 0.
    precision_weighted : bool
        Weights 1 / variance in place of a plain mean, whose variance is the sum over n^2.
    dofs : sequence of float, optional
        Degrees of freedom of each; 100 when not given.

    Returns
    -------
    effect, variance, t, z : Nifti1Image

    Raises
    ------
    InputError
        Numbers of images or degrees of freedom differ.
    """
    n = len(contrast_imgs)
    counts = {"variance_imgs": len(variance_imgs), "dofs": n if dofs is None else len(dofs)}
    for name, count in counts.items():
        if count != n:
            raise InputError(name, f"are {count}, but there are {n} contrast_imgs.", "Give one of each per run.")
    masker = Masker(mask)
    effect, variance = (masker.maps(list(imgs))["effect"].rename(map="run") for imgs in (contrast_imgs, variance_imgs))
    dof = xr.ones_like(effect, dtype=np.float64) * xr.DataArray([DOF] * n if dofs is None else list(dofs), dims="run")
    maps = {"effect": effect, "variance": variance.clip(min=LEAST_VARIANCE), "dof": dof}
    runs = xr.Dataset({name: values.drop_vars("run") for name, values in maps.items()})
    joined = fixed_effects(runs, precision_weighted=precision_weighted)
    effect, variance, stat, z = (masker.image(joined[name]) for name in ("effect", "variance", "stat", "z_score"))
    return effect, variance, stat, z
