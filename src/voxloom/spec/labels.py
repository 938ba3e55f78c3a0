"""Names for people made into labels for file names: letters and digits only, as BIDS wants them."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from voxloom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Signs that carry meaning in a contrast's name are spelled out; every other sign only parts words.
_SPELLED = {"-": "Minus", "+": "Plus", "*": "Times", "/": "Over", ">": "Gt", "<": "Lt", ":": "By"}
_DECIMAL_POINT = re.compile(r"(?<=\d)\.(?=\d)")


def bids_label(name: str) -> str:
    """Label of a contrast or model in file names.

    ``face - house`` gives ``faceMinusHouse``; words are joined in camelCase, their own capitals kept.

    Raises
    ------
    InputError
        Nothing of the name is a letter or digit.
    """
    text = _DECIMAL_POINT.sub("p", unicodedata.normalize("NFKD", name))
    text = "".join(c for c in text if not unicodedata.combining(c))
    for sign, word in _SPELLED.items():
        text = text.replace(sign, f" {word} ")
    first, *rest = re.findall(r"[A-Za-z0-9]+", text) or [""]
    if not re.search(r"[^\W_]", name) or not first:
        raise InputError(name or "name", "has no letter or digit that can stand in a file name.", "Rename it.")
    return str(first) + "".join(word[0].upper() + word[1:] for word in rest)


def require_distinct_labels(names: Iterable[str], where: str) -> dict[str, str]:
    """Labels of all names, by name.

    Raises
    ------
    InputError
        Two names would share a file name; letter case does not tell them apart, as on many file systems.
    """
    labels: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        labels[name] = bids_label(name)
        other = taken.setdefault(labels[name].casefold(), name)
        if other != name:
            raise InputError(
                where,
                f"{other!r} and {name!r} would both be {labels[name]!r} in file names.",
                "Rename one of them.",
            )
    return labels
