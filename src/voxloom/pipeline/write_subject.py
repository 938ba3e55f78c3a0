"""Maps of a subject and designs of its runs as files; one task per subject."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.io.derivatives import (
    design_name,
    sidecar,
    subject_name,
    write_design,
)
from voxloom.io.regions import read_region
from voxloom.io.study import open_study
from voxloom.kernels.expression import contrast_matrix
from voxloom.kernels.tails import f_to_p, f_to_z, t_to_p, t_to_z
from voxloom.pipeline.map_files import NAME, shared_entities, write_map
from voxloom.pipeline.stored_fit import load_design
from voxloom.pipeline.stored_maps import STATISTICS
from voxloom.pipeline.workspace import Workspace, content_digest
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from voxloom.io.objects import Objects
    from voxloom.spec import Contrast


def subject_tasks(ws: Workspace) -> Iterator[Task]:
    """One task per subject."""
    name, output, level = ws.analysis.combine_digest, Path(ws.analysis.output.dir), ws.analysis.first_level
    for subject in ws.combined_subjects():
        runs = ws.subjects()[subject]
        record = ws.done("combine")[f"{name}/{subject}"]
        entities = [run.entities for run in runs]  # they make the names of the files
        yield Task(
            stage=NAME,
            key=f"{name}/{subject}/{digest(str(output))}",
            function=export_subject,
            kwargs={
                "store": ws.url,
                "output": str(output),
                "results": name,
                "subject": subject,
                "runs": [(run.entities, ws.fit_path(run)) for run in runs],
                "contrasts": dict(level.contrasts),
                "model": level.model_dump(mode="json", exclude={"contrasts"})
                | ws.analysis.subject_level.model_dump(mode="json")
                | ws.analysis.data.rounding,
                "inputs": record.digest,
            },
            inputs=digest([name, record.inputs, record.digest, entities]),
        )


def export_subject(
    *,
    store: str,
    output: str,
    results: str,
    subject: str,
    runs: Sequence[tuple[Mapping[str, str], str]],
    contrasts: Mapping[str, Contrast],
    model: Mapping[str, Any],
    inputs: str,
) -> Output:
    """Write the maps of one subject, and the designs of the runs."""
    study, folder = open_study(store), Path(output)
    entities = shared_entities([found for found, _ in runs])
    designs = {design_name(found): load_design(study.objects, path) for found, path in runs}
    for name, design in designs.items():
        about = {
            "InputsDigest": inputs,
            "NumberOfVolumes": design.n_volumes,
            "VolumesLeftOut": design.left_out,
        }
        write_design(folder / name, design.matrix.rename_axis(index="frame_time"), about)
    columns = list(next(iter(designs.values())).matrix.columns)
    files, digests = list(designs), []
    read, written = sum(design.matrix.to_numpy().nbytes for design in designs.values()), 0
    for row, (name, wanted) in enumerate(contrasts.items()):
        maps = subject_maps(study.objects, f"results/{results}/subjects/{subject}", row, wanted, columns)
        for stat, values in maps.items():
            path = subject_name(entities, contrast=name, stat=stat)
            content = sidecar(
                stat, contrast=name, expression=wanted.expression, model=model, n=len(runs), inputs=inputs
            )
            written += write_map(study, folder / path, values, content)
            files.append(path)
        read += len(STATISTICS) * next(iter(maps.values())).nbytes
        digests.append(content_digest(maps.values()))
        del maps, values  # before the next are made
    return Output(digest=digest(digests), bytes_read=read, bytes_written=written, details={"files": files})


def subject_maps(
    objects: Objects, path: str, row: int, wanted: Contrast, columns: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Every map of one contrast of a subject, by statistic."""
    effect, variance, stat, dof = (
        read_region(objects, f"{path}/{name}", (slice(row, row + 1), slice(None)))[0] for name in STATISTICS
    )
    if wanted.stat_type == "F":
        q = np.linalg.matrix_rank(contrast_matrix(wanted.expression, columns))
        return {"F": stat, "z": f_to_z(stat, q, dof), "p": f_to_p(stat, q, dof), "dof": dof}
    return {
        "effect": effect,
        "variance": variance,
        "t": stat,
        "z": t_to_z(stat, dof),
        "p": t_to_p(stat, dof),
        "dof": dof,
    }
