"""Tables as BIDS writes them, with tabs, or with commas: `n/a` is missing, and nothing else is guessed."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import pandas as pd

from voxloom.errors import InputError

#: BIDS knows `n/a`; NA and NaN come from R and Python. pandas' own list also takes "None" and "null", which
#: are names of conditions.
MISSING = ("n/a", "N/A", "NA", "NaN", "nan", "")
#: Separators and their names by the ending of a file's name; all others have tabs.
COMMAS = {".csv": (",", "commas")}


def read_tsv(path: str | Path, *, remedy: str, as_text: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table with one header line.

    Parameters
    ----------
    path : str or Path
        Values are separated by commas in a `.csv`, else by tabs.
    remedy : str
        What the user should do where the file is missing or empty.
    as_text : tuple of str
        Columns whose values are names even where they look like numbers.

    Raises
    ------
    InputError
        The file is missing, unreadable, empty, or names a column twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(str(path), "no such file.", remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"cannot be read: {error}.", "A text file in UTF-8 is wanted.") from None
    if not text.strip():
        raise InputError(str(path), "is empty.", remedy)
    separator, named = COMMAS.get(path.suffix.lower(), ("\t", "tabs"))
    header = [name.strip() for name in next(csv.reader([text.splitlines()[0]], delimiter=separator))]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(str(path), f"has several columns named {', '.join(twice)}.", "Keep one of each.")
    try:
        with warnings.catch_warnings():
            # rows longer than the header would lose their last values with a warning only
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = _parse(path, header, separator, as_text)
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
        raise InputError(
            str(path), f"is no table: {str(error).strip()}.", f"Columns are separated by {named}."
        ) from None
    # between two stray quotes whole rows are taken for one value
    if '"' in text and any("\n" in str(value) for name in header for value in table[name]):
        raise InputError(str(path), "has a quoted value that runs over the end of its line.", "Mend the quotes.")
    return table


def _parse(path: Path, header: list[str], separator: str, as_text: tuple[str, ...]) -> pd.DataFrame:
    table = pd.read_csv(
        path,
        sep=separator,
        names=header,
        skiprows=1,
        index_col=False,
        dtype=str,
        keep_default_na=False,
        na_values=list(MISSING),
        encoding="utf-8-sig",
    )
    return pd.DataFrame({name: table[name] if name in as_text else _numbers(table[name]) for name in header})


def _numbers(column: pd.Series[str]) -> pd.Series[str] | pd.Series[int] | pd.Series[float]:
    """Make the column int64 or float64 where every value is a number.

    Python's own conversion is exact; pandas' default parser is now and then off in the last place.
    """
    known = column.dropna()
    # Python reads 1_0 as 10
    if known.str.contains("_", regex=False).any():
        return column
    for kind in ("int64", "float64"):
        try:
            values = pd.Series(known.to_numpy(dtype=object).astype(kind), index=known.index)
        except (ValueError, OverflowError):
            continue
        return values if len(values) == len(column) > 0 else values.astype("float64").reindex(column.index)
    return column
