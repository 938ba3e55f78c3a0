"""What a group model says of sites that are to be made alike: who is of which, and what is to be kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from voxloom.errors import DesignError
from voxloom.models.group.design import group_design
from voxloom.spec import digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.spec import GroupModel


@dataclass(frozen=True, kw_only=True)
class Harmony:
    """Maps of a model's subjects from which the differences of sites are to be taken.

    Parameters
    ----------
    source, places, rows
        Where the maps lie, as in `GroupTest`.
    labels : tuple of str
        Names of the sites.
    site : (n,) tuple of int
        Of each subject.
    keep : DataFrame
        Covariates whose effects are kept, a row per subject.
    fitted : (n,) tuple of bool
        Whose maps location and scale are learned from.
    """

    source: str
    places: tuple[int, ...] | None
    rows: tuple[int, ...]
    labels: tuple[str, ...]
    site: tuple[int, ...]
    keep: pd.DataFrame
    fitted: tuple[bool, ...]

    @property
    def X(self) -> NDArray[np.float64]:
        """Covariates (n, K)."""
        return self.keep.to_numpy(dtype=np.float64)

    @property
    def n_parameters(self) -> int:
        """Numbers that the maps tell of a voxel: mean and scale, covariates, and three of each site."""
        return 2 + self.keep.shape[1] + 3 * len(self.labels)

    @property
    def settings(self) -> list[object]:
        """JSON-able, for digests."""
        columns = [list(map(str, self.keep.columns)), self.X.tolist()]
        return [self.labels, self.site, columns, self.fitted]


def harmonised(test: GroupTest, model: GroupModel, rows: pd.DataFrame) -> GroupTest:
    """The model on harmonised maps, where it wants these; `rows` are what is known of its subjects.

    Raises
    ------
    DesignError
        A site has fewer than two subjects to learn from.
    """
    wanted = model.harmonise
    if wanted is None:
        return test
    where = f"group.{test.name}.harmonise"
    labels, site = np.unique(np.asarray(test.labels[wanted.site]).astype(str), return_inverse=True)
    fitted = np.ones(len(site), bool) if wanted.fit_to is None else _chosen(test.labels[wanted.fit_to], where)
    few = [str(label) for i, label in enumerate(labels) if (fitted & (site == i)).sum() < 2]
    if few:
        what = f"of {', '.join(few)} there are fewer than 2 subjects to learn from."
        raise DesignError(where, what, "Join or leave out small sites, or choose more to fit to.")
    keep = pd.DataFrame(index=rows.index) if wanted.keep is None else group_design(rows, wanted.keep)
    keep = keep.loc[:, keep[fitted].nunique() > 1]  # the mean of the sites is the constant
    harmony = Harmony(
        source=test.source,
        places=test.places,
        rows=test.rows,
        labels=tuple(map(str, labels)),
        site=tuple(site.tolist()),
        keep=keep,
        fitted=tuple(fitted.tolist()),
    )
    name = digest(["harmonise", test.results])
    return replace(test, source=name, places=None, rows=tuple(range(len(test.rows))), harmony=harmony)


def _chosen(values: tuple[object, ...], where: str) -> NDArray[np.bool_]:
    """Rows of a column of 0 and 1, or of false and true."""
    known = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}
    found = [known.get(str(value).lower()) for value in values]
    if None in found:
        raise DesignError(where, f"fit_to holds {values[found.index(None)]!r}.", "A column of 0 and 1 is wanted.")
    return np.array(found, dtype=bool)


def raw(test: GroupTest) -> GroupTest:
    """The model on the maps as they were before."""
    known = test.harmony
    assert known is not None, "it has harmonised maps"
    return replace(test, source=known.source, places=known.places, rows=known.rows, harmony=None)
