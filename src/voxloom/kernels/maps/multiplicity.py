"""Correction of p over the voxels of a map. Voxels that are NaN are no tests and are not counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def bonferroni(p: FloatArray) -> FloatArray:
    """Family-wise error p of every test: p times the number of tests, at most 1.

    Parameters
    ----------
    p : array
        NaN where there is no test.
    """
    p = np.asarray(p, dtype=np.float64)
    return np.asarray(np.minimum(p * np.isfinite(p).sum(), 1.0))


def fdr(p: FloatArray) -> FloatArray:
    """Benjamini-Hochberg (1995) adjusted p: the least false discovery rate at which a test is rejected.

    ``q_(i) = min over j >= i of m p_(j) / j`` for the m sorted p; valid for independent or positively
    dependent tests.

    Parameters
    ----------
    p : array
        NaN where there is no test.
    """
    return _of_sorted(p, _step_up)


def bky(p: FloatArray) -> FloatArray:
    """Benjamini, Krieger and Yekutieli's (2006) adjusted p, of two stages: the least rate at which a test is rejected.

    At rate a, Benjamini and Hochberg's procedure at ``x = a / (1 + a)`` rejects k of m tests, and at ``x m / (m - k)``
    it rejects those reported. So a test of adjusted p b, b_(k) the k-th in order, is rejected from x on that is at
    least b_(k) and at least ``b (m - k) / m``, for the k that makes x least. Valid for independent tests.

    Parameters
    ----------
    p : array
        NaN where there is no test.
    """
    return _of_sorted(p, _two_stages)


def _of_sorted(p: FloatArray, adjust: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Adjust the p that are tests, given in order; at most 1."""
    p = np.asarray(p, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    tests = np.isfinite(p)
    values = p[tests]
    if not values.size:
        return q
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(values.size)
    adjusted[order] = adjust(values[order])
    q[tests] = np.minimum(adjusted, 1.0)
    return q


def _step_up(p: FloatArray) -> FloatArray:
    steps = p * (p.size / np.arange(1, p.size + 1))
    return np.asarray(np.minimum.accumulate(steps[::-1])[::-1])


def _two_stages(p: FloatArray) -> FloatArray:
    m = p.size
    b = _step_up(p)
    reached, left = np.concatenate([[0.0], b]), 1 - np.arange(m + 1) / m  # by k
    with np.errstate(divide="ignore", invalid="ignore"):
        k = np.searchsorted(reached / left, b)  # the first with b_(k) >= b (m - k) / m: there or just before x is least
        x = np.minimum(reached[k], b * left[np.maximum(k - 1, 0)])
        return np.where(x < 1, x / (1 - x), np.inf)
