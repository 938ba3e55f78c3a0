"""JSON documents that hold a checksum of themselves, so that every flipped byte is found, in white space too.

The checksum is the crc32c of the document's bytes with zeros in its own place. It speaks of the bytes, not of what
they mean: no canonical form of JSON is needed, and a check costs a search and a pass, not a parse.
"""

from __future__ import annotations

import re

import google_crc32c

from voxloom.errors import CorruptionError

KEY = "voxloom_crc32c"
#: Entry that a document must hold, once, to be sealed.
BLANK = {KEY: "00000000"}
_ENTRY = re.compile(rb'"voxloom_crc32c": "([0-9a-f]{8})"')


def seal(text: bytes) -> bytes:
    """Fill in the checksum of a JSON text that holds the entry `BLANK` once, at any depth."""
    (place,) = _ENTRY.finditer(text)
    return text[: place.start(1)] + _checksum(text) + text[place.end(1) :]


def is_sealed(raw: bytes) -> bool:
    """Whether the bytes are those that `seal` gave."""
    found = list(_ENTRY.finditer(raw))
    if len(found) != 1:
        return False
    start, end = found[0].span(1)
    return raw[start:end] == _checksum(raw[:start] + b"00000000" + raw[end:])


def require_sealed(raw: bytes, where: str) -> None:
    """Raise `CorruptionError` for the document `where` unless it is what was written."""
    if not is_sealed(raw):
        raise CorruptionError(
            where,
            "does not match its checksum, or has none.",
            "Run `voxloom verify --repair` on the analysis. "
            "Metadata of stores of schema 1 have no checksum: give such an analysis another `store:`.",
        )


def _checksum(blank: bytes) -> bytes:
    value: int = google_crc32c.value(blank)
    return f"{value:08x}".encode()
