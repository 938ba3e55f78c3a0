"""Whose maps a design has: several of one person are no independent people, and a pair needs both of its maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.errors import DesignError
from voxloom.io.bids.participants import listed
from voxloom.kernels.group.influence import ALONE
from voxloom.kernels.linalg import reduce_design

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from voxloom.io.bids.participants import Missing
    from voxloom.spec import GroupModel

PERSON = "participant_id"


def explained(people: NDArray[np.int64], design: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each person's maps have a mean of their own in the design, by number of the person.

    That is so where the indicator of the maps, of squared length n, keeps its length when projected on the design.
    """
    Q = reduce_design(design.to_numpy(dtype=np.float64)).Q
    sums = np.zeros((people.max() + 1, Q.shape[1]))
    np.add.at(sums, people, Q)
    counts = np.bincount(people)
    return np.asarray(np.square(sums).sum(axis=1) > (1 - ALONE) * counts)


def without_unpaired(rows: pd.DataFrame, design: pd.DataFrame, where: str, missing: Missing) -> pd.DataFrame:
    """Rows but for those of people with one map, in a design that has a mean of every person.

    Raises
    ------
    DesignError
        There are such people, and they are not to be dropped.
    """
    if PERSON not in rows:
        return rows
    names, people = np.unique(rows[PERSON].astype(str), return_inverse=True)
    several, own = np.bincount(people) > 1, explained(people, design)
    if not several.any() or not own[several].all():
        return rows
    alone = own & ~several
    if alone.any() and missing == "raise":
        raise DesignError(
            where,
            f"{listed(names[alone].tolist())} have one map, where the design compares those of each person.",
            "Leave them out (missing: drop), or use random-intercept with groups: participant_id.",
        )
    return rows[~alone[people]]


def require_independent(model: GroupModel, rows: pd.DataFrame, design: pd.DataFrame, where: str) -> None:
    """Refuse several maps of one person where neither design nor estimator nor blocks know of it.

    Raises
    ------
    DesignError
        Names the people.
    """
    if PERSON not in rows or model.groups is not None or model.inference.blocks is not None:
        return
    names, people = np.unique(rows[PERSON].astype(str), return_inverse=True)
    doubled = (np.bincount(people) > 1) & ~explained(people, design)
    if doubled.any():
        raise DesignError(
            where,
            f"{listed(names[doubled].tolist())} have several maps each, which count as those of different people.",
            "Keep one map of each, put C(participant_id) into the formula, or give groups: participant_id "
            "to sandwich or random-intercept.",
        )
