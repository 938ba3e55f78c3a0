"""Maps of a group test and the design of its model as files; one task per group test."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.engine.runner import Output, Task
from voxloom.io.bids.derivatives import (
    clusters_name,
    group_design_name,
    group_mask_name,
    group_name,
    influence_name,
    null_name,
    sidecar,
    write_design,
)
from voxloom.io.study.open import open_study
from voxloom.pipeline.inference.cluster_tables import cluster_rule, cluster_table
from voxloom.pipeline.inference.corrections import Corrected, nulls_named, p_maps, stat_maps
from voxloom.pipeline.inference.nulls import prepared
from voxloom.pipeline.stages import influence
from voxloom.pipeline.stages.correct import read_map
from voxloom.pipeline.stages.group import GroupTest, group_tests, outcome_of
from voxloom.pipeline.stored.map_files import GROUP_FILES, NAME, group_entities, write_map, write_mask
from voxloom.schema import voxel_coords
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from voxloom.io.store.objects import Objects
    from voxloom.io.study.open import Study
    from voxloom.pipeline.inference.cluster_tables import ClusterRule
    from voxloom.pipeline.workspace import GroupWorkspace
    from voxloom.spec import Inference

#: What a sidecar says of a permutation test, by the attribute it is told by.
PERMUTATION_ENTRIES = {
    "Scheme": "scheme",
    "Nuisance": "nuisance",
    "NumberOfPermutations": "n_perm",
    "Exhaustive": "exhaustive",
    "DistinctRearrangements": "n_distinct",
    "NormalDeviateOf": "z_of",
    "PValue": "p_method",
    "TailApproximation": "tail",
    "Seed": "seed",
}


#: Entries whose names are not those of attributes.
OTHER_NAMES = {"tail": "TailApproximation", "p_method": "PValue"}

INFLUENCE = (
    "Influence of each subject on the contrast, over voxels: mean Cook's distance, share of voxels where it is above "
    "4 / n, mean size and farthest value of DFBETAS, mean leverage; the most influential first"
)
NULLS = "Greatest value over voxels of each statistic in every rearrangement, the observed order first"


class ExtraMap(NamedTuple):
    """A map of the inference: statistic and `desc` in the name of its file, and how it was made."""

    stat: str
    desc: str | None
    how: Mapping[str, Any]


def group_tasks(ws: GroupWorkspace) -> Iterator[Task]:
    """One task per group model, first-level contrast and group contrast."""
    output = Path(ws.analysis.output.dir)
    entities = group_entities(ws.group_runs())
    for test in group_tests(ws):
        model = ws.analysis.group[test.name]
        rule = cluster_rule(model.inference)
        for i, first in enumerate(test.first_level):
            for j, name in enumerate(test.contrasts):
                record = ws.done("correct").get(f"{test.results}/{i}-{j}")
                totals = influence.influence_tasks(ws, test) if model.influence else []
                if record is None or not ws.complete(totals):
                    continue
                shards = [ws.done(task.stage)[task.key].digest for task in totals]
                inputs = digest([outcome_of(ws, test), record.inputs, record.digest, *shards, rule.about])
                yield Task(
                    stage=NAME,
                    key=f"{test.results}/{i}-{j}/{digest(str(output))}",
                    function=export_group,
                    kwargs={
                        "store": ws.url,
                        "output": str(output),
                        "test": test,
                        "row": i,
                        "column": j,
                        "names": (first, name),
                        "expression": ws.analysis.expression_of(first),
                        "model": model.model_dump(mode="json", exclude={"contrasts", "inference", "table"})
                        | ws.analysis.rounding,
                        "extra": extra_maps(ws, test, j, record.details.get("made", {})),
                        "entities": entities,
                        "nulls": null_columns(model.inference),
                        "rule": rule,
                        "two_sided": test.questions[j].two_sided(model.inference.two_sided),
                        "n_totals": len(totals) if test.questions[j].stat_type == "t" else 0,
                        "inputs": inputs,
                    },
                    inputs=digest([inputs, entities]),
                )


def extra_maps(ws: GroupWorkspace, test: GroupTest, column: int, made: Mapping[str, Any]) -> dict[str, ExtraMap]:
    """Maps of the inference by their variables.

    `made` is what the stage before told of how it made each.
    """
    wanted, question = ws.analysis.group[test.name].inference, test.questions[column]
    permuted: dict[str, Any] = {}
    if "permutation" in wanted.method:
        attrs = prepared(test, wanted, ws.analysis.seed, column).attrs
        permuted = {name: attrs[key] for name, key in PERMUTATION_ENTRIES.items() if key in attrs}
        permuted |= {"Blocks": wanted.model_dump(mode="json")["blocks"]} if wanted.blocks else {}
        permuted |= {"Rearrangements": wanted.rearrangements.name} if wanted.rearrangements else {}
        fwhm = wanted.variance_smoothing_fwhm
        permuted |= {} if fwhm is None else {"VarianceSmoothingFWHM": fwhm}
    found = {}
    for name, p in p_maps(wanted).items():
        how = correction(p, "two-sided" if question.two_sided(wanted.two_sided) else "upper", permuted)
        joint = {"JointOver": wanted.joint} if p.joint else {}
        found[name] = ExtraMap("p", p.desc, how | joint | told(made.get(name, {})))
    for name, one in stat_maps(wanted).items():
        found[name] = ExtraMap(one.stat, one.desc, one.parameters)
    return found


def null_columns(wanted: Inference) -> dict[str, dict[str, Any]]:
    """Statistics of the columns of the table of nulls."""
    return {name: one.model_dump(mode="json") for name, one in nulls_named(wanted).items()}


def read_nulls(objects: Objects, test: GroupTest, names: Iterable[str], row: int, column: int) -> pd.DataFrame:
    """Maxima of every rearrangement, a column per statistic; NaN behind those of a test that has fewer than others."""
    return pd.DataFrame({name: read_map(objects, test, name, row, column) for name in names})


def told(made: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a sidecar: ``tail_status`` becomes ``TailStatus``; numbers that JSON has not are left out."""
    names = {key: "".join(word.capitalize() for word in key.split("_")) for key in made} | OTHER_NAMES
    return {names[key]: value for key, value in made.items() if not isinstance(value, float) or isfinite(value)}


def correction(p: Corrected, tail: str, permuted: Mapping[str, Any]) -> dict[str, Any]:
    """What the sidecar of one map of p says of how it was made."""
    made: dict[str, Any] = {"Method": p.method, "Tail": tail}
    if p.method != "permutation":
        return made
    made["ErrorRate"] = "uncorrected" if p.statistic is None else "family-wise"
    return made | ({} if p.statistic is None else {"Statistic": p.statistic.model_dump(mode="json")}) | dict(permuted)


def export_group(
    *,
    store: str,
    output: str,
    test: GroupTest,
    row: int,
    column: int,
    names: tuple[str, str],
    expression: str | Sequence[str],
    model: Mapping[str, Any],
    extra: Mapping[str, ExtraMap],
    entities: Mapping[str, str],
    nulls: Mapping[str, Mapping[str, Any]],
    rule: ClusterRule,
    two_sided: bool,
    n_totals: int,
    inputs: str,
) -> Output:
    """Write every map of one group test, its tables of clusters, nulls and influence, and the design of its model."""
    study, folder = open_study(store), Path(output)
    first, second = names
    question = test.contrasts[second]
    about = {"Name": second, **question.about, "Model": test.name}
    design, told = test.written_design
    write_design(folder / group_design_name(test.name), design, {"InputsDigest": test.results, **told})
    files, read, written = [], 0, 0
    kept: dict[str, NDArray[np.float64]] = {}
    wanted: list[tuple[str, str, str | None, Mapping[str, Any] | None]] = [
        (variable, stat, None, None) for variable, stat in GROUP_FILES[question.stat_type].items()
    ]
    wanted += [(variable, *one) for variable, one in extra.items()]
    for variable, stat, desc, how in wanted:
        path = group_name(test.name, contrast=first, test=second, stat=stat, entities=entities, desc=desc)
        content = sidecar(
            stat,
            contrast=first,
            expression=expression,
            model=model,
            test=about,
            n=len(test.subjects),
            correction=how if stat == "p" else None,
            parameters=how if stat != "p" else None,
            inputs=inputs,
        )
        values = read_map(study.objects, test, variable, row, column)
        read += values.nbytes
        if variable in rule.variables:
            kept[variable] = values
        written += write_map(study, folder / path, values, content)
        files.append(path)
        if variable == "z_score":  # once: what was permuted may be a z of its own
            files.append(group_mask_name(test.name, contrast=first, test=second, entities=entities))
            written += write_mask(study, folder / files[-1], np.isfinite(values), inputs)
    path = clusters_name(test.name, contrast=first, test=second, entities=entities)
    write_clusters(study, folder / path, rule, kept, two_sided, inputs)
    files.append(path)
    if nulls:
        path = null_name(test.name, contrast=first, test=second, entities=entities)
        table = read_nulls(study.objects, test, nulls, row, column)
        read += table.size * 8
        write_design(folder / path, table.dropna(), {"InputsDigest": inputs, "Description": NULLS, **nulls})
        files.append(path)
    if n_totals:
        path = influence_name(test.name, contrast=first, test=second, entities=entities)
        found = influence.read_table(study.objects, test, row, column, n_totals)
        read += n_totals * influence.total_bytes(test)
        write_design(folder / path, found, {"InputsDigest": inputs, "Description": INFLUENCE})
        files.append(path)
    return Output(digest=inputs, bytes_read=read, bytes_written=written, details={"files": files})


def write_clusters(
    study: Study, path: Path, rule: ClusterRule, maps: Mapping[str, NDArray[np.float64]], two_sided: bool, inputs: str
) -> None:
    """Write the table of clusters made of these maps over the study's voxels."""
    on_axis = {name: ("voxel", values) for name, values in maps.items()}
    table = cluster_table(rule, xr.Dataset(on_axis, coords=voxel_coords(study.grid, study.voxel)), two_sided=two_sided)
    threshold = table.attrs["threshold"]
    about = {"Threshold": threshold if isfinite(threshold) else None, "TwoSided": two_sided}
    write_design(path, table, {"InputsDigest": inputs, **rule.about, **about})
