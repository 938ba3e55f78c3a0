"""Designs of group models: from formulas, matched with maps by their labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from voxloom.errors import DesignError, InputError, VoxloomWarning
from voxloom.kernels.group.influence import ALONE
from voxloom.kernels.linalg import reduce_design
from voxloom.models.design.matrix import dependent_columns

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    import xarray as xr
    from numpy.typing import NDArray

#: Name of the constant column of a group design.
INTERCEPT = "intercept"


def group_design(
    table: pd.DataFrame,
    formula: str | Sequence[str] | None = None,
    *,
    missing: Literal["raise", "drop"] = "raise",
) -> pd.DataFrame:
    """Design of a group model from a table of covariates.

    Parameters
    ----------
    table : DataFrame
        A row per map or subject.
    formula : str or sequence of str, optional
        Right-hand side such as ``"1 + center(age) + C(group)"``, ``"0 + C(group)"`` for a mean per group, or
        ``"condition + C(participant_id)"`` for a paired design; or names of columns to stand beside the intercept. The
        intercept alone when not given.
    missing : {"raise", "drop"}
        What to do with rows that lack a covariate: refuse them, or leave them out (and then out of the maps).

    Returns
    -------
    DataFrame
        The table's index; the constant is named ``intercept``. ``attrs["terms"]`` names the columns of each term of the
        formula, so that `contrast` tests a term by its name; ``attrs["coding"]`` says how each factor is coded and what
        was subtracted from a centred covariate.

    Raises
    ------
    DesignError
        An unknown column, a formula that cannot be read, a covariate that is missing or not finite (names the rows),
        or a factor of one level.
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
        table = _with_covariates(table, sorted(map(str, parsed.required_variables)), where, missing)
        matrix = parsed.get_model_matrix(table, na_action="ignore", context={})
    except (FormulaicError, SyntaxError, NameError, TypeError) as error:
        what = str(error).partition("\n")[0]  # what follows marks the place with escape codes of a terminal
        raise DesignError(where, f"cannot be used: {what}", f"Columns: {list(table.columns)}.") from error
    _require_levels(matrix.model_spec, where)
    columns = [INTERCEPT if name == "Intercept" else str(name) for name in matrix.columns]
    design = pd.DataFrame(np.asarray(matrix, dtype=np.float64), index=table.index, columns=columns)
    design.attrs = {"terms": _terms(matrix.model_spec, columns), "coding": _coding(matrix.model_spec)}
    return design


def _with_covariates(table: pd.DataFrame, names: Sequence[str], where: str, missing: str) -> pd.DataFrame:
    """Rows of the table that have all of these columns."""
    unknown = [name for name in names if name not in table.columns]
    if unknown:
        raise DesignError(where, f"no column is named {unknown}.", f"The table has {list(table.columns)}.")
    lacking = {name: _missing(table[name]) for name in names}
    for name, rows in lacking.items():
        if rows.any() and missing == "raise":
            raise DesignError(
                where,
                f"`{name}` is missing or not finite for {listed(table.index[rows])}.",
                "Fill it, or leave these rows out of the table and of the maps (missing='drop').",
            )
    kept: NDArray[np.bool_] = ~np.any([*lacking.values(), np.zeros(len(table), dtype=bool)], axis=0)
    return table.iloc[np.flatnonzero(kept)]


def _missing(column: pd.Series[Any]) -> NDArray[np.bool_]:
    missing = column.isna().to_numpy()
    if pd.api.types.is_float_dtype(column):
        missing = missing | ~np.isfinite(column.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.asarray(missing, dtype=bool)


def _require_levels(spec: Any, where: str) -> None:
    for factor, state in spec.factor_contrasts.items():
        if len(state.levels) < 2:
            raise DesignError(
                where,
                f"{factor} has the one level {', '.join(map(str, state.levels))}, which tells nothing.",
                "Leave it out, or take more rows of the table.",
            )


def _terms(spec: Any, columns: Sequence[str]) -> dict[str, list[str]]:
    """Columns of each term by the name of the term."""
    found = {str(term): [columns[i] for i in indices] for term, indices in spec.term_indices.items()}
    return {INTERCEPT if term == "1" else term: names for term, names in found.items()}


def _coding(spec: Any) -> dict[str, str]:
    """How factors are coded, and what is taken from covariates, by factor."""
    found = {}
    for factor, state in spec.factor_contrasts.items():
        kind = type(state.contrasts).__name__.removesuffix("Contrasts").lower()
        base = getattr(state.contrasts, "base", None)
        reference = f", reference {base if base in state.levels else state.levels[0]}" if kind == "treatment" else ""
        found[str(factor)] = f"{kind} coding of {', '.join(map(str, state.levels))}{reference}"
    for name, state in spec.transform_state.items():
        parts = [f"{key} {state[key]:.6g}" for key in ("center", "scale") if state.get(key) is not None]
        if parts:
            found[str(name)] = ", ".join(parts)
    return found


def in_columns(expression: Any, columns: Sequence[str], terms: Mapping[str, Sequence[str]]) -> Any:
    """Contrast in which the terms of a formula are written as their columns, a row each.

    Parameters
    ----------
    expression : str, sequence of str, or weights
        Weights stay as they are.
    columns : sequence of str
        Of the design. A name of a column is that column.
    terms : mapping of str to sequence of str
        Columns of each term, as `group_design` tells them in ``attrs["terms"]``.
    """
    rows = [expression] if isinstance(expression, str) else expression
    if not isinstance(rows, Sequence) or not all(isinstance(row, str) for row in rows):
        return expression
    if not any(row in terms for row in rows):
        return expression
    return [name for row in rows for name in ([row] if row in columns else terms.get(row, [row]))]


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
            f"columns {columns} hold no finite number for {listed(design.index[bad.any(axis=1)])}.",
            "Fill or leave them out; group_design codes categories as numbers.",
        )
    return _like(design, values)


def _like(design: pd.DataFrame, values: NDArray[np.float64]) -> pd.DataFrame:
    """The design with these values; what it says of itself is kept."""
    found = pd.DataFrame(values, index=design.index, columns=design.columns)
    found.attrs = dict(design.attrs)
    return found


def _in_order(design: pd.DataFrame, labels: pd.Index[Any]) -> pd.DataFrame:
    """Rows of the design by the labels of the maps."""
    if design.index.equals(labels):
        return design
    lost = labels.difference(design.index)
    if len(lost) or not (design.index.is_unique and labels.is_unique):
        raise DesignError(
            "design",
            f"its index does not match the maps: no row for {listed(lost)}."
            if len(lost)
            else "its index repeats labels, so that rows cannot be matched with maps.",
            f"Index it by the maps ({listed(labels)}), or reset its index to take rows in order.",
        )
    return design.loc[labels]


def labels_of_maps(effect: xr.DataArray, labels: Sequence[Any] | pd.Series[Any], where: str) -> NDArray[Any]:
    """A label of each map, in the order of the maps: as they come, or by the index of a Series.

    Raises
    ------
    InputError
        There are not as many as maps, or one is missing; `where` names them.
    """
    given, n = labels if isinstance(labels, pd.Series) else pd.Series(list(labels)), effect.sizes["map"]
    if len(given) != n:
        raise InputError(where, f"has {len(given)} labels, but there are {n} maps.", "Give one per map.")
    if "map" in effect.coords and not isinstance(given.index, pd.RangeIndex):
        given = given.reindex(effect["map"].to_index())
    if given.isna().any():
        raise InputError(where, f"has no label for {listed(given.index[given.isna()])}.", "Label every map.")
    return given.to_numpy()


def warn_if_singular(design: pd.DataFrame) -> None:
    """Warn that a design is singular, with the names of the columns that depend on others."""
    if dependent := dependent_columns(design.to_numpy(dtype=np.float64), [str(name) for name in design.columns]):
        warnings.warn(
            f"design: Design matrix is singular: {dependent} depend on the columns before them. "
            "Contrasts that need them cannot be tested.",
            VoxloomWarning,
            stacklevel=3,
        )


def warn_if_alone(design: pd.DataFrame) -> None:
    """Warn of rows that alone determine a regressor, such as the one map of a subject in a paired design."""
    leverage = np.square(reduce_design(design.to_numpy(dtype=np.float64)).Q).sum(axis=1)
    alone = np.flatnonzero(leverage > 1 - ALONE)
    if alone.size:
        warnings.warn(
            f"design: maps {listed(design.index[alone])} alone determine a regressor, so they tell nothing of the "
            "others (an unpaired subject? a site of one map?). Leave them out.",
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


def require_min_n(min_n: int, n_maps: int) -> None:
    """Raise `InputError` unless some voxel can have so many maps."""
    if not 1 <= min_n <= n_maps:
        raise InputError("min_n", f"is {min_n}, but there are {n_maps} maps.", f"From 1 to {n_maps} is wanted.")


def listed(labels: Sequence[Hashable] | pd.Index[Any]) -> str:
    """Name the first few labels, and how many more there are."""
    shown = ", ".join(str(label) for label in labels[:5])
    return shown + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
