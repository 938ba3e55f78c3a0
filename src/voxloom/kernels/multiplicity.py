"""Correction of p over the voxels of a map. Voxels that are NaN are no tests and are not counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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
    p = np.asarray(p, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    tests = np.isfinite(p)
    values = p[tests]
    order = np.argsort(values, kind="stable")
    steps = values[order] * (values.size / np.arange(1, values.size + 1))
    adjusted = np.empty(values.size)
    adjusted[order] = np.minimum.accumulate(steps[::-1])[::-1]
    q[tests] = np.minimum(adjusted, 1.0)
    return q
