"""Maps of a subject and of its sessions, and designs of its runs, as files; one task per subject."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.io.bids.derivatives import (
    design_name,
    mask_name,
    run_name,
    sidecar,
    subject_name,
    write_design,
)
from voxloom.io.store.regions import read_region
from voxloom.io.study.open import open_study
from voxloom.kernels.expression import contrast_matrix
from voxloom.kernels.tails import f_to_p, f_to_z, t_to_p, t_to_z, z_to_p
from voxloom.pipeline.levels import levels_of, why_not
from voxloom.pipeline.stored.fit import EXPLAINED, StoredDesign, load_design
from voxloom.pipeline.stored.map_files import NAME, shared_entities, write_map, write_mask
from voxloom.pipeline.stored.maps import STATISTICS
from voxloom.pipeline.workspace import Workspace, content_digest
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from voxloom.io.store.objects import Objects
    from voxloom.io.study.open import Study
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
                "levels": {
                    path: [LevelRun(run.id, run.entities, ws.fit_path(run)) for run in joined]
                    for path, joined in levels_of(subject, runs, sessions=ws.analysis.subject_level.sessions).items()
                },
                "contrasts": dict(level.contrasts),
                "model": level.model_dump(mode="json", exclude={"contrasts"})
                | ws.analysis.subject_level.settings
                | ws.analysis.data.rounding,
                "inputs": record.digest,
            },
            inputs=digest([name, record.inputs, record.digest, entities]),
        )


class LevelRun(NamedTuple):
    """A run that a map may rest on: its name, the entities of its file, and where its fit lies."""

    id: str
    entities: Mapping[str, str]
    fit_path: str


def export_subject(
    *,
    store: str,
    output: str,
    results: str,
    levels: Mapping[str, Sequence[LevelRun]],
    contrasts: Mapping[str, Contrast],
    model: Mapping[str, Any],
    inputs: str,
) -> Output:
    """Write the maps of one subject and of its sessions, and the designs of the runs."""
    study, folder = open_study(store), Path(output)
    runs = {run.id: run for joined in levels.values() for run in joined}
    designs = {run.id: load_design(study.objects, run.fit_path) for run in runs.values()}
    files = [design_name(run.entities) for run in runs.values()]
    for name, design in zip(files, designs.values(), strict=True):
        write_run_design(folder / name, design, inputs)
    read, written, digests = sum(design.matrix.to_numpy().nbytes for design in designs.values()), 0, []
    for run in runs.values():
        files.append(run_name(run.entities, stat="rsquared"))
        share = _write_explained(
            study, folder / files[-1], run.fit_path, sidecar("rsquared", model=model, inputs=inputs)
        )
        read, written = read + share.bytes_read, written + share.bytes_written
        digests.append(share.digest)
    for level, joined in levels.items():
        entities, inside = shared_entities([run.entities for run in joined]), np.zeros(study.voxel.size, bool)
        for row, (name, wanted) in enumerate(contrasts.items()):
            used = [run.id for run in joined if why_not(wanted, designs[run.id].matrix) is None]
            q = rows_of(wanted, [designs[run_id] for run_id in used])
            maps = subject_maps(study.objects, f"results/{results}/{level}", row, wanted, q)
            said = wanted.named([str(column) for column in designs[used[0]].matrix.columns]) if used else wanted.said
            about: dict[str, Any] = {"contrast": name, "expression": said, "model": model}
            for stat, values in maps.items():
                path = subject_name(entities, contrast=name, stat=stat)
                content = sidecar(stat, **about, contrast_type=wanted.stat_type, n=len(used), runs=used, inputs=inputs)
                written += write_map(study, folder / path, values, content)
                files.append(path)
            read += len(STATISTICS) * next(iter(maps.values())).nbytes
            digests.append(content_digest(maps.values()))
            inside |= np.isfinite(maps["z"])
            del maps, values  # before the next are made
        files.append(mask_name(entities))
        written += write_mask(study, folder / files[-1], inside, inputs)
    return Output(digest=digest(digests), bytes_read=read, bytes_written=written, details={"files": files})


def _write_explained(study: Study, path: Path, fit_path: str, content: Mapping[str, Any]) -> Output:
    """Write the share of the variance that a run's model explains."""
    share = read_region(study.objects, f"fits/{fit_path}/{EXPLAINED}", (slice(None),))
    return Output(
        digest=content_digest([share]), bytes_read=share.nbytes, bytes_written=write_map(study, path, share, content)
    )


def write_run_design(path: Path, design: StoredDesign, inputs: str) -> None:
    """Write the design of a run, and which volumes it is of."""
    about = {"InputsDigest": inputs, "NumberOfVolumes": design.n_volumes, "VolumesLeftOut": design.left_out}
    write_design(path, design.matrix.rename_axis(index="frame_time"), about)


def rows_of(wanted: Contrast, designs: Sequence[StoredDesign]) -> int:
    """Numerator degrees of freedom of an F in the runs that answer it; 1 where none does, for then it is NaN."""
    columns = list(designs[0].matrix.columns) if designs else None
    return 1 if columns is None else int(np.linalg.matrix_rank(contrast_matrix(wanted.over(columns), columns)))


def subject_maps(objects: Objects, path: str, row: int, wanted: Contrast, q: int) -> dict[str, NDArray[np.float64]]:
    """Every map of one contrast of a subject or session, by statistic."""
    effect, variance, stat, dof = (
        read_region(objects, f"{path}/{name}", (slice(row, row + 1), slice(None)))[0] for name in STATISTICS
    )
    if wanted.stat_type == "conjunction":
        return {"z": stat, "p": z_to_p(stat)}
    if wanted.stat_type == "F":
        return {"F": stat, "z": f_to_z(stat, q, dof), "p": f_to_p(stat, q, dof), "dof": dof}
    return {
        "effect": effect,
        "variance": variance,
        "t": stat,
        "z": t_to_z(stat, dof),
        "p": t_to_p(stat, dof),
        "dof": dof,
    }
