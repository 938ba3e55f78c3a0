"""What a first-level fit costs by scans T, regressors K, voxels V and order p: measured, over what it costs on paper.

Paper is the count of floating point operations in docs/design/012-noise-models.md at the rate of the bare product
(K, T) x (T, V), measured beside each fit. 1 is a fit as fast as matrix products alone; a ratio that holds along a curve
says that the count is right. Data are AR(1) noise of 0.4, designs random walks, float64, one thread.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.signal import lfilter

from benchmarks._harness import one_thread, timed
from voxloom.kernels.first_level.glm import fit_ar, fit_ar1, fit_ar1_yule_walker, fit_arma11, fit_ols

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Case(NamedTuple):
    """Scans, regressors, voxels."""

    T: int
    K: int
    V: int

    def __str__(self) -> str:
        return f"T{self.T}_K{self.K}_V{self.V}"


#: Points of the grid a voxel looks at, points a run makes at most, and evaluations of Newton's method.
AR1_POINTS, ARMA_POINTS, ARMA_GRID_POINTS, LOOKS = 50, 80, 622, 6


def pass_flops(T: int, K: int) -> float:
    """Centring, squares, ``[Q, NQ]'y``, and beta of gamma."""
    return 4 * T * K + 8 * T + 2 * K**2


def ar1_flops(T: int, K: int, points: int) -> float:
    """The pass, the grid, and the fit at the point found."""
    return pass_flops(T, K) + points * (6 * K + 16) + 14 * K


def residual_flops(T: int, K: int) -> float:
    """Residuals, projected twice, of unit length; beta of gamma."""
    return 8 * T * K + 12 * T + 2 * K**2


def ar_flops(T: int, K: int, p: int) -> float:
    """Residuals, p lagged products, P sums of squares and what differs at the ends; then an inverse for each look."""
    P = (p + 1) * (p + 2) / 2
    return residual_flops(T, K) + 2 * p * T * K + P * (3 * T + 4 * p * K) + LOOKS * (K**3 + 6 * P * K**2)


def arma_flops(T: int, K: int) -> float:
    """Residuals; then a product, a triangle and a recursion for each point."""
    return residual_flops(T, K) + (ARMA_POINTS + 1) * (2 * T * K + 2 * K**2 + 7 * T) + 2 * K**2


def basis_flops(T: int, K: int) -> float:
    """Singular values and the basis of a design, once."""
    return 6 * T * K**2 + 30 * K**3


def arma_setup_flops(T: int, K: int) -> float:
    """And ``V^-1 Q``, W and its factor at the points of the grid, if all are looked at by some voxel."""
    return basis_flops(T, K) + ARMA_GRID_POINTS * (10 * T * K + 2 * T * K**2 + 2 * K**3 / 3)


class Model(NamedTuple):
    """A fit ``fit(X, Y)``, and its operations per voxel and per design by T and K."""

    fit: Callable[..., Any]
    per_voxel: Callable[[int, int], float]
    per_design: Callable[[int, int], float] = basis_flops


MODELS: Mapping[str, Model] = {
    "ols": Model(fit_ols, pass_flops),
    "ar1-yule-walker": Model(fit_ar1_yule_walker, partial(ar1_flops, points=0)),
    "ar1": Model(fit_ar1, partial(ar1_flops, points=AR1_POINTS)),
    "ar2": Model(partial(fit_ar, 2), partial(ar_flops, p=2)),
    "arma11": Model(fit_arma11, arma_flops, arma_setup_flops),
}
ORDERS: Mapping[str, Model] = {f"ar{p}": Model(partial(fit_ar, p), partial(ar_flops, p=p)) for p in (2, 3, 4, 6, 8)}
CURVES: Mapping[str, Sequence[Case]] = {
    "T": [Case(T, 30, 2048) for T in (150, 300, 600, 1200)],
    "K": [Case(300, K, 2048) for K in (10, 30, 60, 100)],
    "V": [Case(300, 30, V) for V in (512, 2048, 8192)],
    "long": [Case(7000, 100, 256)],
}


def run(repeats: int = 3) -> dict[str, Any]:
    """Every curve; `repeats` fits of each, the long run once."""
    with one_thread():
        results = {
            f"by_{name}": {str(case): _measure(case, MODELS, 1 if name == "long" else repeats) for case in cases}
            for name, cases in CURVES.items()
        }
        case = Case(300, 30, 2048)
        return results | {"by_p": {str(case): _measure(case, ORDERS, repeats)}}


def _measure(case: Case, models: Mapping[str, Model], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds (CPU, median), operations on paper, and the ratio of seconds to those of as many in a bare product."""
    X, Y = _data(case)
    found = {}
    for name, model in models.items():
        model.fit(X, Y[:, :8])  # compiled
        flops = case.V * model.per_voxel(case.T, case.K) + model.per_design(case.T, case.K)
        pairs = [(timed(lambda: model.fit(X, Y)).cpu, _product_seconds(X, Y)) for _ in range(repeats)]  # noqa: B023
        product = 2 * case.T * case.K * case.V
        found[name] = {
            "seconds": median(ours for ours, _ in pairs),
            "paper_gflop": flops / 1e9,
            "measured_over_paper": median(ours / (bare * flops / product) for ours, bare in pairs),
        }
    return found


def _product_seconds(X: np.ndarray, Y: np.ndarray) -> float:
    """CPU time of one bare product, the mean over a tenth of a second."""
    transposed, times = np.ascontiguousarray(X.T), []
    while sum(times) < 0.1:
        times.append(timed(lambda: transposed @ Y).cpu)
    return sum(times) / len(times)


def _data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Design with a constant, and signal (T, V), voxel by voxel in memory as a store gives it."""
    rng = np.random.default_rng(0)
    T, K, V = case
    walks = rng.standard_normal((T, K - 1)).cumsum(axis=0)
    noise = lfilter([1.0], [1.0, -0.4], rng.standard_normal((V, T)), axis=1)
    return np.column_stack([walks, np.ones(T)]), (1000 + 10 * noise).T
