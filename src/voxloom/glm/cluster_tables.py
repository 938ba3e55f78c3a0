"""Clusters of a z map as a table, at a threshold by nilearn's names."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.glm.thresholding import CONNECTIVITY, Threshold, cut_of, require_control
from voxloom.io.bids.derivatives import write_sidecar
from voxloom.models.inference.cluster_table import clusters_table
from voxloom.spec.section import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import xarray as xr

#: Of nilearn's report, and not of its clusters.
OF_REPORTS = ("title", "bg_img", "plot_type", "display_mode", "cut_coords", "report_dims")


@dataclass(frozen=True)
class Clusters:
    """Threshold of the table of clusters: as in `threshold_stats_img`, and mm between its peaks."""

    threshold: float | None = None
    alpha: float = 0.001
    cluster_threshold: int = 0
    height_control: str | None = "fpr"
    two_sided: bool = False
    min_distance: float = 8.0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Clusters:
        """Parameters as given; what only a report needs is left out.

        Raises
        ------
        InputError
            There is no such parameter.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in (*known, *OF_REPORTS):
                raise InputError("save_glm_to_bids", f"has no parameter {name!r}.", did_you_mean(name, known))
        return cls(**{name: value for name, value in given.items() if name in known})

    def __post_init__(self) -> None:
        require_control(self.height_control, self.alpha, self.threshold)

    @property
    def min_size(self) -> int:
        """Voxels below which a cluster is not listed."""
        return max(1, self.cluster_threshold)

    def cut(self, z: xr.DataArray) -> Threshold:
        """The threshold of a map; infinite where none is low enough."""
        return cut_of(z, self.alpha, self.threshold, self.height_control, self.two_sided)

    def height(self, z: xr.DataArray) -> float:
        """The threshold, or where it is infinite one just above the map."""
        cut = self.cut(z)
        return float(cut) if np.isfinite(cut) else float(np.nextafter(abs(z).max(), np.inf))

    def write(self, z: xr.DataArray, path: Path) -> None:
        """Write the clusters of a map as a table."""
        cut = self.cut(z)
        clusters_table(
            z,
            threshold=cut,
            connectivity=CONNECTIVITY,
            two_sided=self.two_sided,
            min_size=self.min_size,
            min_distance=self.min_distance,
            path=path,
        )
        made = {"Threshold": float(cut) if np.isfinite(cut) else None, "HeightControl": cut.height_control}
        made |= {"Alpha": self.alpha, "TwoSided": self.two_sided, "MinimumSize": self.min_size}
        write_sidecar(path, made)
