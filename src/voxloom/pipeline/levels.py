"""What a subject's runs become maps of: the subject, and where wanted each of its sessions; which runs can answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxloom.errors import ContrastError
from voxloom.kernels.expression import contrast_matrix
from voxloom.models.contrasts import estimable_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from voxloom.io.bids.run_table import RunFile
    from voxloom.spec import Contrast


def levels_of(subject: str, runs: Sequence[RunFile], *, sessions: bool) -> dict[str, list[RunFile]]:
    """Runs by the place of their joint maps below the results; the subject first.

    The map of a subject with one session is that of the session: there is none beside it.
    """
    found = {f"subjects/{subject}": list(runs)}
    labels = dict.fromkeys(run.entities.get("ses") for run in runs)
    if not sessions or len(labels) < 2:
        return found
    for label in labels:
        if label is not None:
            found[session_path(subject, label)] = [run for run in runs if run.entities.get("ses") == label]
    return found


def session_path(subject: str, label: str) -> str:
    """Place of the maps of a session; with an empty label what those of all sessions of the subject start with."""
    return f"sessions/{subject}_ses-{label}"


def has_columns(wanted: Contrast, columns: Sequence[str]) -> bool:
    """Whether a design with these columns has those of the contrast."""
    try:
        contrast_matrix(wanted.over(columns), columns)
    except ContrastError:
        return False
    return True


def answerable(contrasts: Mapping[str, Contrast], columns: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Weights of the contrasts whose columns a design has."""
    found = {name: wanted.over(columns) for name, wanted in contrasts.items() if has_columns(wanted, columns)}
    return {name: contrast_matrix(rows, columns) for name, rows in found.items()}


def why_not(wanted: Contrast, design: pd.DataFrame) -> ContrastError | None:
    """What keeps a run of this design from answering a contrast; None where nothing does."""
    columns = [str(name) for name in design.columns]
    try:
        estimable_rows(design.to_numpy(dtype=float), columns, wanted.over(columns))
    except ContrastError as error:
        return error
    return None
