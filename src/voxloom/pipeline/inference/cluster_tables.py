"""Clusters of a group test as a table, for its file and its page: which voxels they are of, and p beside them.

Where clusters were tested, all that were formed are listed with their p. Else those of the voxels that survive the
strictest correction of the model, as `survivors` counts them: of none where none survives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from voxloom.models.inference.cluster_table import clusters_table
from voxloom.pipeline.inference.corrections import BY_GROUPS, PSEUDO_T, p_maps, stat_maps
from voxloom.spec.statistics import Cluster, ClusterSize

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from voxloom.pipeline.inference.corrections import Corrected
    from voxloom.spec import Inference

#: Voxels that touch at a corner are of one cluster, as in `survivors`.
TOUCHING = 26
#: Corrections without permutation, the strictest first.
STRICTEST = ("bonferroni", "fdr")


@dataclass(frozen=True, kw_only=True)
class ClusterRule:
    """Which clusters are listed.

    Parameters
    ----------
    map : str
        Variable of the map whose clusters they are.
    p : tuple of str
        Maps of p that become columns.
    connectivity : 6, 18 or 26
    control : str
        ``fpr`` where clusters are formed by uncorrected p; else the correction, as in the name of its file.
    alpha : float
        Level of `control`, in one tail where it is ``fpr``.
    by : str or None
        Map of p whose voxels at most alpha are listed; None where clusters are formed by uncorrected p.
    """

    map: str
    p: tuple[str, ...]
    connectivity: int
    control: str
    alpha: float
    by: str | None

    @property
    def variables(self) -> tuple[str, ...]:
        """Maps that the table is made of."""
        return (self.map, *self.p)

    @property
    def about(self) -> dict[str, Any]:
        """What a sidecar says of it."""
        said = {"Map": self.map, "HeightControl": self.control, "Alpha": self.alpha}
        return said | {
            "Connectivity": self.connectivity,
            "Description": "Clusters, their peaks and subpeaks; p of each",
        }


def tested_map(wanted: Inference) -> str:
    """Variable of the map that was permuted, on the scale that it is shown on."""
    return next((one for one in (BY_GROUPS, PSEUDO_T) if one in stat_maps(wanted)), "z_score")


def cluster_rule(wanted: Inference) -> ClusterRule:
    """Which clusters the table of a model lists."""
    found = p_maps(wanted)
    formed = {name: p.statistic for name, p in found.items() if isinstance(p.statistic, Cluster)}
    of_voxels = [name for name in found if name not in formed]
    formed = {name: one for name, one in formed.items() if one.on == "z"}
    if formed or not of_voxels:
        first = next(iter(formed.values()), ClusterSize())
        same = [name for name, one in formed.items() if forming(one) == forming(first)]
        return ClusterRule(
            map=tested_map(wanted),
            p=(*of_voxels, *same),
            connectivity=first.connectivity,
            control="fpr",
            alpha=first.threshold,
            by=None,
        )
    by = min(of_voxels, key=lambda name: strictness(found[name]))
    return ClusterRule(
        map=tested_map(wanted) if found[by].method == "permutation" else "z_score",
        p=tuple(of_voxels),
        connectivity=TOUCHING,
        control=found[by].desc,
        alpha=wanted.alpha,
        by=by,
    )


def strictness(p: Corrected) -> tuple[int, bool]:
    """Family-wise by permutation first, of one test before joint ones; uncorrected last."""
    if p.statistic is not None:
        return 0, p.joint
    return (1 + STRICTEST.index(p.method) if p.method in STRICTEST else 1 + len(STRICTEST)), False


def forming(one: Cluster) -> tuple[float, int]:
    """P and number of neighbours that clusters of a statistic are formed with."""
    return one.threshold, one.connectivity


def cluster_table(rule: ClusterRule, maps: xr.Dataset, *, two_sided: bool) -> pd.DataFrame:
    """Table of clusters as `clusters_table`; its attribute ``threshold`` is the least height that is listed.

    Parameters
    ----------
    rule : ClusterRule
    maps : Dataset
        ``(voxel)``: the `variables` of the rule.
    two_sided : bool
        Clusters of either sign.
    """
    shown, p = maps[rule.map], maps[list(rule.p)]
    if rule.by is None:
        threshold = float(-special.ndtri_exp(np.log(rule.alpha)))
    else:
        shown = shown.where(p[rule.by] <= rule.alpha)
        height = np.abs(shown.to_numpy()) if two_sided else shown.to_numpy()
        threshold = float(np.min(height, where=height > 0, initial=np.inf))
    found = clusters_table(
        shown,
        threshold=threshold if np.isfinite(threshold) else 1.0,  # of no voxel
        connectivity=rule.connectivity,
        two_sided=two_sided,
        p=p if rule.p else None,
    )
    found.attrs["threshold"] = threshold
    return found
