"""Contrasts of first-level and group fits: effect, variance, t or F, z, p and degrees of freedom as maps."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from voxloom.blocks import map_voxels
from voxloom.errors import ContrastError
from voxloom.kernels import contrast as kernel
from voxloom.kernels.design.gram_schmidt import orthonormal_rows
from voxloom.kernels.expression import contrast_matrix
from voxloom.kernels.linalg import is_estimable, reduce_design
from voxloom.models.contrast_lookup import design_values, noise_model_of
from voxloom.models.design.matrix import dependent_columns
from voxloom.models.first_level.fit import stack_runs
from voxloom.models.group.design import in_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.contrast import ContrastTable
    from voxloom.models.contrast_lookup import Lookup

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    Expression = str | Sequence[str] | ArrayLike
    #: ``test(effects (q, V), sigma2 (V,), case (V,), table) -> maps``
    Test = Callable[[FloatArray, FloatArray, IntArray, ContrastTable], tuple[NDArray[Any], ...]]


def contrast(
    fit: xr.Dataset, expression: Expression, *, stat_type: str | None = None, tails: bool = True
) -> xr.Dataset:
    """Test a contrast of the regressors at every voxel.

    Parameters
    ----------
    fit : Dataset
        From `fit_first_level` or `fit_group`; lazy in, lazy out.
    expression : str, sequence of str, (K,) or (q, K) array_like
        Such as ``"face - house"``; several expressions, or rows of weights, are tested together by F. In a group model
        also terms of its formula, such as ``"C(site)"``, each with all of its columns.
    stat_type : {"t", "F"}, optional
        t for one row and F for more, when not given.
    tails : bool
        False leaves out ``z_score`` and ``p_value`` of a t, which follow from ``stat`` and ``dof``.

    Returns
    -------
    Dataset
        Of kind "contrast" (`schema.SCHEMAS`): ``effect`` and ``variance`` (t alone), ``stat``, ``z_score``,
        ``p_value`` (upper tail; for t one-sided) and ``dof``, each ``(voxel)``. Where parameters of the noise were
        estimated dof and variance are those of Satterthwaite, Kenward and Roger (`kernels.first_level.dof`), so dof
        is a map. Attribute ``df1`` for F.

    Raises
    ------
    ContrastError
        Unknown columns, weights of another length, a t of several rows, or a contrast the design cannot
        estimate.
    """
    C = _rows(fit, expression, stat_type)
    if stat_type is None:
        stat_type = "t" if len(C) == 1 else "F"
    test: Test
    names: tuple[str, ...]
    if stat_type == "F":
        test, names = kernel.f_statistics, kernel.FStatistics._fields
    else:
        test, names = (_t, kernel.TStatistics._fields) if tails else (_t_alone, kernel.Studentized._fields)
    maps = _map_cases(fit, C, test, dict.fromkeys(names, ()))
    attrs: dict[str, Any] = {"stat_type": stat_type, "contrast": contrast_text(expression)}
    if stat_type == "F":
        attrs["df1"] = len(C)
    return xr.Dataset(maps, attrs=attrs)


def contrast_rows(fit: xr.Dataset, expression: Expression) -> xr.Dataset:
    """Effects of several contrast rows in one run with their covariance, to combine over runs by `combine_f`.

    Parameters
    ----------
    fit : Dataset
    expression : sequence of str, or (q, K) array_like

    Returns
    -------
    Dataset
        ``effect(row, voxel)``, ``covariance(row, row_, voxel)`` (signal units squared; holds the scale of
        Kenward and Roger's F) and ``dof(voxel)``.
    """
    C = _rows(fit, expression, "F")
    outputs = {"effect": ("row",), "covariance": ("row", "row_"), "dof": ()}
    maps = _map_cases(fit, C, _with_covariance, outputs, {"row": len(C), "row_": len(C)})
    return xr.Dataset(maps, attrs={"contrast": contrast_text(expression)})


def combine_f(runs: xr.Dataset | Sequence[xr.Dataset]) -> xr.Dataset:
    """F of the mean effect over runs, with the covariance of that mean at every voxel.

    Parameters
    ----------
    runs : Dataset or sequence of Dataset
        Results of `contrast_rows`: one with a dim ``run``, or one per run. A run that is NaN at a voxel is
        left out there.

    Returns
    -------
    Dataset
        Of kind "contrast"; dof is the sum over runs.
    """
    axes = {"effect": ("run", "row"), "covariance": ("run", "row", "row_"), "dof": ("run",)}
    stacked = stack_runs(runs, axes)
    maps = map_voxels(
        _combined_f_block,
        *(stacked[name] for name in axes),
        outputs=dict.fromkeys(kernel.FStatistics._fields, ()),
    )
    attrs = {"stat_type": "F", "contrast": stacked.attrs.get("contrast", ""), "df1": stacked.sizes["row"]}
    return xr.Dataset(maps, attrs=attrs)


def _rows(fit: xr.Dataset, expression: Expression, stat_type: str | None) -> FloatArray:
    """Estimable rows of weights (q, K); several are made orthonormal, the same way in every run."""
    columns = [str(name) for name in fit["regressor"].values]
    expression = in_columns(expression, columns, fit.attrs.get("terms", {}))
    # sums have no design: whether they tell a contrast is found voxel by voxel
    known = "design" in fit
    C = estimable_rows(design_values(fit), columns, expression) if known else contrast_matrix(expression, columns)
    where = f"contrast {contrast_text(expression)!r}"
    if stat_type not in (None, "t", "F"):
        raise ContrastError(where, f"stat_type {stat_type!r} is unknown.", 'Give "t" or "F".')
    if stat_type == "t" and len(C) > 1:
        raise ContrastError(where, f"has {len(C)} rows, too many for a t.", 'Give one row, or stat_type="F".')
    return C if len(C) == 1 else orthonormal_rows(C)


def estimable_rows(X: FloatArray, columns: Sequence[str], expression: Expression) -> FloatArray:
    """Rows of weights (q, K) of a contrast that a design can estimate.

    Parameters
    ----------
    X : (T, K) array
    columns : sequence of str
        Names of its columns.
    expression : str, sequence of str, (K,) or (q, K) array_like

    Raises
    ------
    ContrastError
        Unknown columns, weights of another length, or not estimable: then it names the dependent columns.
    """
    C = contrast_matrix(expression, columns)
    if not is_estimable(C, reduce_design(X)).all():
        raise ContrastError(
            f"contrast {contrast_text(expression)!r}",
            f"is not estimable: the columns {dependent_columns(X, columns)} depend on the others.",
            "Leave them out of the design, or test a contrast that the design can tell.",
        )
    return C


def contrast_text(expression: Expression) -> str:
    """How a contrast is named: its expressions, or its weights."""
    if isinstance(expression, str):
        return expression
    rows = list(np.atleast_1d(np.asarray(expression, dtype=object)))
    if all(isinstance(row, str) for row in rows):
        return "; ".join(rows)
    return "; ".join(" ".join(f"{w:g}" for w in row) for row in np.atleast_2d(np.asarray(expression, dtype=float)))


def _map_cases(
    fit: xr.Dataset,
    C: FloatArray,
    test: Test,
    outputs: dict[str, tuple[str, ...]],
    sizes: dict[str, int] | None = None,
) -> dict[str, xr.DataArray]:
    """Map ``test(C beta, sigma2, case, table)`` over voxels."""
    model = noise_model_of(fit)
    arrays = (fit["beta"].transpose("regressor", "voxel"), fit["sigma2"], *(fit[key] for key in model.keys))
    return map_voxels(partial(_block, test, C, model.lookup(fit, C)), *arrays, outputs=outputs, sizes=sizes)


def _block(
    test: Test, C: FloatArray, lookup: Lookup, beta: FloatArray, sigma2: FloatArray, *keys: NDArray[Any]
) -> tuple[NDArray[Any], ...]:
    return test(C @ beta, sigma2, *lookup(*keys))


def _t(effects: FloatArray, sigma2: FloatArray, case: IntArray, table: ContrastTable) -> tuple[NDArray[Any], ...]:
    return kernel.t_statistics(effects[0], sigma2, case, table)


def _t_alone(effects: FloatArray, sigma2: FloatArray, case: IntArray, table: ContrastTable) -> tuple[NDArray[Any], ...]:
    return kernel.studentize(effects[0], sigma2 * table.cov[case, 0, 0], table.dof[case])


def _with_covariance(
    effects: FloatArray, sigma2: FloatArray, case: IntArray, table: ContrastTable
) -> tuple[NDArray[Any], ...]:
    covariance = np.moveaxis((table.cov / table.scale[:, None, None])[case], 0, -1) * sigma2
    return effects, covariance, np.where(np.isnan(sigma2), np.nan, table.dof[case])


def _combined_f_block(effects: FloatArray, covariances: FloatArray, dofs: FloatArray) -> tuple[NDArray[Any], ...]:
    return kernel.f_of(*kernel.combine_rows(effects, covariances, dofs))
