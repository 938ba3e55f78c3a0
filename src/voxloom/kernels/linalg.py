"""Rank, once: every model turns its design into an orthonormal basis here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import svd

from voxloom.errors import DesignError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: Directions of a design (columns at unit norm) whose singular value is below this share of the largest are
#: dependent. Confounds read from a TSV repeat each other to about 1e-10; what is kept stays good to 1e-7.
RANK_RTOL = 1e-9
#: A row of contrast weights is in the row space of the design when it is to this share of its length.
ESTIMABLE_RTOL = 1e-6
#: Residuals below this share of the data's length are rounding: the voxel has no variance to test against.
NO_VARIANCE = 1e-10
#: Voxels that kernels work on at once: (T, 4096) in float64 stays in a core's cache for T of a few hundred.
SUB_BLOCK = 4096


class Basis(NamedTuple):
    """A design X (T, K) of rank r as X = Q @ forward.

    Attributes
    ----------
    Q : (T, r) array
        Orthonormal columns that span those of X.
    back : (K, r) array
        Coefficients of X from those of Q: ``beta = back @ gamma``. For a rank-deficient X this is the
        solution of least norm in units of the column norms; estimable contrasts do not depend on that choice.
    rank : int
    forward : (r, K) array
        ``gamma = forward @ beta``.
    """

    Q: FloatArray
    back: FloatArray
    rank: int
    forward: FloatArray


def reduce_design(X: ArrayLike) -> Basis:
    """Orthonormal basis of the columns of X, with the maps between the two sets of coefficients.

    Columns are brought to unit norm first, so that the rank does not depend on the unit of a confound.

    Parameters
    ----------
    X : (T, K) array_like

    Returns
    -------
    Basis

    Raises
    ------
    DesignError
        Where X is not a matrix or holds a value that is not finite.
    """
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2:
        raise DesignError("design", f"has {X.ndim} dimensions.", "A (rows, columns) matrix is wanted.")
    if not np.isfinite(X).all():
        bad = np.flatnonzero(~np.isfinite(X).all(axis=0)).tolist()
        raise DesignError("design", f"columns {bad} hold values that are not finite.", "Fill or drop them.")
    norm = np.linalg.norm(X, axis=0)
    norm[norm == 0] = 1.0
    U, s, Vt = svd(X / norm, full_matrices=False)
    rank = int(np.sum(s > RANK_RTOL * s[0])) if s.size and s[0] > 0 else 0
    U, s, Vt = U[:, :rank], s[:rank], Vt[:rank]
    Vt[:, ~X.any(axis=0)] = 0.0  # not 1e-17, beside which nothing is small
    return Basis(
        Q=np.ascontiguousarray(U),
        back=(Vt / norm).T / s,
        rank=rank,
        forward=s[:, None] * Vt * norm,
    )


def orth(X: ArrayLike) -> FloatArray:
    """Orthonormal basis (T, r) of the column space of X, by the rank rule of `reduce_design`."""
    return reduce_design(X).Q


def is_estimable(C: ArrayLike, basis: Basis) -> NDArray[np.bool_]:
    """Whether each row of C (q, K) is a combination of the rows of the design.

    Returns
    -------
    (q,) array of bool
        A row of zeros counts as estimable (it says nothing).
    """
    C = np.atleast_2d(np.asarray(C, dtype=np.float64))
    norm = np.linalg.norm(basis.forward, axis=0)
    norm[norm == 0] = 1.0
    lost = (C - (C @ basis.back) @ basis.forward) / norm
    # a column of zeros in X has no norm left to compare with: any weight on it is lost
    length = np.linalg.norm(C / norm, axis=1)
    return np.asarray(np.linalg.norm(lost, axis=1) <= ESTIMABLE_RTOL * length)


def sub_blocks(n_voxels: int, size: int = SUB_BLOCK) -> Iterator[slice]:
    """Slices of `size` voxels at fixed multiples from the start of the voxel axis."""
    return (slice(start, min(start + size, n_voxels)) for start in range(0, n_voxels, size))
