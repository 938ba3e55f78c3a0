"""Contrasts of a group model, once its design is known: rows of weights, and whether they make a t or an F."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import ContrastError
from voxloom.models.contrasts import contrast_text, estimable_rows
from voxloom.models.group.design import in_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from voxloom.spec import GroupModel
    from voxloom.spec.group_contrasts import GroupContrast


@dataclass(frozen=True, kw_only=True, eq=False)
class DesignContrast:
    """A contrast over the columns of a design.

    Parameters
    ----------
    expression : str or sequence
        As the analysis has it.
    weights : (q, K) array
    stat_type : str
        ``t`` or ``F``.
    """

    expression: str | Sequence[Any]
    weights: NDArray[np.float64]
    stat_type: str

    @property
    def df1(self) -> int:
        """Numerator degrees of freedom."""
        return int(np.linalg.matrix_rank(self.weights))

    @property
    def about(self) -> dict[str, Any]:
        """What sidecars say of it."""
        said: dict[str, Any] = {"Expression": contrast_text(self.expression)}
        if self.stat_type == "F":
            said |= {"StatisticType": "F", "NumeratorDegreesOfFreedom": self.df1}
        return said

    def two_sided(self, wanted: bool) -> bool:
        """Whether both signs are tested, where that is wanted: F has no sign."""
        return wanted and self.stat_type == "t"


def contrasts_of(model: GroupModel, design: pd.DataFrame, where: str) -> dict[str, DesignContrast]:
    """The contrasts of a model, which `where` names in messages, by name.

    Raises
    ------
    ContrastError
        One names what the design has not, has another number of weights, or cannot be estimated.
    """
    found = {}
    for name, wanted in model.contrasts.items():
        try:
            found[name] = over_design(wanted, design)
        except ContrastError as error:
            terms = [f"`{term}`" for term in design.attrs.get("terms", {})]
            remedy = error.remedy or (f"Terms: {', '.join(terms)}." if terms else "")
            raise ContrastError(f"{where}.contrasts.{name}", error.what, remedy) from None
    return found


def over_design(wanted: GroupContrast, design: pd.DataFrame) -> DesignContrast:
    """A contrast as weights of the columns of a design."""
    columns = [str(name) for name in design.columns]
    rows = in_columns(wanted.expression, columns, design.attrs.get("terms", {}))
    weights = estimable_rows(design.to_numpy(dtype=np.float64), columns, rows)
    kind = wanted.stat_type or ("t" if len(weights) == 1 else "F")
    if kind == "t" and len(weights) > 1:
        raise ContrastError("", f"has {len(weights)} rows, too many for a t.", "Leave stat_type out, for F.")
    return DesignContrast(expression=wanted.expression, weights=weights, stat_type=kind)
