"""Parts that pages of subjects, of group models and of models in memory have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.io.bids.derivatives import software_versions
from voxloom.models.design.diagnostics import design_diagnostics
from voxloom.models.inference.cluster_table import clusters_table
from voxloom.report.blocks import Code, Facts, Map, Picture, Section, Table, Text
from voxloom.report.design import design_figure
from voxloom.report.figures import MISSING, can_draw, svg
from voxloom.report.methods import methods
from voxloom.report.volumes import Volume, volume_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import xarray as xr

    from voxloom.models.design.diagnostics import Expression
    from voxloom.report.blocks import Block

#: z of p = .001 in one tail: where sliders begin, and what clusters of tables are formed at.
THRESHOLD = 3.09
#: Rows of a cluster table that a page shows.
ROWS = 100
#: Part of the background that is drawn at full brightness or beyond.
BRIGHT = 2.0
P_NAMES = {
    "p_max_stat": "p FWE",
    "p_tfce": "p FWE, TFCE",
    "p_fdr": "q FDR",
    "p_bonferroni": "p Bonferroni",
    "p_uncorrected": "p uncorrected",
    "p_cluster_size": "p FWE, size",
    "p_cluster_mass": "p FWE, mass",
    "p_joint_max_stat": "p joint",
    "p_joint_tfce": "p joint, TFCE",
    "p_joint_cluster_size": "p joint, size",
    "p_joint_cluster_mass": "p joint, mass",
}
COLUMNS = {
    "cluster_id": "cluster",
    "x": "x",
    "y": "y",
    "z": "z",
    "peak": "peak",
    "size": "voxels",
    "size_mm3": "mm³",
}


def background_of(map: xr.DataArray) -> Volume:
    """A mean image as the grey below other maps: 1 to 255 in its voxels, 0 outside."""
    values = np.nan_to_num(np.asarray(map.to_numpy(), dtype=np.float64))
    bright = float(np.percentile(values, 100 - BRIGHT)) or 1.0
    return volume_of("background", map.copy(data=np.clip(255 * values / bright, 1, 255)), np.uint8)


def stat_map(
    id: str,
    name: str,
    map: xr.DataArray,
    *,
    threshold: float = THRESHOLD,
    marks: Mapping[str, float] | None = None,
    tables: Sequence[Table] = (),
    unit: str = "z",
    note: str = "",
    pictures: Sequence[Picture] = (),
) -> Map:
    """A statistic for the page, its slider at `threshold`."""
    common = {"p < .001": THRESHOLD} if unit == "z" else {}
    return Map(
        name=name,
        volume=volume_of(id, map),
        threshold=threshold,
        unit=unit,
        marks=common | dict(marks or {}),
        tables=tables,
        note=note,
        pictures=pictures,
        is_z=unit == "z",
    )


def quality_map(id: str, name: str, map: xr.DataArray, unit: str) -> Map:
    """A map that is drawn whole."""
    return Map(name=name, volume=volume_of(id, map), unit=unit)


def cluster_block(
    map: xr.DataArray,
    *,
    threshold: float = THRESHOLD,
    connectivity: int = 26,
    two_sided: bool = True,
    min_size: int = 1,
    min_distance: float = 8.0,
    p: xr.Dataset | None = None,
    unit: str = "z",
) -> Table:
    """`clusters_table` as a page shows it."""
    found = clusters_table(
        map,
        threshold=threshold,
        connectivity=connectivity,
        two_sided=two_sided,
        min_size=min_size,
        min_distance=min_distance,
        p=p,
    )
    return clusters_shown(found, unit=unit)


def clusters_shown(found: pd.DataFrame, *, unit: str = "z", of: str = "") -> Table:
    """A table of `clusters_table` as a page shows it: the first `ROWS` rows; `of` says of which voxels they are."""
    of_p = [str(name) for name in found if str(name).startswith("p_")]
    names = COLUMNS | {"peak": f"peak {unit}"} | {name: P_NAMES.get(name, name) for name in of_p}
    frame = found[list(names)].rename(columns=names)
    more = f" The first {ROWS} of {len(frame)} rows." if len(frame) > ROWS else ""
    how = found.attrs
    sides, height = ("either sign", f"|{unit}|") if how["two_sided"] else ("positive values", unit)
    caption = (
        f"Clusters of {sides}{of}, formed at {height} ≥ {how['threshold']:.3g} with {how['connectivity']} neighbours, "
        f"their peaks and subpeaks (a, b, ...); x, y, z in mm.{more}"
    )
    return Table(frame=frame.head(ROWS), caption=caption, places={"x": 1, "y": 1, "z": 1, f"peak {unit}": 2, "mm³": 0})


def design_blocks(name: str, design: pd.DataFrame, contrasts: Mapping[str, Expression], rows: str) -> list[Block]:
    """What a design can answer: worries first, the contrasts in numbers, and the picture."""
    found = design_diagnostics(design, contrasts)
    worries = [Text(paragraphs=[f"{name}: {worry}." for worry in found.worries], role="note")] if found.worries else []
    table = found.contrasts.rename_axis(index="contrast").reset_index()
    table["estimable"] = np.where(table["estimable"], "yes", "no")
    caption = (
        f"{name}: {found.n_volumes} {rows}, columns: {design.shape[1]}, rank {found.rank}, {found.dof} degrees of "
        "freedom. VIF: variance of the contrast over that with uncorrelated columns; from 5 worth a look, from 10 bad."
    )
    tables = [Table(frame=table.rename(columns={"vif": "VIF"}), caption=caption)]
    if not can_draw() or design.shape[1] == 1:  # a mean alone: nothing to correlate
        return [*worries, *tables]
    drawn = Picture(
        markup=svg(design_figure(design, contrasts, rows)),
        caption=f"{name}: columns over their largest value, their correlations, the variance inflation of each, and "
        "the weights of the contrasts.",
        wide=True,
    )
    return [*worries, *tables, drawn]


def design_section(
    designs: Mapping[str, pd.DataFrame], contrasts: Mapping[str, Mapping[str, Expression]], rows: str
) -> Section:
    """Designs by name, with the contrasts that each can answer, by its name too."""
    blocks: list[Block] = [] if can_draw() else [MISSING]
    for name, design in designs.items():
        blocks += design_blocks(name, design, contrasts[name], rows)
    return Section(id="design", title="Design", blocks=blocks)


def methods_section(sentences: Sequence[str]) -> Section:
    """The paragraph for a paper, and its references."""
    return Section(id="methods", title="Methods", blocks=methods(sentences))


def provenance_section(facts: Mapping[str, Any], *blocks: Block, code: str = "") -> Section:
    """Where the numbers come from: digests, versions, files, the analysis itself."""
    told = Facts(rows={**facts, "software": software_versions()})
    text = [Code(summary="The analysis, as it was run", text=code)] if code else []
    return Section(id="provenance", title="Provenance", blocks=[told, *blocks, *text])
