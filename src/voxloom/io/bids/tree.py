"""Files of one BIDS dataset by their entities, and the inheritance principle.

A walk with `os.walk` and `str.split` rather than `bids2table.index_dataset`: for 16,000 files it takes 0.08 s
and 30 MB against 1.3 s and 147 MB; it keeps `run-01` as written, where the other makes it 1; it sees folders
such as `ds114_R2.0.1`, which the other takes for files; and it keeps no process-wide cache that outlives an
edited sidecar. The tests compare both.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloom.errors import InputError
from voxloom.spec.entities import ENTITIES, meaning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Entities that tell versions of one recorded run apart; all others say which run it is.
VERSION_ENTITIES = frozenset({"space", "cohort", "res", "den", "label", "desc", "hemi", "echo", "part"})
_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_ORDER = {key: i for i, key in enumerate(ENTITIES.values())}


@dataclass(frozen=True)
class BIDSFile:
    """A file and what its name says.

    Parameters
    ----------
    path : Path
    entities : dict of str to str
        Values as written, by their keys in the name (`sub`, `ses`, ...).
    suffix : str
        Last part of the name before the extension, such as `bold`.
    extension : str
        With its dot; `.nii.gz` is one extension.
    """

    path: Path
    entities: dict[str, str]
    suffix: str
    extension: str

    @property
    def run_id(self) -> str:
        """Entities that say which run this is, such as `sub-01_task-x_run-1`."""
        keys = [key for key in self.entities if key not in VERSION_ENTITIES]
        keys.sort(key=lambda key: (_ORDER.get(key, len(_ORDER)), key))
        return "_".join(f"{key}-{self.entities[key]}" for key in keys)


def parse_name(path: Path) -> BIDSFile:
    """Take a file name apart; parts that are no `key-value` pair are passed over."""
    stem, dot, extension = path.name.partition(".")
    *pairs, suffix = stem.split("_")
    entities = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    return BIDSFile(path, entities, suffix, dot + extension)


#: Files of one kind by the keys in their names, then by the values: which of thousands apply to a run is looked up.
Named = dict[frozenset[str], dict[frozenset[tuple[str, str]], list[BIDSFile]]]


def _values(keys: frozenset[str], entities: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((key, meaning(key, entities[key])) for key in keys)


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Key that sorts `run-2` before `run-10`."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part]


@dataclass
class BIDSTree:
    """One dataset, raw or derived.

    Parameters
    ----------
    root : Path

    Raises
    ------
    InputError
        There is no such folder.
    """

    root: Path
    _folders: dict[Path, dict[tuple[str, str], Named]] = field(default_factory=dict, repr=False)
    _json: dict[Path, dict[str, Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise InputError(str(self.root), "no such folder.", "Check data.bids_dir and data.derivatives.")

    @cached_property
    def files(self) -> list[BIDSFile]:
        """Every named file below the subjects, sorted; datasets nested in `derivatives/` are not part."""
        subjects = [name for name in os.listdir(self.root) if _SUBJECT.fullmatch(name)]
        return [file for name in sorted(subjects, key=natural_key) for file in self._below(self.root / name)]

    @staticmethod
    def _below(folder: Path) -> Iterator[BIDSFile]:
        for parent, folders, names in os.walk(folder, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.startswith("sub-"):
                    yield parse_name(Path(parent, name))

    def select(self, suffixes: tuple[str, ...], extensions: tuple[str, ...]) -> list[BIDSFile]:
        """Files with one of these suffixes and extensions."""
        return [file for file in self.files if file.suffix in suffixes and file.extension in extensions]

    def inherited(self, folder: Path, suffix: str, extension: str, entities: Mapping[str, str]) -> list[BIDSFile]:
        """Files that apply to a file with these entities by the inheritance principle, the nearest first.

        Parameters
        ----------
        folder : Path
            Where the file lies, relative to the root.
        suffix, extension : str
        entities : mapping of str to str
            A file applies when all its entities are among these.
        """
        found: list[BIDSFile] = []
        for relative in (folder, *folder.parents):
            here: list[BIDSFile] = []
            for keys, named in self._folder(self.root / relative).get((suffix, extension), {}).items():
                if entities.keys() >= keys:
                    here += named.get(_values(keys, entities), ())
            found += sorted(here, key=lambda file: (-len(file.entities), file.path.name))
        return found

    def metadata(self, folder: Path, suffix: str, entities: Mapping[str, str]) -> dict[str, Any]:
        """Sidecar of a file, the nearest JSON prevailing key by key."""
        merged: dict[str, Any] = {}
        for file in reversed(self.inherited(folder, suffix, ".json", entities)):
            merged |= self._read_json(file.path)
        return merged

    def _folder(self, path: Path) -> dict[tuple[str, str], Named]:
        """Files right in a folder, by suffix and extension, then by what their names say."""
        if path not in self._folders:
            kinds = self._folders[path] = {}
            for name in sorted(os.listdir(path)) if path.is_dir() else ():
                if "." in name:
                    file = parse_name(path / name)
                    keys = frozenset(file.entities)
                    named = kinds.setdefault((file.suffix, file.extension), {}).setdefault(keys, {})
                    named.setdefault(_values(keys, file.entities), []).append(file)
        return self._folders[path]

    def _read_json(self, path: Path) -> dict[str, Any]:
        if path not in self._json:
            try:
                value = json.loads(path.read_text(encoding="utf-8-sig"))
            except (OSError, ValueError) as error:
                raise InputError(str(path), f"is not valid JSON: {error}.", "Mend or remove it.") from None
            if not isinstance(value, dict):
                raise InputError(str(path), "holds no JSON object.", "A sidecar is {key: value}.")
            self._json[path] = value
        return self._json[path]
