"""Confounds tables of fMRIPrep: read one, choose columns by name or glob, fill what a derivative leaves open.

**The rule for leading `n/a`.** A temporal derivative has no first value, nor have `framewise_displacement`
and `dvars`; fMRIPrep writes `n/a`. They take the first value that follows. nilearn's `load_confounds` does
the same (it copies the second row into the first), so results agree; and unlike a zero the value is no
outlier of columns such as `dvars` that lie far from zero. `n/a` anywhere else is refused.
"""

from __future__ import annotations

import json
import warnings
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from voxloom.errors import InputError, VoxloomWarning
from voxloom.io.tables import read_tsv
from voxloom.spec.confounds import PRESETS
from voxloom.spec.section import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

#: One column per bad volume or component: a clean run has none, so a glob for them may match nothing.
ABSENT_IN_CLEAN_RUNS = ("motion_outlier", "non_steady_state_outlier", "aroma_motion")
_GLOB = frozenset("*?[")


def read_confounds(path: str | Path) -> pd.DataFrame:
    """Read a confounds table, one row per volume.

    Returns
    -------
    DataFrame
        Every column of the file; numeric ones float64 with NaN for `n/a`, others as they are.

    Raises
    ------
    InputError
        The file is missing, empty or no table.
    """
    table = read_tsv(path, remedy="Point data.derivatives at the output of fMRIPrep, or ask for no confounds.")
    numeric = table.select_dtypes("number").columns
    return table.astype(dict.fromkeys(numeric, "float64"))


def sidecar_of(table: str | Path) -> Path | None:
    """The JSON beside a confounds table, where there is one."""
    path = Path(table).with_suffix(".json")
    return path if path.exists() else None


def read_components(table: str | Path) -> dict[str, str | None] | None:
    """CompCor components that the table's sidecar describes, with the mask of each; temporal ones have none.

    Of the sidecar this is all that a strategy needs. None where there is no sidecar.

    Raises
    ------
    InputError
        The sidecar is not a JSON object.
    """
    path = sidecar_of(table)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        return {name: about.get("Mask") for name, about in content.items() if "_comp_cor_" in name}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(str(path), f"is no sidecar: {error}.", "A JSON object of columns is wanted.") from None


def require_rows(table: pd.DataFrame, n_volumes: int, where: str) -> None:
    """Raise `InputError` unless the table has one row per volume."""
    if len(table) != n_volumes:
        raise InputError(
            where,
            f"has {len(table)} rows, but the run has {n_volumes} volumes.",
            "Both must come from one preprocessing; was the image trimmed, or the table of another run?",
        )


def select_confounds(table: pd.DataFrame, columns: Sequence[str], where: str) -> pd.DataFrame:
    """Choose columns and make them fit for a design.

    Parameters
    ----------
    table : DataFrame
        As `read_confounds` gives it, (T, n).
    columns : sequence of str
        Names, or globs such as ``cosine*`` and ``trans_?``; a glob gives its columns in the table's order,
        and a column named twice comes once.
    where : str
        How messages name the table.

    Returns
    -------
    DataFrame
        (T, k) float64, finite. Leading `n/a` are filled with the first value that follows.

    Raises
    ------
    InputError
        A column is absent, not numeric, or missing values beyond its first rows.

    Warns
    -----
    VoxloomWarning
        Names the columns whose first rows were filled.
    """
    names = list(dict.fromkeys(name for wanted in columns for name in _matches(table, wanted, where)))
    chosen = numeric(table, names, where)
    _report_leading(chosen, where)
    return fill_leading(chosen, where)


def numeric(table: pd.DataFrame, names: Sequence[str], where: str) -> pd.DataFrame:
    """Columns as float64; raises `InputError` for one that holds text."""
    text = [name for name in names if not pd.api.types.is_numeric_dtype(table[name])]
    if text:
        raise InputError(where, f"column {text[0]!r} holds text.", "Choose numeric confounds.")
    return table[list(names)].astype("float64")


def fill_leading(chosen: pd.DataFrame, where: str) -> pd.DataFrame:
    """Give what is missing before a column's first value that value; raises `InputError` for any other gap."""
    filled = chosen.where(~_leading(chosen), chosen.bfill())
    bad = ~np.isfinite(filled.to_numpy())
    if bad.any():
        column = int(bad.any(axis=0).argmax())
        rows = np.flatnonzero(bad[:, column])
        raise InputError(
            where,
            f"column {chosen.columns[column]!r} lacks a finite value in {len(rows)} of {len(chosen)} rows, "
            f"first row {rows[0]}.",
            "Only leading n/a can be filled; leave the column out or mend the table.",
        )
    return filled


def _matches(table: pd.DataFrame, wanted: str, where: str) -> list[str]:
    """Names in the table that a name or glob stands for."""
    known = [str(name) for name in table.columns]
    if wanted in known:
        return [wanted]
    found = [name for name in known if fnmatchcase(name, wanted)] if _GLOB & set(wanted) else []
    if not found and not (_GLOB & set(wanted) and wanted.startswith(ABSENT_IN_CLEAN_RUNS)):
        raise InputError(where, f"has no confound {wanted!r}.", did_you_mean(wanted, [*known, *PRESETS]))
    return found


def _leading(chosen: pd.DataFrame) -> pd.DataFrame:
    """What is missing before the first value of a column; an empty column has none."""
    return chosen.isna().cummin() & chosen.notna().any()


def _report_leading(chosen: pd.DataFrame, where: str) -> None:
    leading = _leading(chosen)
    names = [str(name) for name in chosen.columns[leading.any()]]
    if not names:
        return
    rows = int(leading.sum().max())
    warnings.warn(
        f"{where}: n/a in the first {'row' if rows == 1 else f'{rows} rows'} of {', '.join(names)} "
        "filled with the first value that follows.",
        VoxloomWarning,
        stacklevel=3,
    )
