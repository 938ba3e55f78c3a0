"""Group models: a design over maps, and ordinary least squares over them at every voxel."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.blocks import map_voxels
from voxloom.errors import DesignError, VoxloomWarning
from voxloom.kernels import group as kernel
from voxloom.kernels.linalg import reduce_design
from voxloom.models.design import dependent_columns
from voxloom.schema import validate

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

#: Name of the constant column of a group design.
INTERCEPT = "intercept"


def fit_group(maps: xr.Dataset | xr.DataArray, design: pd.DataFrame | None = None) -> xr.Dataset:
    """Fit ``effect = design @ beta + error`` over maps at every voxel, where they are there.

    A map that is not finite at a voxel is missing there: the model is fitted to the others, with their number
    and their degrees of freedom. Which maps are missing where is found in one pass at the time of the call,
    also over lazy maps (a bit a value is kept), so that patterns do not depend on chunks; everything else
    stays lazy.

    Parameters
    ----------
    maps : Dataset or DataArray
        ``effect(map, voxel)``.
    design : DataFrame, optional
        A row per map, a column per regressor. A labelled index is matched with the coordinate ``map``; one
        that just counts takes the rows in order. The mean alone when not given.

    Returns
    -------
    Dataset
        Of kind "group_fit" (`schema.SCHEMAS`): ``beta(regressor, voxel)``, ``sigma2(voxel)``, ``n(voxel)``
        maps, ``pattern(voxel)``, ``present(pattern_id, map)``, ``design(map, regressor)``. `contrast` tests
        it. NaN at voxels with too few maps or without variance.

    Raises
    ------
    DesignError
        Rows do not match the maps, values are not finite, or there are not more maps than regressors.
    """
    effect = effects(maps)
    design = aligned_design(effect, design)
    X = design.to_numpy(dtype=np.float64)
    warn_if_singular(design)
    require_dof(X)
    bits = map_voxels(
        _bits, effect, outputs={"bits": ("byte",)}, sizes={"byte": -(-len(X) // 8)}, dtypes={"bits": np.uint8}
    )["bits"]
    number, present = kernel.group_patterns(bits.to_numpy(), len(X))
    pattern = xr.DataArray(number, dims="voxel")
    fit = map_voxels(
        _Fit(X, present),
        effect,
        pattern,
        outputs={"beta": ("regressor",), "sigma2": (), "n": ()},
        sizes={"regressor": X.shape[1]},
    )
    return xr.Dataset(
        {
            **fit,
            "pattern": pattern,
            "present": (("pattern_id", "map"), present),
            "design": (("map", "regressor"), X),
        },
        coords={"regressor": list(map(str, design.columns))},
        attrs={"noise_model": "group-ols"},
    ).assign_coords({"map": effect["map"]} if "map" in effect.coords else {})


class _Fit:
    """The kernel with its design; a class, so that it pickles."""

    def __init__(self, X: NDArray[np.float64], present: NDArray[np.bool_]) -> None:
        self.X, self.present = X, present

    def __call__(self, Y: NDArray[Any], pattern: NDArray[np.int32]) -> tuple[NDArray[Any], ...]:
        return kernel.fit_group(self.X, Y, pattern, self.present)


def _bits(Y: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return (kernel.pattern_bits(Y),)


def group_design(table: pd.DataFrame, formula: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Design of a group model from a table of covariates.

    Parameters
    ----------
    table : DataFrame
        A row per map or subject.
    formula : str or sequence of str, optional
        Right-hand side such as ``"1 + age + C(group)"`` or, for a mean per group, ``"0 + C(group)"``; or
        names of columns to stand beside the intercept. The intercept alone when not given.

    Returns
    -------
    DataFrame
        The table's index; the constant is named ``intercept``.

    Raises
    ------
    DesignError
        An unknown column, a formula that cannot be read, or a covariate that is missing (names the rows).
    """
    from formulaic import Formula  # 0.4 s, and only formulas need it
    from formulaic.errors import FormulaicError

    if not isinstance(formula, str):
        formula = " + ".join(["1", *(f"`{name}`" for name in formula or ())])
    where = f"formula {formula!r}"
    if "~" in formula:
        raise DesignError(where, "has a left-hand side.", "The maps are that side; leave it out.")
    try:
        parsed = Formula(formula)
        _require_covariates(table, sorted(map(str, parsed.required_variables)), where)
        matrix = parsed.get_model_matrix(table, na_action="ignore", context={})
    except (FormulaicError, SyntaxError, NameError, TypeError) as error:
        raise DesignError(where, f"cannot be used: {error}", f"Columns: {list(table.columns)}.") from error
    design = pd.DataFrame(np.asarray(matrix, dtype=np.float64), index=table.index, columns=list(matrix.columns))
    return design.rename(columns={"Intercept": INTERCEPT})


def _require_covariates(table: pd.DataFrame, names: Sequence[str], where: str) -> None:
    unknown = [name for name in names if name not in table.columns]
    if unknown:
        raise DesignError(where, f"no column is named {unknown}.", f"The table has {list(table.columns)}.")
    for name in names:
        missing = table.index[table[name].isna()]
        if len(missing):
            raise DesignError(
                where,
                f"`{name}` is missing for {_listed(missing)}.",
                "Fill it, or leave these rows out of the table and of the maps.",
            )


def effects(maps: xr.Dataset | xr.DataArray) -> xr.DataArray:
    """Return ``effect(map, voxel)`` of maps, checked."""
    ds = maps.to_dataset(name="effect") if isinstance(maps, xr.DataArray) else maps
    return validate(ds, "maps", "maps")["effect"].transpose("map", "voxel")


def aligned_design(effect: xr.DataArray, design: pd.DataFrame | None) -> pd.DataFrame:
    """Rows of the design in the order of the maps; the intercept for None.

    Raises
    ------
    DesignError
        Other labels or another number of rows, or values that are not finite numbers.
    """
    n = effect.sizes["map"]
    if design is None:
        return pd.DataFrame({INTERCEPT: np.ones(n)}, index=effect["map"].to_index())
    if len(design) != n:
        raise DesignError(
            "design",
            f"has {len(design)} rows, but there are {n} maps.",
            "Give one row per map, in their order.",
        )
    if "map" in effect.coords and not isinstance(design.index, pd.RangeIndex):
        design = _in_order(design, effect["map"].to_index())
    values = design.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        columns = [str(name) for name in design.columns[bad.any(axis=0)]]
        raise DesignError(
            "design",
            f"columns {columns} hold no finite number for {_listed(design.index[bad.any(axis=1)])}.",
            "Fill or leave them out; group_design codes categories as numbers.",
        )
    return pd.DataFrame(values, index=design.index, columns=design.columns)


def _in_order(design: pd.DataFrame, labels: pd.Index[Any]) -> pd.DataFrame:
    """Rows of the design by the labels of the maps."""
    if design.index.equals(labels):
        return design
    lost = labels.difference(design.index)
    if len(lost) or not (design.index.is_unique and labels.is_unique):
        raise DesignError(
            "design",
            f"its index does not match the maps: no row for {_listed(lost)}."
            if len(lost)
            else "its index repeats labels, so that rows cannot be matched with maps.",
            f"Index it by the maps ({_listed(labels)}), or reset its index to take rows in order.",
        )
    return design.loc[labels]


def warn_if_singular(design: pd.DataFrame) -> None:
    """Warn that a design is singular, with the names of the columns that depend on others."""
    if dependent := dependent_columns(design.to_numpy(dtype=np.float64), [str(name) for name in design.columns]):
        warnings.warn(
            f"design: singular; {dependent} depend on the columns before them. "
            "Contrasts that need them cannot be tested.",
            VoxloomWarning,
            stacklevel=3,
        )


def require_dof(X: NDArray[np.float64]) -> None:
    """Raise `DesignError` unless there are more maps than independent regressors."""
    rank = reduce_design(X).rank
    if len(X) <= rank:
        raise DesignError(
            "design",
            f"{len(X)} maps cannot determine {rank} independent regressors and their error.",
            "Use fewer regressors or more maps.",
        )


def _listed(labels: Sequence[Hashable] | pd.Index[Any]) -> str:
    """Name the first few labels, and how many more there are."""
    shown = ", ".join(str(label) for label in labels[:5])
    return shown + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
