"""Contrasts of a group model, once its design is known: rows of weights, and whether they make a t or an F."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import ContrastError
from voxloom.models.contrasts import contrast_text, estimable_rows
from voxloom.models.group_design import in_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from voxloom.spec import GroupModel


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


def contrasts_of(model: GroupModel, design: pd.DataFrame) -> dict[str, DesignContrast]:
    """The contrasts of a model by name.

    Raises
    ------
    ContrastError
        One names what the design has not, has another number of weights, or cannot be estimated.
    """
    X, columns = design.to_numpy(dtype=np.float64), [str(name) for name in design.columns]
    found = {}
    for name, wanted in model.contrasts.items():
        rows = in_columns(wanted.expression, columns, design.attrs.get("terms", {}))
        weights = estimable_rows(X, columns, rows)
        kind = wanted.stat_type or ("t" if len(weights) == 1 else "F")
        if kind == "t" and len(weights) > 1:
            what = f"has {len(weights)} rows, too many for a t."
            raise ContrastError(f"contrast {wanted.expression!r}", what, "Leave stat_type out, for F.")
        found[name] = DesignContrast(expression=wanted.expression, weights=weights, stat_type=kind)
    return found
