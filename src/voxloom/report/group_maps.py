"""Maps of a group model for its page: what survives, clusters with their p, surface; and the null distributions."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.pipeline.inference.cluster_tables import cluster_rule, cluster_table, tested_map
from voxloom.pipeline.inference.corrections import PSEUDO_T, nulls_named, p_maps
from voxloom.pipeline.inference.survivors import of_map
from voxloom.pipeline.stages.correct import read_map
from voxloom.pipeline.stages.write_group import read_nulls
from voxloom.report.blocks import Picture, Pictures, Section, Table
from voxloom.report.figures import MISSING, can_draw, null_figure, svg
from voxloom.report.maps_of import as_map
from voxloom.report.sections import P_NAMES, THRESHOLD, cluster_block, clusters_shown, stat_map
from voxloom.report.surface import can_project, surface_picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.io.study.open import Study
    from voxloom.pipeline.inference.cluster_tables import ClusterRule
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.report.blocks import Block, Map
    from voxloom.spec import Inference

#: Thresholds of the map that a map of p makes, by its variable.
MARKED = {"p_fdr": "FDR", "p_max_stat": "FWE"}
#: Names of nulls on their axis.
NULLS = {
    "null_max_stat": "maximum of the statistic",
    "null_cluster_size": "largest cluster, voxels",
    "null_cluster_mass": "largest cluster mass",
    "null_tfce": "largest TFCE",
}


def pair_name(test: GroupTest, first: str, name: str) -> str:
    """Name of a map: the first-level contrast, and which of the group contrasts."""
    return f"{first}: {name}" if len(test.contrasts) > 1 or name != "mean" else first


def pair_map(study: Study, test: GroupTest, wanted: Inference, row: int, column: int, name: str) -> Map:
    """Map of one pair of contrasts: what survives, clusters with their p, and the surface in MNI spaces."""

    def read(variable: str) -> xr.DataArray:
        return as_map(study, read_map(study.objects, test, variable, row, column)).rename(variable)

    tested, rule = tested_map(wanted), cluster_rule(wanted)
    z, unit = read(tested), "pseudo-t" if tested == PSEUDO_T else "z"
    p = xr.Dataset({variable: read(variable) for variable in p_maps(wanted)})
    # where another statistic than the model's is permuted, FDR is not of the map that is shown
    levels = marks(z, p if tested == "z_score" else p.drop_vars("p_fdr", errors="ignore"), wanted.alpha)
    start = levels.get(f"FWE p ≤ {wanted.alpha:g}", THRESHOLD)
    pictures = [surface_picture(z, start, unit)] if can_project(study.grid.space) and np.isfinite(z).any() else []
    two_sided = test.questions[column].two_sided(wanted.two_sided)
    listed = p.assign({rule.map: z if rule.map == tested else read(rule.map)})
    unit_listed = unit if rule.map == tested else "z"
    tables = [surviving(study, p, wanted, two_sided), clusters_of(listed, rule, two_sided, unit_listed)]
    return stat_map(
        f"pair-{row}-{column}",
        name,
        z,
        threshold=start,
        marks=levels,
        tables=tables,
        unit=unit,
        pictures=pictures,
    )


def marks(z: xr.DataArray, p: xr.Dataset, alpha: float) -> dict[str, float]:
    """|z| from which on voxels are significant, by correction: the smallest of those that are."""
    found = {}
    for variable, label in MARKED.items():
        if variable in p and bool((p[variable] <= alpha).any()):
            found[f"{label} p ≤ {alpha:g}"] = float(abs(z).where(p[variable] <= alpha).min())
    return found


def surviving(study: Study, p: xr.Dataset, wanted: Inference, two_sided: bool) -> Table:
    """How many voxels and clusters each map of p leaves at the level of the model."""
    found = [of_map(study, p[variable], wanted.alpha) for variable in p]
    rows = {
        "correction": [P_NAMES.get(one.name, one.name) for one in found],
        "voxels": [one.n_voxels for one in found],
        "clusters": [one.n_clusters for one in found],
        "smallest p": [one.least for one in found],
    }
    sides = "two-sided" if two_sided else "one-sided"
    return Table(
        frame=pd.DataFrame(rows),
        caption=f"Voxels and clusters with p ≤ {wanted.alpha:g}, {sides}, and the smallest p of the map.",
    )


def clusters_of(maps: xr.Dataset, rule: ClusterRule, two_sided: bool, unit: str) -> Table:
    """The table that is written beside the maps; where nothing survives, clusters at p = .001 uncorrected."""
    found = cluster_table(rule, maps, two_sided=two_sided)
    if found.empty and rule.by is not None:
        return cluster_block(maps[rule.map], two_sided=two_sided, p=maps[list(rule.p)], unit=unit)
    of = "" if rule.by is None else f" of voxels with {P_NAMES.get(rule.by, rule.by)} ≤ {rule.alpha:g},"
    return clusters_shown(found, unit=unit, of=of)


def null_section(study: Study, test: GroupTest, wanted: Inference) -> Section:
    """Null distributions of every statistic and pair, with the threshold and what was observed."""
    rows, charts = [], []
    for name, null, values, p in nulls_of_pairs(study, test, wanted):
        rows.append(null_row(name, null, values, p, wanted.alpha))
        if can_draw():
            drawn = svg(null_figure(values, wanted.alpha, NULLS.get(null, null)))
            charts.append(Picture(markup=drawn, caption=f"{name}: {NULLS.get(null, null)}."))
    caption = (
        "Maxima over the brain in every rearrangement, the observed order included; the threshold is their "
        f"{1 - wanted.alpha:.0%} point, p the smallest of the map. Both are in units of the statistic that was "
        "rearranged (t or F, say), which are not those of z on the maps."
    )
    blocks: list[Block] = [Table(frame=pd.DataFrame(rows), caption=caption)] if rows else []
    blocks += [Pictures(each=charts)] if charts else [MISSING] if rows else []
    return Section(id="null", title="Null distributions", blocks=blocks)


def nulls_of_pairs(
    study: Study, test: GroupTest, wanted: Inference
) -> Iterator[tuple[str, str, NDArray[np.float64], float]]:
    """Name of the pair of contrasts, name of the null, its maxima, and the smallest p made of it."""
    names = list(nulls_named(wanted))
    pairs = product(enumerate(test.first_level), enumerate(test.contrasts)) if names else ()
    for (i, first), (j, name) in pairs:
        table = read_nulls(study.objects, test, names, i, j)
        for null in names:
            p = read_map(study.objects, test, null.replace("null_", "p_", 1), i, j)
            least = float(np.nanmin(p)) if np.isfinite(p).any() else float("nan")
            yield pair_name(test, first, name), null, table[null].dropna().to_numpy(), least


def null_row(name: str, null: str, values: NDArray[np.float64], p: float, alpha: float) -> dict[str, Any]:
    """One null as a row of the table."""
    return {
        "map": name,
        "statistic": NULLS.get(null, null),
        "rearrangements": values.size,
        "threshold": float(np.quantile(values, 1 - alpha, method="higher")),
        "observed": float(values[0]),
        "p": p,
    }
