"""Designs of group models: a row per map."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from voxloom.errors import ContrastError, DesignError, VoxloomWarning
from voxloom.glm.designs import design_table

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERCEPT = "intercept"


def make_second_level_design_matrix(
    subjects_label: Sequence[str], confounds: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Design of subjects: their confounds by ``subject_label``, and an intercept at the end.

    Parameters
    ----------
    subjects_label : sequence of str
        In the order of the maps.
    confounds : DataFrame, optional
        With a column ``subject_label``; rows in any order.

    Returns
    -------
    DataFrame
        A row per subject, indexed by label.

    Raises
    ------
    DesignError
        A subject is missing from the table or there twice, or labels repeat.
    """
    labels = [str(label) for label in subjects_label]
    if len(set(labels)) != len(labels):
        raise DesignError("subjects_label", "repeats labels.", "Give every map its own.")
    design = pd.DataFrame(index=pd.Index(labels, name="subject_label"))
    if confounds is not None:
        if "subject_label" not in confounds:
            what = f"has no column 'subject_label'; it has {[str(name) for name in confounds]}."
            raise DesignError("confounds", what, "Add it: labels tell whose row is whose.")
        table = confounds.assign(subject_label=confounds["subject_label"].astype(str)).set_index("subject_label")
        lost = [label for label in labels if label not in table.index]
        if lost or not table.index.is_unique:
            what = f"has no row for {lost}." if lost else "has several rows for one subject."
            raise DesignError("confounds", what, "Give one row per subject.")
        design = design.join(table)
    return design.assign(**{INTERCEPT: 1.0})


def design_of(given: Any, labels: Sequence[str], confounds: pd.DataFrame | None) -> pd.DataFrame:
    """The design as given, from its file, or that of the confounds."""
    if given is None:
        return make_second_level_design_matrix(labels, confounds)
    if confounds is not None:
        warnings.warn("confounds are not used: a design_matrix is given.", VoxloomWarning, stacklevel=3)
    return design_table(given)


def chosen_contrast(chosen: Any, design: pd.DataFrame) -> Any:
    """The contrast; the one column of a design that has no other."""
    if chosen is not None and not (isinstance(chosen, str) and not chosen):
        return chosen
    if design.shape[1] == 1:
        return np.ones(1)
    columns = list(map(str, design.columns))
    raise ContrastError("second_level_contrast", "is missing.", f"The design has several columns: {columns}.")


def with_intercept(design: pd.DataFrame, wanted: bool) -> pd.DataFrame:
    """The design with the constant, where that is wanted and does not lie in it."""
    X = design.to_numpy(dtype=float)
    one = np.ones(len(X))
    held = np.linalg.norm(one - X @ np.linalg.lstsq(X, one)[0]) < 1e-8 * np.sqrt(len(X))
    return design if held or not wanted else design.assign(**{INTERCEPT: 1.0})
