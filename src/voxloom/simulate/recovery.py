"""How much of a known truth an analysis got back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t as student_t

from voxloom.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """An estimated map against the truth.

    Parameters
    ----------
    n_voxels : int
        Voxels compared: those with a finite estimate in the mask.
    correlation, slope : float
        Of the estimate on the truth of the sample (slope: least squares with an intercept).
    bias, rmse : float
        Mean and root mean square of estimate minus truth of the sample, in the unit of the maps.
    coverage : float
        Share of voxels whose confidence interval holds the truth of the population.
    level : float
        Nominal coverage.
    n_active, n_found, n_false : int
        Voxels active in truth; significant; significant where the population effect is exactly zero.
    dice, sensitivity : float
        Overlap of significant and active voxels: ``2 |both| / (|one| + |other|)``; share of active voxels found.
    alpha : float
        Level of the significance test.
    """

    n_voxels: int
    correlation: float
    slope: float
    bias: float
    rmse: float
    coverage: float
    level: float
    n_active: int
    n_found: int
    n_false: int
    dice: float
    sensitivity: float
    alpha: float

    def __str__(self) -> str:
        rows = {
            "effect on truth": f"slope {self.slope:.3f}, r {self.correlation:.3f}, {self.n_voxels:,} voxels",
            "error": f"bias {self.bias:+.4f}, root mean square {self.rmse:.4f}",
            f"{self.level:.0%} intervals": f"hold the population effect in {self.coverage:.1%} of voxels",
            f"FWE p <= {self.alpha:g}": f"{self.n_found:,} voxels; {self.n_active:,} are active in truth",
            "overlap": f"Dice {self.dice:.2f}, sensitivity {self.sensitivity:.2f}",
            "false positives": f"{self.n_false:,} voxels without any effect",
        }
        return "\n".join(f"{name:<16} {text}" for name, text in rows.items())


def recovery(
    effect: ArrayLike,
    variance: ArrayLike,
    dof: ArrayLike,
    p_fwe: ArrayLike,
    *,
    population: ArrayLike,
    sample: ArrayLike,
    active: ArrayLike,
    mask: ArrayLike = True,
    alpha: float = 0.05,
    level: float = 0.95,
) -> Recovery:
    """Compare an estimated map with the truth it was simulated from.

    Parameters
    ----------
    effect, variance, p_fwe : array
        Group effect, its squared standard error, and family-wise corrected p; NaN where missing.
    dof : float or array
        Degrees of freedom of the t interval.
    population, sample : array
        True effect of the population, and the mean of the true effects of the subjects in the sample.
    active : bool array
        Voxels that should be found.
    mask : bool array
        Voxels to compare.
    alpha, level : float
        Significance level of `p_fwe`, and of the confidence intervals.

    Raises
    ------
    InputError
        For maps of unequal shape, or where no voxel can be compared.
    """
    try:
        maps = np.broadcast_arrays(effect, variance, dof, p_fwe, population, sample, active, mask)
    except ValueError as error:
        raise InputError("recovery", f"the maps do not share one shape ({error}).") from None
    keep = np.isfinite(maps[0]) & np.isfinite(maps[1]) & maps[7].astype(bool)
    if np.count_nonzero(keep) < 3:
        raise InputError("recovery", "fewer than three voxels have an estimate inside the mask.")
    b, s2, df, p, mu, m = (np.asarray(a[keep], dtype=np.float64) for a in maps[:6])
    target, found = maps[6][keep].astype(bool), p <= alpha  # NaN is not significant
    half_width = student_t.ppf(0.5 + level / 2, df) * np.sqrt(s2)
    return Recovery(
        n_voxels=b.size,
        correlation=float(np.corrcoef(m, b)[0, 1]),
        slope=float(np.polyfit(m, b, 1)[0]),
        bias=float((b - m).mean()),
        rmse=float(np.sqrt(((b - m) ** 2).mean())),
        coverage=float((np.abs(b - mu) <= half_width).mean()),
        level=level,
        n_active=int(target.sum()),
        n_found=int(found.sum()),
        n_false=int((found & (mu == 0)).sum()),
        dice=_dice(found, target),
        sensitivity=float(found[target].mean()) if target.any() else float("nan"),
        alpha=alpha,
    )


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
