"""Pages of models that are in memory: designs and Datasets in, HTML out; no store, no analysis file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.report.blocks import Maps, Page, Section
from voxloom.report.page import render
from voxloom.report.sections import (
    THRESHOLD,
    background_of,
    cluster_block,
    design_section,
    methods_section,
    provenance_section,
    stat_map,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import xarray as xr

    from voxloom.models.design.diagnostics import Expression


def model_report(
    maps: Mapping[str, xr.DataArray],
    designs: Mapping[str, pd.DataFrame],
    contrasts: Mapping[str, Expression],
    *,
    title: str,
    subtitle: str = "",
    background: xr.DataArray | None = None,
    p: Mapping[str, xr.Dataset] | None = None,
    threshold: float | Mapping[str, float] = THRESHOLD,
    two_sided: bool = True,
    connectivity: int = 26,
    min_size: int = 1,
    min_distance: float = 8.0,
    rows: str = "volumes",
    methods: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Make a page of a fitted model: maps with their clusters, designs, methods, provenance.

    Parameters
    ----------
    maps : mapping of str to DataArray
        z of each contrast, ``(voxel)`` with a grid, such as ``contrast(fit, ...).z_score``.
    designs : mapping of str to DataFrame
        By the name of the run; of a group model the one.
    contrasts : mapping of str to expression or weights
        As `contrast` takes them.
    title, subtitle : str
    background : DataArray, optional
        Mean image on the same voxels; plain grey when not given.
    p : mapping of str to Dataset, optional
        By map: what `permutation_test` returned for it; its p become columns of the cluster tables.
    threshold : float or mapping of str to float
        Where sliders begin, and at which clusters are formed; by map where they differ.
    two_sided : bool
        List clusters of minus the map as well.
    connectivity, min_size, min_distance : int, int, float
        Of the cluster tables; as in `clusters_table`.
    rows : str
        What a row of a design is.
    methods : sequence of str
        Sentences for the methods; ``[key]`` cites a paper of `voxloom.report.references`.
    facts : mapping, optional
        More of where the data come from, by name.

    Returns
    -------
    str
        One HTML file that needs no other.

    Raises
    ------
    InputError
        There is no map, one has no grid, or `p` is not of its voxels.
    """
    if not maps:
        raise InputError("maps", "is empty.", "Give the z map of one contrast at least.")
    below = next(iter(maps.values())) if background is None else background
    grey = background_of(below.copy(data=np.full(below.shape, 150.0)) if background is None else below)
    heights = threshold if isinstance(threshold, Mapping) else dict.fromkeys(maps, threshold)
    options: dict[str, Any] = {"two_sided": two_sided, "connectivity": connectivity, "min_size": min_size}
    drawn = []
    for i, (name, z) in enumerate(maps.items()):
        at, own = heights[name], (p or {}).get(name)
        table = cluster_block(z, threshold=at, min_distance=min_distance, p=own, **options)
        drawn.append(stat_map(f"map-{i}", name, z, threshold=at, tables=[table]))
    sections = [
        Section(id="maps", title="Maps", blocks=[Maps(each=drawn, background=grey)]),
        design_section(designs, dict.fromkeys(designs, contrasts), rows),
        *([methods_section(methods)] if methods else []),
        provenance_section(facts or {}),
    ]
    n_rows = sum(map(len, designs.values()))
    figures = {"contrasts": f"{len(maps):,}", rows: f"{n_rows:,}", "voxels": f"{below.size:,}"}
    return render(Page(title=title, subtitle=subtitle, figures=figures, sections=sections))
