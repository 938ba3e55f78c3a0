"""Stationary AR(p) in series with scans left out: its precision matrix is a quadratic form in the filter.

With ``w = (1, -phi_1, ..., -phi_p)`` the precision matrix of unit innovation variance is ``D(w) = sum_{i<=j} w_i w_j
S_ij``, exactly, for series of p scans or more (Box and Jenkins, Time Series Analysis, A7.4; Siddiqui 1958). S_ij
joins scans j - i apart that have i scans before them and i behind (once for i = j): ``y'S_ij y`` sums ``y_t y_{t+j-i}``
over n - i - j scans, doubled for i < j. So every product that a fit needs is a combination of ``(p+1)(p+2)/2`` that do
not know phi. `kernels.noise.lags` is the case p = 1, in a form that is faster still.

Scans that are left out have a regressor each that is 1 there, and data of 0: what is then left of the whole series, and
its restricted likelihood, is that of the scans that are kept (`kernels.noise.ar_solve`).

Phi is stationary where its partial autocorrelations lie within (-1, 1); these are free of each other, phi are not.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations_with_replacement, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import DesignError
from voxloom.kernels.noise.lags import LagDesign, lag_design
from voxloom.kernels.noise.segments import segments_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Highest order on offer; 3 to 6 are in use (AFNI, SPM's FAST reaches further by another way).
MAX_ORDER = 8
#: Partial autocorrelations are kept within this, as rho of AR(1) is.
MOST = 0.99


class Pairs(NamedTuple):
    """The pairs i <= j of lags up to p, and derivatives of ``w_i w_j``.

    Attributes
    ----------
    i, j : (P,) arrays of int
    first : (P, p + 1, p) array
        ``d(w_i w_j)/dphi_k = first[:, :, k] @ w``.
    second : (P, p, p) array
        Their second derivatives.
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    first: FloatArray
    second: FloatArray


@lru_cache
def pairs(order: int) -> Pairs:
    """Pairs of lags of AR(`order`)."""
    ij = np.array(list(combinations_with_replacement(range(order + 1), 2)))
    first, second = np.zeros((len(ij), order + 1, order)), np.zeros((len(ij), order, order))
    for pair, (i, j) in enumerate(ij):
        for a, b in ((i, j), (j, i)):
            if a > 0:
                first[pair, b, a - 1] -= 1.0
            if a > 0 and b > 0:
                second[pair, a - 1, b - 1] += 1.0
    return Pairs(ij[:, 0], ij[:, 1], first, second)


def filters(phi: FloatArray) -> FloatArray:
    """``w`` (n, p + 1) of phi (n, p)."""
    return np.concatenate([np.ones((len(phi), 1)), -phi], axis=1)


def coefficients(phi: FloatArray) -> FloatArray:
    """``w_i w_j`` (n, P) of phi (n, p)."""
    w, of = filters(phi), pairs(phi.shape[1])
    return np.asarray(w[:, of.i] * w[:, of.j])


def partial_autocorrelations(phi: FloatArray) -> FloatArray:
    """Partial autocorrelations (n, p) of phi (n, p); where any is beyond +-1, phi is not stationary."""
    rest, partial = phi.copy(), np.empty_like(phi)
    for k in reversed(range(phi.shape[1])):
        last = rest[:, k : k + 1].copy()
        partial[:, k : k + 1] = last
        with np.errstate(divide="ignore", invalid="ignore"):
            rest[:, :k] = (rest[:, :k] + last * rest[:, :k][:, ::-1]) / (1.0 - last**2)
    return partial


def from_partial(partial: FloatArray) -> FloatArray:
    """Phi (n, p) with these partial autocorrelations (Durbin and Levinson)."""
    phi = partial.copy()
    for k in range(1, partial.shape[1]):
        phi[:, :k] -= partial[:, k : k + 1] * phi[:, :k][:, ::-1].copy()
    return phi


def autocorrelations(phi: FloatArray) -> FloatArray:
    """Autocorrelations (n, p) at lags 1 to p of phi (n, p)."""
    partial = partial_autocorrelations(phi)
    rho = np.ones((len(phi), phi.shape[1] + 1))
    for k in range(1, phi.shape[1] + 1):
        rho[:, k] = np.sum(from_partial(partial[:, :k]) * rho[:, :k][:, ::-1], axis=1)
    return rho[:, 1:]


def from_autocorrelations(rho: FloatArray, most: float = MOST) -> FloatArray:
    """Phi (n, p) with these autocorrelations (n, p), partial ones cut at +-`most`."""
    partial, phi, left = np.empty_like(rho), rho[:, :0], np.ones(len(rho))
    for k in range(rho.shape[1]):
        part = (rho[:, k] - np.sum(phi * rho[:, :k][:, ::-1], axis=1)) / left
        partial[:, k] = np.clip(part, -most, most)
        phi = from_partial(partial[:, : k + 1])
        left = left * (1 - partial[:, k] ** 2)
    return phi


def is_stationary(phi: FloatArray) -> NDArray[np.bool_]:
    """Where all partial autocorrelations of phi (n, p) lie within `MOST`; step by step, so NaN is False."""
    inside = np.abs(partial_autocorrelations(phi)) <= MOST
    return np.asarray(inside.all(axis=1))


class Series(NamedTuple):
    """The whole series that rows are taken from, those of several runs behind each other.

    Attributes
    ----------
    starts : (S,) array of int
        First scan of each.
    n_scans : int
    kept, missing : (T,), (m,) arrays of int
        Scans that are rows, and those that were left out between them.
    """

    starts: IntArray
    n_scans: int
    kept: IntArray
    missing: IntArray


def series_of(steps: IntArray) -> Series:
    """Series of rows that lie so many scans behind the row before; 0 begins another series."""
    kept = np.cumsum(np.maximum(steps, 1)) - 1
    n_scans = int(kept[-1]) + 1
    return Series(kept[steps == 0], n_scans, kept, np.setdiff1d(np.arange(n_scans), kept))


def require_scans(order: int, series: Series, where: str = "noise_model") -> None:
    """Raise `DesignError` unless every series has as many scans as the order."""
    shortest = int(np.diff(np.append(series.starts, series.n_scans)).min())
    if shortest < order:
        raise DesignError(
            where,
            f"AR({order}) needs series of {order} volumes, but the shortest has {shortest}.",
            "Take a lower order, ar1 or arma11.",
        )


def pair_weights(order: int, series: Series) -> FloatArray:
    """Rows of S_ij, (P, n_scans): the weight that joins scan t with scan t + j - i.

    Raises
    ------
    DesignError
        Where a series is shorter than the order.
    """
    require_scans(order, series)
    of, bounds = pairs(order), np.append(series.starts, series.n_scans)
    weights = np.zeros((len(of.i), series.n_scans))
    for pair, (i, j) in enumerate(zip(of.i, of.j)):
        k = int(j - i)
        for a, b in pairwise(bounds):
            weights[pair, a : b - k] = 1.0
            weights[pair, a : a + i] -= 1.0
            weights[pair, b - k - i : b - k] -= 1.0
    return weights


def couple(F: FloatArray, weights: FloatArray, k: int) -> FloatArray:
    """``S F`` for F (T, n) and an S that joins rows k apart with these weights (T,)."""
    if k == 0:
        return np.asarray(weights[:, None] * F)
    out = np.zeros_like(F)
    out[:-k] = weights[:-k, None] * F[k:]
    out[k:] += weights[:-k, None] * F[:-k]
    return out


class GramParts(NamedTuple):
    """``basis' S_ij basis`` in parts.

    Attributes
    ----------
    rows : (P, r, r) array
        Among the columns of Q.
    across : (P, m, r) array
        Of the scans that were left out with Q.
    bands : (P, m, p + 1) array
        Among those scans: lower diagonals as in `kernels.noise.banded`, for S_ij joins none that are further than p
        apart.
    """

    rows: FloatArray
    across: FloatArray
    bands: FloatArray


def _parts(Q: FloatArray, series: Series, weights: FloatArray, lags: IntArray) -> GramParts:
    """`GramParts` from Q (n_scans, r), 0 at scans that were left out."""
    missing = series.missing
    place = np.full(series.n_scans, -1)
    place[missing] = np.arange(missing.size)
    rows = np.empty((len(lags), Q.shape[1], Q.shape[1]))
    across, bands = np.empty((len(lags), missing.size, Q.shape[1])), np.zeros((len(lags), missing.size, lags.max() + 1))
    for pair, k in enumerate(lags):
        S_Q = couple(Q, weights[pair], k)
        gram = Q.T @ S_Q
        rows[pair], across[pair] = (gram + gram.T) / 2, S_Q[missing]
        later = missing[(missing >= k) & (place[missing - k] >= 0)]
        bands[pair, place[later], place[later] - place[later - k]] = weights[pair, later - k]
    return GramParts(rows, across, bands)


class ArDesign(NamedTuple):
    """A design with all that its AR(p) fits share.

    Attributes
    ----------
    base : LagDesign
        Of the rows.
    order : int
    series : Series
    weights : (P, n_scans) array
        `pair_weights`.
    lagged : (p, T, r) array
        ``N_k Q`` at the rows: scans k apart within a series, both ways.
    ends : (m,) array of int
        The p scans at either end of each series.
    at_ends : (P, m, r) array
        ``(N_{j-i} - S_ij) Q`` on these scans; it is 0 elsewhere.
    gram : GramParts
    corner : (P, p, p) array
        S_ij of a series of p scans: ``log|D|`` is that of p scans, in every series.
    expected : (p + 1, p + 1) array
        Takes autocovariances at lags 0 to p to the expected sums of lagged products of residuals, were those beyond 0.
    """

    base: LagDesign
    order: int
    series: Series
    weights: FloatArray
    lagged: FloatArray
    ends: IntArray
    at_ends: FloatArray
    gram: GramParts
    corner: FloatArray
    expected: FloatArray

    @property
    def size(self) -> int:
        """Columns of the whole basis, r + m."""
        return self.base.rank + self.series.missing.size

    @property
    def basis(self) -> FloatArray:
        """The whole basis (n_scans, r + m): Q at the rows, and a column that is 1 for each scan that was left out."""
        basis = np.zeros((self.series.n_scans, self.size))
        basis[self.series.kept, : self.base.rank] = self.base.Q
        basis[self.series.missing, np.arange(self.base.rank, self.size)] = 1.0
        return basis


def ar_design(X: ArrayLike, order: int, scans: ArrayLike | None, n_rows: int) -> ArDesign:
    """Prepare AR(`order`) fits of the design X (T, K).

    Raises
    ------
    DesignError
        As `lag_design` and `pair_weights`.
    """
    base = lag_design(X, segments_of(scans, n_rows, stationary=True))
    series, of = series_of(base.segments.steps), pairs(order)
    weights = pair_weights(order, series)
    lags = of.j - of.i
    Q = np.zeros((series.n_scans, base.rank))
    Q[series.kept] = base.Q
    whole = np.array([weights[np.flatnonzero((of.i == 0) & (of.j == k))[0]] for k in range(order + 1)])
    near = np.arange(order)
    bounds = pairwise(np.append(series.starts, series.n_scans))
    ends = np.unique([np.concatenate([a + near, b - 1 - near]) for a, b in bounds])
    lagged = np.array([couple(Q, whole[k], k)[series.kept] for k in range(1, order + 1)])
    held = np.isin(np.arange(series.n_scans), series.kept)
    n_pairs = [row @ (held & np.roll(held, -k)) for k, row in enumerate(whole)]
    short = pair_weights(order, series_of(np.minimum(near, 1)))
    return ArDesign(
        base=base,
        order=order,
        series=series,
        weights=weights,
        lagged=lagged,
        ends=ends,
        at_ends=np.array([couple(Q, whole[k] - weights[pair], k)[ends] for pair, k in enumerate(lags)]),
        gram=_parts(Q, series, weights, lags),
        corner=np.array([couple(np.eye(order), row, k) for row, k in zip(short, lags)]),
        expected=_expected(base.Q, lagged, np.array(n_pairs)),
    )


def _expected(Q: FloatArray, lagged: FloatArray, n_pairs: FloatArray) -> FloatArray:
    """`ArDesign.expected`, ``tr(M N_k M N_l)`` with M that takes Q out (Worsley 2002)."""
    both = [Q, *lagged]
    outer = np.array([[np.vdot(a, b) for b in both] for a in both])
    inner = [Q.T @ one for one in both]
    crossed = np.array([[np.vdot(a, b.T) for b in inner] for a in inner])
    own = n_pairs * np.where(np.arange(len(both)) == 0, 1.0, 2.0)
    return np.asarray(np.diag(own) - 2 * outer + crossed)
