"""Tables of participants: one dataset's, a table of the user's own, or those of all sites joined."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from voxloom.errors import InputError, VoxloomWarning
from voxloom.io.bids.run_table import at_site
from voxloom.io.tables import read_tsv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Column that says from which dataset of several a participant comes.
SITE = "site"
Missing = Literal["raise", "drop"]
TABLE = "participants.tsv"
_REMEDY = "A tab-separated table with a column participant_id (sub-01, ...) is wanted."


def read_participants(path: str | Path, *, by_site: bool = False) -> pd.DataFrame:
    """Read a table of participants.

    Parameters
    ----------
    path : path
        The table (.csv: with commas), or the dataset whose `participants.tsv` it is.
    by_site : bool
        Of a study of several sites: the column `site` says which one a row belongs to.

    Returns
    -------
    DataFrame
        Index `participant_id` (`sub-01`; a missing `sub-` is added; with `by_site`, `site-<name>_sub-01`), missing
        values NaN.

    Raises
    ------
    InputError
        The file is missing or has no `participant_id` (or `site`), or a participant comes twice.
    """
    path = Path(path)
    path = path / TABLE if path.is_dir() else path
    table = read_tsv(path, remedy=_REMEDY, as_text=("participant_id", SITE) if by_site else ("participant_id",))
    for name in ("participant_id", SITE) if by_site else ("participant_id",):
        if name not in table:
            remedy = _REMEDY if name == "participant_id" else "With data.sites, each row names its site."
            raise InputError(str(path), f"has no column {name}; it has {', '.join(table.columns)}.", remedy)
    ids = table["participant_id"].astype(str)
    ids = ids.where(ids.str.startswith("sub-"), "sub-" + ids)
    sites = table[SITE].astype(str) if by_site else [""] * len(ids)
    table["participant_id"] = [at_site(site, label) for site, label in zip(sites, ids)]
    twice = table["participant_id"][table["participant_id"].duplicated()]
    if len(twice):
        raise InputError(str(path), f"has {twice.iloc[0]} more than once.", "One row per participant is wanted.")
    return table.set_index("participant_id")


def participants_of(
    table: pd.DataFrame, subjects: Sequence[str], where: str, missing: Missing = "raise"
) -> pd.DataFrame:
    """Take the rows of these subjects, in this order.

    Parameters
    ----------
    table : DataFrame
        From `read_participants`.
    subjects : sequence of str
    where : str
        Names the table in an error.
    missing : {"raise", "drop"}
        What becomes of subjects that the table lacks.

    Raises
    ------
    InputError
        Names the subjects that the table lacks, and the rows that no subject has.
    """
    absent = [subject for subject in subjects if subject not in table.index]
    if absent and missing == "raise":
        raise unmatched(where, absent, [str(name) for name in table.index.difference(list(subjects))])
    lacking = set(absent)
    return table.loc[[subject for subject in subjects if subject not in lacking]]


def unmatched(where: str, absent: Sequence[str], others: Sequence[str]) -> InputError:
    """The error for maps without a row in a table, which names the rows without maps too."""
    left = f"; its rows {listed(others)} have no map" if others else ""
    remedy = "Add their rows, leave them out with data.filters, or say missing: drop."
    return InputError(where, f"has no row for {listed(absent)}{left}.", remedy)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Name the first few, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def participants_of_sites(
    datasets: Mapping[str, Path], subjects: Sequence[str], missing: Missing = "raise"
) -> pd.DataFrame:
    """Join the tables of all sites for these subjects, with the site of each.

    Parameters
    ----------
    datasets : mapping of str to Path
        BIDS datasets by the name of the site; one without `participants.tsv` gives its subjects nothing but the site.
    subjects : sequence of str
        `site-<name>_sub-<label>`.
    missing : {"raise", "drop"}
        As in `participants_of`.

    Returns
    -------
    DataFrame
        A row per subject, in this order. `site` is the name in the analysis, in place of a column of that name in a
        dataset; a column that holds text at one site and numbers at another is left out. A warning tells both.

    Raises
    ------
    InputError
        A dataset's table cannot be used, or lacks a subject.
    """
    tables = {site: _of_site(site, root, subjects, missing) for site, root in datasets.items()}
    joined = pd.concat(tables.values())
    for name in joined.columns:
        kinds = {site: table[name].dtype.kind for site, table in tables.items() if _has(table, name)}
        if "O" in kinds.values() and set(kinds.values()) != {"O"}:
            text = [site for site, kind in kinds.items() if kind == "O"]
            _warn(f"`{name}` is left out: it holds text at {', '.join(text)} and numbers at the other sites")
            joined = joined.drop(columns=name)
    return joined.loc[[subject for subject in subjects if subject in joined.index]]


def _of_site(site: str, root: Path, subjects: Sequence[str], missing: Missing) -> pd.DataFrame:
    """Rows of one site's subjects."""
    wanted = [subject for subject in subjects if subject.startswith(f"{at_site(site, '')}")]
    table = pd.DataFrame(index=pd.Index(wanted, name="participant_id"))
    if (root / TABLE).exists():
        found = read_participants(root)
        if SITE in found:
            _warn(f"the column `{SITE}` of {root / TABLE} gives way to the names under data.sites")
        found = found.rename(index=lambda label: at_site(site, label))
        table = participants_of(found, wanted, str(root / TABLE), missing)
    return table.assign(**{SITE: site})


def _has(table: pd.DataFrame, name: str) -> bool:
    return name in table and bool(table[name].notna().any())


def _warn(what: str) -> None:
    warnings.warn(f"participants: {what}", VoxloomWarning, stacklevel=3)
