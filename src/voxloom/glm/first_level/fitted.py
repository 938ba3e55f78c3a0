"""What a fitted first-level model is asked for: mask, labels, residuals, predictions."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.glm.first_level.scaling import scaled
from voxloom.glm.parameters import Parameters
from voxloom.glm.report import Reported
from voxloom.io.nifti.images import to_nifti
from voxloom.models.first_level.fitted import predicted, residuals

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray


class Fitted(Reported, Parameters):
    """Attributes of a first-level model after its fit."""

    signal_scaling: Any
    standardize: bool
    client: Any
    #: Volumes to keep of each run, which `first_level_from_bids` finds.
    sample_masks_: list[Any] | None = None
    results_: list[xr.Dataset]
    series_: list[xr.DataArray]

    @property
    def labels_(self) -> list[NDArray[np.float64]]:
        """AR(1) coefficients, a value per voxel and an array per run."""
        return [labels_of(fit) for fit in self.results_]

    @property
    def residuals(self) -> list[Any]:
        """What the fits leave, a 4-D image per run."""
        return [self._image(left) for left in self.residual_series()]

    def residual_series(self) -> list[xr.DataArray]:
        """`residuals` as ``(voxel, time)``, lazy where the run is a file."""
        return [residuals(signal, fit) for signal, fit in self._fitted()]

    @property
    def predicted(self) -> list[Any]:
        """What the fits predict, a 4-D image per run."""
        self._require_fit()
        return [self._image(predicted(fit)) for fit in self.results_]

    @property
    def r_square(self) -> list[Any]:
        """Share of the variance that the fits explain, an image per run."""
        self._require_fit()
        return [self._image(fit["r_squared"]) for fit in self.results_]

    #: nilearn's newer names.
    residuals_, predicted_, r_square_ = residuals, predicted, r_square

    def _fitted(self) -> Any:
        self._require_fit()
        signals = [scaled(bold, self.signal_scaling, self.standardize)[0] for bold in self.series_]
        return zip(signals, self.results_)

    def _image(self, data: xr.DataArray) -> Any:
        with self._at_work():
            return to_nifti(data.compute())

    def _at_work(self) -> Any:
        return nullcontext() if self.client is None else self.client.as_current()

    def _require_fit(self) -> None:
        if not hasattr(self, "results_"):
            raise InputError("FirstLevelModel", "is not fitted.", "Call fit(images, events) first.")


def labels_of(fit: xr.Dataset) -> NDArray[np.float64]:
    """AR(1) coefficients of a fit (voxel,); 0 where its noise has none."""
    return np.asarray(fit["rho"]) if "rho" in fit else np.zeros(fit.sizes["voxel"])
