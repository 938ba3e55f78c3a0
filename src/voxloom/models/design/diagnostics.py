"""What a design can answer, before any data is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from voxloom.errors import DesignError
from voxloom.kernels.design import collinearity
from voxloom.kernels.expression import contrast_matrix
from voxloom.kernels.linalg import is_estimable, reduce_design
from voxloom.models.design.matrix import dependent_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    Expression = str | Sequence[str] | ArrayLike

#: Variance inflation above which a contrast is worth a look, and above which it hardly answers.
NOTABLE, SEVERE = 5.0, 10.0
#: Degrees of freedom below which a variance is a poor estimate: t at p < .001 is 3.55 at 20, 3.09 with all.
FEW_DOF = 20


@dataclass(frozen=True, kw_only=True)
class DesignDiagnostics:
    """Result of `design_diagnostics`.

    Parameters
    ----------
    regressors : DataFrame
        A row per column of the design: ``vif``, 1 / (1 - R^2) of the column on all others; inf for a column that
        depends on others, NaN for a constant.
    contrasts : DataFrame
        A row per contrast: ``vif``, its variance over that with uncorrelated regressors; ``efficiency``,
        1 / trace(c (X'X)^-1 c') of the design, whitened where rho was given; ``estimable``.
    correlation : DataFrame
        Of the columns; NaN for constants.
    n_volumes, rank, dof : int
        Rows; rank; rows less rank.
    condition_number : float
        Of the columns at unit norm; inf for a singular design.
    dependent : list of str
        Columns that are zero or combinations of earlier ones.
    """

    regressors: pd.DataFrame
    contrasts: pd.DataFrame
    correlation: pd.DataFrame
    n_volumes: int
    rank: int
    dof: int
    condition_number: float
    dependent: list[str]

    @property
    def worries(self) -> list[str]:
        """One line per thing that is worth a look."""
        lines = []
        if self.dependent:
            lines.append(f"rank {self.rank} of {len(self.regressors)}: {self.dependent} depend on columns before them")
        if self.dof < FEW_DOF:
            lines.append(f"{self.dof} degrees of freedom are left of {self.n_volumes} rows")
        for name, row in self.contrasts.iterrows():
            if not row["estimable"]:
                lines.append(f"contrast {name} cannot be estimated")
            elif row["vif"] > NOTABLE:
                lines.append(f"contrast {name}: {inflation(row['vif'])}")
        return lines


def inflation(vif: float) -> str:
    """The sentence on a variance inflation."""
    often = "severely " if vif > SEVERE else ""
    return f"its variance is {often}inflated, {vif:.1f} times what uncorrelated regressors would give (VIF)"


def design_diagnostics(
    design: pd.DataFrame,
    contrasts: Mapping[str, Expression] | None = None,
    *,
    rho: float = 0.0,
    scans: ArrayLike | None = None,
) -> DesignDiagnostics:
    """Variance inflation, correlation, rank, efficiency and degrees of freedom of a design.

    Variance inflation and correlation are about the means, whether the design has a constant or not. Efficiencies
    have the unit of the regressors and compare designs of the same contrast, not contrasts with each other.

    Parameters
    ----------
    design : DataFrame
        A row per volume, a column per regressor (`design_matrix`).
    contrasts : mapping of str to expression or weights, optional
        As `contrast` takes them; by default every column.
    rho : float
        Coefficient of the AR(1) noise for which the efficiency is wanted: that of the whitened design.
    scans : (time,) array_like of int, optional
        Number of each row's volume, where some have been left out.

    Returns
    -------
    DesignDiagnostics

    Raises
    ------
    DesignError
        No rows or columns, values that are not finite, `rho` not between -1 and 1, or `scans` not increasing.
    ContrastError
        A contrast names columns that the design does not have.
    """
    X, names = _matrix(design), [str(name) for name in design.columns]
    if not -1 < rho < 1:
        raise DesignError("rho", f"is {rho!r}.", "Give a coefficient between -1 and 1.")
    basis, whitened = reduce_design(X), collinearity.whiten_ar1(X, rho, scans)
    wanted = {name: name for name in names} if contrasts is None else contrasts
    rows = {name: _rows(expression, names, contrasts is None) for name, expression in wanted.items()}
    each = list(np.eye(len(names))[:, np.newaxis])
    return DesignDiagnostics(
        regressors=pd.DataFrame({"vif": collinearity.variance_inflation(X, each)}, index=names),
        contrasts=pd.DataFrame(
            {
                "vif": collinearity.variance_inflation(X, list(rows.values())),
                "efficiency": collinearity.efficiency(whitened, list(rows.values())),
                "estimable": [bool(is_estimable(C, basis).all()) for C in rows.values()],
            },
            index=list(rows),
        ),
        correlation=pd.DataFrame(collinearity.correlation(X), index=names, columns=names),
        n_volumes=len(X),
        rank=basis.rank,
        dof=len(X) - basis.rank,
        condition_number=collinearity.condition_number(X),
        dependent=dependent_columns(X, names),
    )


def _rows(expression: Expression, names: list[str], is_name: bool) -> FloatArray:
    if is_name:  # a name may look like an expression of others
        return np.eye(len(names))[[names.index(str(expression))]]
    return contrast_matrix(expression, names)


def _matrix(design: pd.DataFrame) -> FloatArray:
    X = np.asarray(design.to_numpy(dtype=np.float64))
    if not X.size or not np.isfinite(X).all():
        raise DesignError("design", f"of shape {X.shape} is empty or holds values that are not finite.", "Fill them.")
    return X
