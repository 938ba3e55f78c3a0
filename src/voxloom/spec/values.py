"""Values of the analysis file that are more than a number or a string: paths, memory sizes, lists."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from voxloom.errors import InputError

MiB = 2**20
#: One chunk of BOLD (4 MiB), its decoded and working copies and the interpreter do not fit below this.
MIN_MEMORY = 64 * MiB
_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{unit}": base**power
    for unit, base in (("b", 1000), ("ib", 1024))
    for power, prefix in enumerate("kmgt", start=1)
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_bytes(value: int | float | str) -> int:
    """Bytes of a size such as ``512MiB``, ``1.5 GB`` or a plain number of bytes.

    Raises
    ------
    InputError
        The text is no size, or its unit is unknown.
    """
    match = _SIZE.fullmatch(format(value, "f") if isinstance(value, float) else str(value))
    if match is None or match[2].lower() not in _UNITS:
        raise InputError("", f"{value!r} is not an amount of memory.", "Write it as 512MiB or 2GiB.")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _memory(value: Any) -> int:
    size = parse_bytes(value)
    if size < MIN_MEMORY:
        raise InputError("", f"{value!r} is {size} bytes, less than the smallest budget.", "Give at least 64MiB.")
    return size


def absolute(path: Path, info: ValidationInfo) -> Path:
    """Expand `~`, and start a relative path at the folder of the analysis file."""
    base = (info.context or {}).get("base", Path.cwd())
    return Path(os.path.normpath(base / path.expanduser()))


def location(text: str, info: ValidationInfo) -> str:
    """Leave an address (``s3://...``) as it is, make a path absolute."""
    return text if "://" in text else str(absolute(Path(text), info))


def one_or_many(value: Any) -> Any:
    """Make a list of a single value; leave lists and null."""
    return [value] if isinstance(value, (str, int, float, Path)) else value


Name = Annotated[str, Field(min_length=1)]
Words = Annotated[tuple[Name, ...], BeforeValidator(one_or_many, json_schema_input_type=Name | tuple[Name, ...])]
AbsolutePath = Annotated[Path, AfterValidator(absolute)]
Paths = Annotated[
    tuple[AbsolutePath, ...], BeforeValidator(one_or_many, json_schema_input_type=Path | tuple[Path, ...])
]
Location = Annotated[str, AfterValidator(location)]
Memory = Annotated[int, BeforeValidator(_memory, json_schema_input_type=int | str)]
