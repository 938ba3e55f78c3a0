"""Maps that cannot be what was meant: without a value, 0 everywhere, or given twice."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.models.group.design import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class MapChecks:
    """Looks at maps stretch by stretch of their voxels, and says at the end what is wrong with them.

    Parameters
    ----------
    names : sequence of str
        Of the maps.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.with_values = np.zeros(len(self.names), bool)
        self.not_zero = np.zeros(len(self.names), bool)
        self.digests = [blake2b(digest_size=16) for _ in self.names]
        self.n_voxels = 0

    def see(self, Y: NDArray[Any]) -> None:
        """Take in a stretch of voxels (n, V)."""
        self.n_voxels += Y.shape[1]
        for i, row in enumerate(Y):
            finite = np.isfinite(row)
            self.with_values[i] |= finite.any()
            self.not_zero[i] |= np.any(row[finite])
            self.digests[i].update(row.tobytes())

    def require_sound(self) -> None:
        """Raise `InputError` that names the maps at fault; two equal maps of a single voxel are not suspicious."""
        for sound, what in ((self.with_values, "hold no number"), (self.not_zero, "are 0 everywhere")):
            if not sound.all():
                faulty = [name for name, good in zip(self.names, sound) if not good]
                raise InputError("maps", f"{listed(faulty)} {what}.", "Leave them out, with their rows of the design.")
        first: dict[bytes, str] = {}
        for name, digest in zip(self.names, self.digests):
            other = first.setdefault(digest.digest(), name)
            if other is not name and self.n_voxels > 1:
                raise InputError("maps", f"{name} is {other} again, value by value.", "Give every map once.")
