"""Pseudo-t: the effect over the root of a variance that is smoothed over neighbouring voxels (Holmes et al. 1996).

With few maps the variance of a voxel is noisy, and a small one makes a large t. Its average over a neighbourhood has
more degrees of freedom; how many is not known, so there is no parametric p or z, and only permutation can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.kernels.residuals import residuals
from voxloom.kernels.smooth import smooth_within
from voxloom.kernels.stat_maps import PERMUTATIONS, share_maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation import Projections
    from voxloom.kernels.rearrange import IndexArray
    from voxloom.models.permutation import PreparedTest
    from voxloom.schema import Grid

    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class SmoothedVariance:
    """A t test whose variance maps are smoothed in every rearrangement; it needs all voxels at once.

    Parameters
    ----------
    test : PreparedTest
    fwhm : float
        Full width at half maximum of the Gaussian, mm (randomise's ``-v`` is its standard deviation, FWHM / 2.355).
    voxel : (V,) array of int
        Flat C-order indices. Only voxels that can be tested count: the smoothing is normalised within them.
    grid : Grid

    Raises
    ------
    InputError
        The test is none of t, or the width is not positive.
    """

    test: PreparedTest
    fwhm: float
    voxel: NDArray[np.int64]
    grid: Grid

    def __post_init__(self) -> None:
        if not self.fwhm > 0:
            raise InputError("variance_smoothing_fwhm", f"is {self.fwhm}.", "A width in mm is wanted.")
        if self.test.stat_type != "t":
            what = f"is for tests of t, but {self.test.contrast!r} is one of {self.test.stat_type}."
            raise InputError("variance_smoothing_fwhm", what, "Test one contrast row, without variance groups.")

    def observed(self, Y: NDArray[Any]) -> FloatArray:
        """Compute pseudo-t of the maps Y (n, V) as they stand, (V,); NaN where a voxel cannot be tested."""
        identity = np.arange(1, len(Y) + 1, dtype=np.int32)[np.newaxis]
        return np.asarray(self._pseudo_t(Y, identity, self.test.as_observed)[0])

    def rearranged(self, Y: NDArray[Any], *, start: int = 0, stop: int | None = None) -> FloatArray:
        """Compute pseudo-t of every voxel under rearrangements `start` to `stop` - 1, (P, V), as `rearranged_stat`."""
        stop = self.test.n_perm if stop is None else stop
        stat = np.empty((stop - start, Y.shape[1]))
        for i in range(start // PERMUTATIONS * PERMUTATIONS, stop, PERMUTATIONS):
            indices = self.test.rearrangements.draw(i, min(i + PERMUTATIONS, stop))
            maps = self._pseudo_t(Y, indices, self.test.model)
            stat[max(i - start, 0) : i - start + len(indices)] = maps[max(start - i, 0) :]
        if start == 0 and self.test.apart and stop:
            stat[0] = self.observed(Y)
        return stat

    def _pseudo_t(self, Y: NDArray[Any], indices: IndexArray, model: Projections) -> FloatArray:
        effect, error = share_maps(Y, indices, model)
        tested = np.flatnonzero(~np.isnan(effect[0]))
        scale = _lengths(Y[:, tested], model)
        variance = error[:, tested] * (scale**2 / model.dof)
        smooth = smooth_within(variance, self.voxel[tested], self.grid.shape, self.fwhm, self.grid.voxel_sizes)
        effect[:, tested] *= scale / np.sqrt(smooth)
        return effect


def _lengths(Y: NDArray[Any], model: Projections) -> FloatArray:
    """Norm (V,) of the data that are rearranged."""
    unit, _ = residuals(Y, model._replace(basis=None))
    return np.asarray((unit * Y.T).sum(axis=1))
