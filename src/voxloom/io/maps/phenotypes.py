"""Covariates of given maps: tables of people, of their sessions and of files, joined with maps by what both name.

A table joins by the file of each map where it has a column for it, else by its BIDS entities: `participant_id`,
`session_id` where it has one, and further entities (`task`, `run`, ...) where these do not yet tell its rows apart.
Maps of one 4-D image have no names: they and the rows of a table come in one order.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from voxloom.errors import DesignError, InputError
from voxloom.io.bids.participants import TABLE, listed, read_participants
from voxloom.io.tables import read_tsv
from voxloom.spec.entities import ENTITIES, meaning

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxloom.io.bids.participants import Missing
    from voxloom.io.maps.files import MapFiles

#: Columns that say whose a row is, by the key of the entity in file names.
IDENTITY = {"sub": "participant_id", "ses": "session_id"}
#: Columns of entities by their keys: those of BIDS tables, and long names.
COLUMNS = {key: IDENTITY.get(key, name) for name, key in ENTITIES.items()}
#: Columns of a table of maps that may name their files.
PATH_COLUMNS = ("path", "map", "file")
#: Columns of a table that say which map a row belongs to.
LABEL_COLUMNS = (*PATH_COLUMNS, "participant_id")
_TEXT = (*PATH_COLUMNS, *COLUMNS.values())
_REMEDY = "A table with a row per map, per person or per session is wanted, or a BIDS dataset."


def read_phenotypes(path: Path) -> pd.DataFrame:
    """Read a table of covariates, separated by tabs or, as .csv, by commas.

    Of a BIDS dataset: `participants.tsv`, each row beside those of the person's `sub-*_sessions.tsv`, whose columns
    win.

    Raises
    ------
    InputError
        It cannot be read.
    """
    if not path.is_dir():
        return read_tsv(path, remedy=_REMEDY, as_text=_TEXT)
    people = read_participants(path / TABLE).reset_index()
    tables = {file: read_tsv(file, remedy=_REMEDY, as_text=_TEXT) for file in sorted(path.glob("sub-*/*_sessions.tsv"))}
    for file in tables:
        if "session_id" not in tables[file]:
            raise InputError(str(file), "has no column session_id.", "A row per session is wanted.")
    if not tables:
        return people
    sessions = pd.concat([table.assign(participant_id=file.parent.name) for file, table in tables.items()])
    kept = [name for name in people if name == "participant_id" or name not in sessions]
    return people[kept].merge(sessions, on="participant_id", how="left")


def entities_of(path: Path) -> dict[str, str]:
    """What the name of a map's file and the folders above say, by column; those nearest to the file win."""
    stems = (part.partition(".")[0] for part in path.parts)
    pairs = (pair.split("-", 1) for stem in stems for pair in stem.split("_") if "-" in pair)
    return {COLUMNS[key]: _value(key, value) for key, value in pairs if key in COLUMNS}


def _value(key: str, value: Any) -> str:
    """Value of an entity as tables and formulas have it."""
    text = meaning(key, str(value))
    return f"{key}-{text.removeprefix(f'{key}-')}" if key in IDENTITY else text


def known_of(maps: MapFiles) -> pd.DataFrame:
    """What is known of maps without any table, by their labels: the entities that all of their names have.

    Files that name no subject are each a participant by their own label.
    """
    if len(maps.files) == 1 and len(maps.labels) > 1:
        return pd.DataFrame(index=list(maps.labels))
    rows = pd.DataFrame([entities_of(path) for path in maps.files], index=list(maps.labels))
    rows = rows.loc[:, rows.notna().all()]
    return rows if "participant_id" in rows else rows.assign(participant_id=list(maps.labels))


class Joined(NamedTuple):
    """A table joined with maps.

    Attributes
    ----------
    rows : DataFrame
        A row per map that has one, by its label, in the order of the maps.
    left : tuple of str
        Names in the rows that no map has.
    """

    rows: pd.DataFrame
    left: tuple[str, ...] = ()


def join(known: pd.DataFrame, maps: MapFiles, path: Path, missing: Missing = "raise") -> Joined:
    """Rows of a table for these maps, in their order.

    Parameters
    ----------
    known : DataFrame
        From `known_of`.
    maps : MapFiles
    path : Path
        As `read_phenotypes` takes it.
    missing : {"raise", "drop"}
        What becomes of maps that the table lacks.

    Raises
    ------
    InputError
        A map without a row (names the rows without a map too), or with several; another number of rows where both
        come in one order.
    """
    table = read_phenotypes(path)
    column = next((name for name in LABEL_COLUMNS if name in table), None)
    if column is None or "participant_id" not in known:
        return Joined(_in_order(table, list(known.index), str(path)))
    rows = _by_file(table, column, known, maps, path.parent) if column in PATH_COLUMNS else _by_entities(table, known)
    used = {i for found in rows.values() for i in found}
    left = tuple(str(name) for i, name in enumerate(table[column]) if i not in used)
    _require_one(rows, left, column, str(path), missing)
    found = {label: places[0] for label, places in rows.items() if places}
    return Joined(table.iloc[list(found.values())].set_axis(list(found)), left)


def _in_order(table: pd.DataFrame, labels: Sequence[str], where: str) -> pd.DataFrame:
    if len(table) != len(labels):
        raise DesignError(
            where,
            f"has {len(table)} rows, but there are {len(labels)} maps.",
            f"Give one row per map, in their order, or name them in a column {PATH_COLUMNS[1]}.",
        )
    return table.set_axis(list(labels))


def _by_file(
    table: pd.DataFrame, column: str, known: pd.DataFrame, maps: MapFiles, folder: Path
) -> dict[str, list[int]]:
    """Rows that name each map: its file, its name with or without ending, or its participant."""
    paths: dict[str, list[int]] = {}
    names: dict[str, list[int]] = {}
    for i, value in enumerate(map(str, table[column])):
        paths.setdefault(os.path.abspath(folder / Path(value).expanduser()), []).append(i)
        for name in {value, stem_of(value), _value("sub", value)}:
            names.setdefault(name, []).append(i)
    found = {}
    for label, path, person in zip(known.index, maps.files, known["participant_id"]):
        candidates = (names.get(name) for name in (label, stem_of(path.name), person))
        found[label] = paths.get(os.path.abspath(path)) or next((rows for rows in candidates if rows), [])
    return found


def stem_of(path: str) -> str:
    """Name of a file without folder and ending."""
    return path.rpartition("/")[2].removesuffix(".gz").removesuffix(".nii")


def _by_entities(table: pd.DataFrame, known: pd.DataFrame) -> dict[str, list[int]]:
    """Rows of each map by its entities."""
    keys = [name for name in IDENTITY.values() if name in table and name in known]
    values = {name: _values(table[name], name) for name in COLUMNS.values() if name in table}
    for name in values:
        if pd.DataFrame({key: values[key] for key in keys}).duplicated().any() and name in known and name not in keys:
            keys.append(name)
    places: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(zip(*(values[key] for key in keys))):
        places.setdefault(row, []).append(i)
    wanted = zip(*(_values(known[key], key) for key in keys))
    return {label: places.get(row, []) for label, row in zip(known.index, wanted)}


def _values(column: Iterable[Any], name: str) -> list[str]:
    key = next(key for key, column in COLUMNS.items() if column == name)
    return [_value(key, value) for value in column]


def _require_one(rows: dict[str, list[int]], left: Sequence[str], column: str, where: str, missing: Missing) -> None:
    several = [label for label, found in rows.items() if len(found) > 1]
    if several:
        what = f"{len(rows[several[0]])} rows name the map {several[0]} in the column {column}."
        raise InputError(where, what, "One row per map is wanted.")
    absent = [label for label, found in rows.items() if not found]
    if len(absent) == len(rows):
        what = f"none of its rows names a map; they name {listed(left)} in the column {column}."
        raise InputError(where, what, f"Maps are called {listed(absent, 3)}.")
    if absent and missing == "raise":
        unused = f"; its rows {listed(left)} have no map" if left else ""
        raise InputError(
            where,
            f"no row names the map {listed(absent)} in the column {column}{unused}.",
            "Add their rows, leave these maps out, or say missing: drop.",
        )
