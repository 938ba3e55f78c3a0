"""How many voxels of any set carry signal, at least: closed testing with Simes' test (Rosenblatt et al. 2018).

The bounds hold for all sets at once with probability 1 - alpha, so that sets may be chosen after looking at the map,
when Simes' inequality holds: for independent or positively dependent tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def hommel_value(p: FloatArray, alpha: float) -> int:
    """Size of the largest set of tests that Simes' test does not reject, in O(m log m) (Meijer et al. 2019).

    The largest i for which ``i p_(m - i + j) > j alpha`` for all j from 1 to i: with ``k = m - i + j`` that is, but for
    rounding, ``i (alpha - p_(k)) < alpha (m - k)``, a bound of i by every k.

    Parameters
    ----------
    p : (m,) array
        Without NaN.
    alpha : float
    """
    p, m = np.sort(p), p.size
    behind = np.arange(m - 1, -1, -1)
    below = p < alpha
    with np.errstate(divide="ignore"):
        bounds = alpha * behind[below] / (alpha - p[below])
    i = min(m, int(np.ceil(bounds.min(initial=m))) + 1)
    while i and not np.all(i * p[m - i :] > alpha * np.arange(1, i + 1)):
        i -= 1
    return i


def true_discoveries(p: FloatArray, hommel: int, alpha: float) -> int:
    """Least number of tests with signal in a set: the greatest ``1 - u + #{hommel p <= u alpha}``, u = 1, 2, ...

    Parameters
    ----------
    p : (s,) array
        Of the set.
    hommel : int
        `hommel_value` of all tests.
    alpha : float
    """
    u = np.sort(np.maximum(np.ceil(hommel * p / alpha), 1))
    return int(max(0, (2 - u + np.arange(p.size)).max(initial=0)))
