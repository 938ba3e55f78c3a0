"""Reads an analysis file, YAML or JSON; what is wrong becomes one `InputError` that names the place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from voxloom.errors import InputError
from voxloom.spec.analysis import Analysis
from voxloom.spec.confounds import Confounds
from voxloom.spec.section import first_complaint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema, for 1.1 reads `1e-2` as text, `010` as 8, `no` as false and `1:30` as 90."""


# SafeLoader's own resolvers are YAML 1.1's; `add_implicit_resolver` fills this instead of a copy of them.
_Loader.yaml_implicit_resolvers = {}

for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), list(_first))


def load_analysis(path: str | Path) -> Analysis:
    """Read an analysis file.

    Parameters
    ----------
    path : str or Path
        YAML, or JSON where the name ends in `.json`. Relative paths in it start at its folder.

    Returns
    -------
    Analysis
        Checked and frozen, with full paths; store and output are named after the file where it does not say.

    Raises
    ------
    InputError
        The file cannot be read, or something in it is not as wanted; the message has line and key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(str(path), "no such file.", "`voxloom init` writes a starter file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"cannot be read: {error}.", "A text file in UTF-8 is wanted.") from None
    if path.suffix == ".json":
        raw, node = _parse_json(text, path.name), None
    else:
        raw, node = _parse_yaml(text, path.name)
    return parse_analysis(raw, where=path.name, base=path.parent, name=path.stem, node=node)


def parse_analysis(
    raw: Any,
    *,
    where: str = "analysis",
    base: str | Path | None = None,
    name: str = "analysis",
    node: yaml.Node | None = None,
) -> Analysis:
    """Make an analysis from the mapping a file holds.

    Parameters
    ----------
    raw : mapping
    where : str
        How messages name the source.
    base : path, optional
        Folder at which relative paths start; default the current one.
    name : str
        Name of the analysis, of which store and output take theirs.
    node : yaml.Node, optional
        Parsed YAML, for line numbers in messages.

    Raises
    ------
    InputError
        Something is not as wanted.
    """
    if not isinstance(raw, dict):
        found = "is empty." if raw is None else f"holds a {type(raw).__name__}."
        raise InputError(where, found, "Sections such as `data:` and `first_level:` are wanted.")
    context = {"base": Path(base or Path.cwd()).absolute(), "name": name}
    try:
        return Analysis.model_validate(raw, context=context)
    except ValidationError as error:
        raise _as_input_error(error, raw, where, node) from None


def parse_confounds(raw: Any) -> Confounds:
    """Make confounds from what `first_level.confounds` may hold; raises `InputError` as `parse_analysis` does."""
    try:
        return Confounds.model_validate(raw)
    except ValidationError as error:
        raise _as_input_error(error, raw, "confounds", None) from None


def _as_input_error(error: ValidationError, raw: Any, where: str, node: yaml.Node | None) -> InputError:
    """Make our error of pydantic's first complaint; name the keys of the others."""
    complaints = [_place(details, raw) for details in error.errors()]
    keys = complaints[0]
    line = _line(node, keys)
    _, what, remedy = first_complaint(error)
    others = sorted({_dotted(k) for k in complaints} - {_dotted(keys)})
    if others:
        remedy += f" Also wrong: {', '.join(others)}."
    source = where if line is None else f"{where}:{line}"
    return InputError(f"{source}: {_dotted(keys)}" if keys else source, what, remedy.strip())


def _place(details: ErrorDetails, raw: Any) -> tuple[str | int, ...]:
    """Keys that lead to the place: pydantic's without its names of union members, then the validator's."""
    keys: list[str | int] = []
    value = raw
    for key in details["loc"]:
        found = _step(value, key)
        if found is not None:
            keys.append(key)
            value = found[0]
    if details["type"] == "missing":
        keys.append(details["loc"][-1])
    own = details.get("ctx", {}).get("error")
    if isinstance(own, InputError) and own.where:
        keys += own.where.split(".") if _step(value, own.where) is None else [own.where]
    return tuple(keys)


def _step(value: Any, key: str | int) -> tuple[Any] | None:
    if isinstance(value, dict) and key in value:
        return (value[key],)
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return (value[key],)
    return None


def _dotted(keys: Sequence[str | int]) -> str:
    return ".".join(map(str, keys))


def _line(node: yaml.Node | None, keys: Sequence[str | int]) -> int | None:
    """Find the line of the last key that the file has."""
    line = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(key):
                    line, node = key_node.start_mark.line + 1, value_node
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            node = node.value[key]
            line = node.start_mark.line + 1
    return line


def _parse_yaml(text: str, where: str) -> tuple[Any, yaml.Node | None]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        _refuse_duplicates(node, where)
        return loader.construct_document(node), node
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        source = where if mark is None else f"{where}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(source, f"is not valid YAML: {problem}.", "Check indentation and quotes.") from None
    finally:
        loader.dispose()


def _refuse_duplicates(node: yaml.Node, where: str, path: tuple[str, ...] = ()) -> None:
    """Raise for a key given twice in one mapping; YAML parsers silently keep the last."""
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _refuse_duplicates(item, where, (*path, str(i)))
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        inner = (*path, str(key.value))
        if str(key.value) in seen:
            raise InputError(
                f"{where}:{line}: {_dotted(inner)}",
                f"is given twice, first in line {seen[str(key.value)]}.",
                "Keep one, or rename one.",
            )
        seen[str(key.value)] = line
        _refuse_duplicates(value, where, inner)


def _parse_json(text: str, where: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise InputError(f"{where}: {key}", "is given twice in one object.", "Keep one, or rename one.")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}:{error.lineno}", f"is not valid JSON: {error.msg}.") from None
