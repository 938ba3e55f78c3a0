"""The page of a subject, from the store: contrasts, quality of the runs, designs, methods, provenance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from voxloom.io.store.regions import read_region
from voxloom.io.study.open import open_study
from voxloom.io.study.runs import read_run
from voxloom.models.first_level.quality import DISPLACEMENT
from voxloom.pipeline.levels import answerable, why_not
from voxloom.pipeline.stages.write_subject import rows_of, subject_maps
from voxloom.pipeline.stored.fit import load_design
from voxloom.report import methods
from voxloom.report.analysis_text import analysis_text
from voxloom.report.blocks import Maps, Page, Picture, Pictures, Section, Table, Text
from voxloom.report.figures import FD_LIMIT, MISSING, can_draw, series_figure, svg
from voxloom.report.maps_of import RunMaps, as_map
from voxloom.report.sections import (
    cluster_block,
    design_section,
    methods_section,
    provenance_section,
    stat_map,
)
from voxloom.report.series import run_series
from voxloom.spec.contrast_rows import row_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxloom.io.store.objects import Objects
    from voxloom.io.study.open import Study
    from voxloom.io.study.runs import Run
    from voxloom.pipeline.stages.write_subject import LevelRun
    from voxloom.pipeline.stored.fit import StoredDesign
    from voxloom.report.blocks import Block, Map
    from voxloom.spec import Analysis, Contrast


@dataclass(frozen=True, kw_only=True)
class RunQuality:
    """One run as its page tells it: what is kept with it, its design, its series and its maps' medians."""

    run: Run
    design: StoredDesign
    series: pd.DataFrame
    medians: Mapping[str, float]

    @property
    def row(self) -> dict[str, float | str]:
        """Its row in the table."""
        moved = self.series.get(DISPLACEMENT)
        return {
            "run": self.run.id,
            "TR, s": self.run.t_r,
            "volumes": self.run.n_volumes,
            "kept": int(self.series["kept"].sum()),
            "voxels": int(self.run.attrs["n_in_mask"]),
            "median tSNR": self.medians["tSNR"],
            "mean DVARS": float(self.series["dvars"].mean()),
            **({} if moved is None else {"mean FD, mm": float(moved.mean()), "max FD, mm": float(moved.max())}),
            **{f"median {name}": value for name, value in self.medians.items() if name not in ("mean", "tSNR")},
        }


def subject_page(
    *, store: str, subject: str, results: str, runs: Sequence[LevelRun], analysis: Analysis, inputs: str
) -> tuple[Page, dict[str, float]]:
    """The page of a subject, and the numbers that the index tells of it; one run is in memory at a time.

    Parameters
    ----------
    store : str
    subject : str
    results : str
        Name of the maps of subjects in the store.
    runs : sequence of LevelRun
        Those of the subject.
    analysis : Analysis
    inputs : str
        Digest of the subject's maps.
    """
    study, contrasts = open_study(store), analysis.first_level.contrasts
    maps = RunMaps(study, analysis.first_level.noise_model)
    found = [quality_of(study.objects, run, maps) for run in runs]
    matrices = {one.run.id: one.design.matrix for one in found}
    asked = {run_id: answerable(contrasts, list(matrix.columns)) for run_id, matrix in matrices.items()}
    drawn = contrast_maps(study, f"results/{results}/subjects/{subject}", contrasts, [one.design for one in found])
    sections = [
        Section(id="contrasts", title="Contrasts", blocks=[Maps(each=drawn, background=maps.background)]),
        quality_section(found, maps),
        design_section(matrices, asked, "volumes"),
        methods_section(sentences(analysis, len(runs))),
        provenance_section(
            {"subject": subject, "maps": results, "inputs": inputs, "analysis": analysis.digest()},
            sources_table(found),
            code=analysis_text(analysis),
        ),
    ]
    told = numbers(found)
    entities = {key: runs[0].entities.get(key, "") for key in ("task", "space")}
    page = Page(
        title=subject,
        subtitle=", ".join(value for value in entities.values() if value),
        figures={
            "runs": f"{len(runs)}",
            "volumes kept": f"{told['kept']:.0f} of {told['volumes']:.0f}",
            "median tSNR": f"{told['tSNR']:.1f}",
            **({"mean FD": f"{told['FD']:.2f} mm"} if "FD" in told else {}),
            "voxels": f"{study.voxel.size:,}",
        },
        sections=sections,
        inputs=inputs,
    )
    return page, told


def quality_of(objects: Objects, level_run: LevelRun, maps: RunMaps) -> RunQuality:
    """Read a run once, and take its maps into the means."""
    stored, design = PurePath(level_run.fit_path).name, load_design(objects, level_run.fit_path)
    return RunQuality(
        run=read_run(objects, stored),
        design=design,
        series=run_series(objects, stored, design),
        medians=maps.add(stored, level_run.fit_path),
    )


def contrast_maps(
    study: Study, path: str, contrasts: Mapping[str, Contrast], designs: Sequence[StoredDesign]
) -> list[Map]:
    """Z of every contrast, with its clusters."""
    found = []
    for row, (name, wanted) in enumerate(contrasts.items()):
        used = [design for design in designs if why_not(wanted, design.matrix) is None]
        z = as_map(study, subject_maps(study.objects, path, row, wanted, rows_of(wanted, used))["z"])
        clusters = cluster_block(z, two_sided=wanted.stat_type == "t")
        dof = read_region(study.objects, f"{path}/dof", (slice(row, row + 1), slice(None)))[0]
        text = ", ".join(row_texts(wanted.expression))
        note = f"{text}; {wanted.stat_type} contrast in {len(used)} of {len(designs)} runs"
        known = dof[np.isfinite(dof)]
        more = f", {np.median(known):.0f} degrees of freedom (median)." if known.size else "."
        found.append(stat_map(f"contrast-{row}", name, z, tables=[clusters], note=note + more))
    return found


def quality_section(found: Sequence[RunQuality], maps: RunMaps) -> Section:
    """Table of the runs, their series, and maps of their data."""
    table = Table(
        frame=pd.DataFrame([one.row for one in found]),
        caption="tSNR is mean over standard deviation of the data as they came. DVARS is the root mean square change "
        "from one volume to the next over the run's voxels, in units of the images; FD, framewise displacement, is "
        "from the confounds. What follows is of the noise model, such as rho, the coefficient of AR(1).",
    )
    charts: Block = MISSING
    if can_draw():
        charts = Pictures(
            each=[Picture(markup=svg(series_figure(one.series)), caption=caption_of(one)) for one in found]
        )
    told = Text(paragraphs=["Means over the runs of the subject; coverage counts the runs whose mask has the voxel."])
    return Section(
        id="quality", title="Quality", blocks=[table, charts, told, Maps(each=maps.drawn, background=maps.background)]
    )


def caption_of(one: RunQuality) -> str:
    """What a chart of series shows."""
    n_out = int((~one.series["kept"]).sum())
    shaded = f"; {n_out} volumes left out of the model are shaded" if n_out else "; no volume was left out"
    limit = f"; dotted: FD of {FD_LIMIT:g} mm" if DISPLACEMENT in one.series else ""
    return f"{one.run.id}{shaded}{limit}."


def numbers(found: Sequence[RunQuality]) -> dict[str, float]:
    """Numbers of the whole subject."""
    rows = [one.row for one in found]
    told = {"runs": float(len(rows)), "volumes": 0.0, "kept": 0.0}
    for row in rows:
        told["volumes"] += float(row["volumes"])
        told["kept"] += float(row["kept"])
    told["tSNR"] = float(np.mean([float(row["median tSNR"]) for row in rows]))
    moved = [float(row["mean FD, mm"]) for row in rows if "mean FD, mm" in row]
    return told | ({"FD": float(np.mean(moved))} if moved else {})


def sentences(analysis: Analysis, n_runs: int) -> list[str]:
    """Methods of the subject's maps."""
    level = analysis.first_level
    return [
        *methods.first_level(level, is_preprocessed=analysis.data.preprocessed == ("fmriprep",), n_runs=n_runs),
        *methods.contrasts(
            level.contrasts,
            n_runs=n_runs,
            precision_weighted=analysis.subject_level.fixed_effects.precision_weighted,
        ),
        methods.software(),
    ]


def sources_table(found: Sequence[RunQuality]) -> Table:
    """The images that the runs come from."""
    rows = [
        {
            "file": PurePath(one.run.attrs["source"]["path"]).name,
            "bytes": one.run.attrs["source"]["size"],
            "sha256": one.run.attrs["source"]["sha256"],
            "kept as": one.run.digest,
        }
        for one in found
    ]
    return Table(frame=pd.DataFrame(rows), caption="Images, and the digest of what was kept of each.")
