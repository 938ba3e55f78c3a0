"""Digests that name results: equal meaning gives equal text, however it was spelled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

#: Hex digits kept: 48 bits, so a million analyses in one store collide with probability 2e-3.
LENGTH = 12
#: How often the numbers of a stage have changed beyond rounding, the first counted: raised with such a change, so
#: that the results a store holds of before are not taken for those of now. fit 2: R squared is kept with it.
GENERATIONS = {"fit": 2, "contrast": 1, "combine": 1, "group": 1, "infer": 1}
#: The same of fits by noise model, where the numbers of one alone have changed. 2: AR(p) exact across gaps; ARMA(1, 1)
#: with Jeffreys' prior.
NOISE_GENERATIONS = {f"ar{order}": 2 for order in range(2, 9)} | {"arma11": 2}


def canonical(value: Any) -> Any:
    """JSON-able form in which 128 and 128.0, lists and tuples, and any order of keys are the same.

    A path counts by its last name: where a file lies is not what it says. That its content changed is seen
    from the digests of the inputs, which the ledger keeps.
    """
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, PurePath):
        return value.name
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def digest(value: Any) -> str:
    """First `LENGTH` hex digits of the SHA-256 of the canonical JSON of a JSON-able value."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def name_of(stage: str, *parts: Any) -> str:
    """Digest of all that determines the numbers of a stage: these parts, and how it computes them."""
    generation = GENERATIONS[stage]
    return digest([*parts, {"generation": generation}] if generation > 1 else list(parts))
