"""The page of a group model, from the store: maps, nulls, design, who is in it, coverage, methods, provenance."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from voxloom.io.store.regions import read_voxels
from voxloom.io.study.coverage import count_coverage
from voxloom.io.study.open import open_study
from voxloom.kernels.permutation.partition import concerns_a_mean
from voxloom.pipeline.stages.correct import read_map
from voxloom.report import methods
from voxloom.report.analysis_text import analysis_text
from voxloom.report.blocks import Code, Maps, Page, Section, Table, Text
from voxloom.report.group_maps import null_section, pair_map, pair_name
from voxloom.report.maps_of import as_map, mean_of_runs
from voxloom.report.sections import (
    background_of,
    design_section,
    methods_section,
    provenance_section,
    quality_map,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxloom.io.study.open import Study
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.report.blocks import Block
    from voxloom.report.set_aside import SetAside
    from voxloom.spec import Analysis, Inference


def group_page(
    *,
    store: str,
    test: GroupTest,
    analysis: Analysis,
    background: Sequence[str],
    sites: Mapping[str, Sequence[str]],
    left_out: Sequence[SetAside],
    inputs: str,
) -> tuple[Page, dict[str, float]]:
    """The page of a group model, and the numbers that the index tells of it; one pair of contrasts in memory at a time.

    Parameters
    ----------
    store : str
    test : GroupTest
    analysis : Analysis
    background : sequence of str
        Runs whose mean image lies below the maps.
    sites : mapping of str to sequence of str
        Runs by site, of a study of several.
    left_out : sequence of SetAside
    inputs : str
        Digest of the model's maps.
    """
    study, wanted = open_study(store), analysis.group[test.name].inference
    pairs = list(product(enumerate(test.first_level), enumerate(test.contrasts)))
    drawn = [pair_map(study, test, wanted, i, j, pair_name(test, first, name)) for (i, first), (j, name) in pairs]
    grey = background_of(mean_of_runs(study, background))
    sections = [
        Section(id="results", title="Results", blocks=[Maps(each=drawn, background=grey)]),
        null_section(study, test, wanted),
        group_design_section(test),
        people_section(test, left_out),
        Section(id="coverage", title="Coverage", blocks=[coverage_block(study, test, sites, grey)]),
        methods_section(sentences(analysis, test)),
        provenance_section(
            {
                "maps of subjects": test.source,
                "maps of the model": test.results,
                "inference": analysis.infer_digest(test.name),
                "inputs": inputs,
                "seed": analysis.seed,
            },
            code=analysis_text(analysis),
        ),
    ]
    page = Page(
        title=test.name,
        subtitle=f"Group model of {', '.join(test.first_level)}",
        figures={
            "subjects": f"{len(test.subjects):,}",
            "set aside": f"{len({one.subject for one in left_out} - set(test.subjects)):,}",
            "columns": f"{test.design.shape[1]}",
            "voxels": f"{study.voxel.size:,}",
        },
        sections=[section for section in sections if section.blocks],
        inputs=inputs,
    )
    return page, {"subjects": float(len(test.subjects)), "maps": float(len(pairs))}


def group_design_section(test: GroupTest) -> Section:
    """The design, how its factors are coded, and what was taken from its covariates."""
    design, coding = test.design, test.design.attrs.get("coding", {})
    table = pd.DataFrame(
        {
            "column": [str(name) for name in design],
            "mean": design.mean().to_numpy(),
            "SD": design.std().to_numpy(),
            "least": design.min().to_numpy(),
            "greatest": design.max().to_numpy(),
        }
    )
    coded = [f"{name}: {how}." for name, how in coding.items()]
    told: list[Block] = [Text(paragraphs=coded or ["No factor is coded, and no covariate centred."])]
    weights = {name: question.weights for name, question in test.contrasts.items()}
    drawn = design_section({test.name: design}, {test.name: weights}, "subjects")
    return Section(
        id="design",
        title="Design",
        blocks=[Table(frame=table, caption="Columns of the design, over the subjects."), *told, *drawn.blocks],
    )


def people_section(test: GroupTest, left_out: Sequence[SetAside]) -> Section:
    """Who is in the model, and who or what was set aside, and why."""
    frame = pd.DataFrame(left_out, columns=["subject", "stage", "set aside", "reason"])
    frame["in the model"] = np.where(frame["subject"].isin(test.subjects), "with other runs", "no")
    names = Code(summary=f"The {len(test.subjects):,} subjects of the model", text="\n".join(test.subjects))
    blocks: list[Block] = [names]
    if len(frame):
        blocks.append(Table(frame=frame, caption="Set aside, with the reason."))
    else:
        blocks.append(Text(paragraphs=["Nobody was set aside."]))
    return Section(id="subjects", title="Subjects", blocks=blocks)


def coverage_block(study: Study, test: GroupTest, sites: Mapping[str, Sequence[str]], grey: Any) -> Maps:
    """Maps in a voxel, and runs that cover it, by site where there are several."""
    n = as_map(study, read_map(study.objects, test, "n", 0, 0))
    drawn = [quality_map("n", "subjects", n, "subjects")]
    size = study.voxel.size
    for site, runs in sites.items() if len(sites) > 1 else ():
        covered = as_map(study, count_coverage(study.objects, runs, size).astype(np.float64))
        drawn.append(quality_map(f"site-{site}", f"runs of {site}", covered, "runs"))
    if len(sites) < 2 and "coverage" in study.objects.children(""):
        covered = as_map(study, read_voxels(study.objects, "coverage", slice(0, size)).astype(np.float64))
        drawn.append(quality_map("runs", "runs", covered, "runs"))
    return Maps(each=drawn, background=grey)


def sentences(analysis: Analysis, test: GroupTest) -> list[str]:
    """Methods of the model's maps."""
    level = analysis.first_level
    return [
        *methods.first_level(level, is_preprocessed=analysis.data.preprocessed == ("fmriprep",)),
        *methods.contrasts(
            {name: level.contrasts[name] for name in test.first_level},
            n_runs=2,
            precision_weighted=analysis.subject_level.fixed_effects.precision_weighted,
        ),
        *methods.group_level(
            analysis.group[test.name],
            len(test.subjects),
            schemes=schemes(analysis.group[test.name].inference, test),
            has_nuisance=any(question.df1 < test.design.shape[1] for question in test.contrasts.values()),
        ),
        methods.software(),
    ]


def schemes(wanted: Inference, test: GroupTest) -> set[str]:
    """How the permutation tests rearranged the maps: as asked for, else as the design decides for each contrast."""
    if wanted.rearrangements is not None:
        return {"given"}
    if wanted.scheme != "auto":
        return {wanted.scheme}
    design = test.design.to_numpy(dtype=np.float64)
    means = (concerns_a_mean(design, question.weights) for question in test.contrasts.values())
    return {"flip" if is_mean else "permute" for is_mean in means}
