"""Small-sample covariances of one design, kept for the next contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from voxloom.kernels.first_level.dof import SmallSample

Case = TypeVar("Case")

#: Bytes of pieces that are kept: those of all values of rho for up to 118 regressors.
PIECES_BYTES = 64 * 2**20


class Pieces(Generic[Case]):
    """`SmallSample` of one design at the noise parameters asked for so far.

    Contrasts of one run are asked for one after the other; the pieces (3 r^2 numbers and more, 0.3 ms each for
    AR(1) with 300 scans and 30 regressors) do not depend on them. Kept within `PIECES_BYTES`.

    Parameters
    ----------
    make : callable
        ``make(case)`` gives the pieces of a case.
    """

    def __init__(self, make: Callable[[Case], SmallSample]) -> None:
        self._make = make
        self._at: dict[Case, SmallSample] = {}

    def at(self, case: Case) -> SmallSample:
        """Pieces of a case."""
        if case in self._at:
            return self._at[case]
        pieces = self._make(case)
        if (len(self._at) + 1) * sum(piece.nbytes for piece in pieces) <= PIECES_BYTES:
            self._at[case] = pieces
        return pieces
