"""Which volumes scrubbing leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def scrub(bad: NDArray[np.bool_], min_length: int) -> NDArray[np.bool_]:
    """Volumes (T,) to keep: those that are not bad, in stretches of at least `min_length`.

    Power et al. (2014), and nilearn's `load_confounds`: a run without bad volumes is kept whole, however short.
    """
    keep = ~np.asarray(bad, dtype=bool)
    if keep.all():
        return keep
    edges = np.flatnonzero(np.diff(keep, prepend=False, append=False))
    for start, stop in zip(edges[::2], edges[1::2]):
        if stop - start < min_length:
            keep[start:stop] = False
    return keep
