"""Stage 9, `export`: maps in the store become NIfTI files with sidecars; one task per subject and per group test."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.derivatives import (
    design_name,
    group_design_name,
    group_name,
    read_sidecar,
    sidecar,
    subject_name,
    write_description,
    write_design,
    write_sidecar,
)
from voxloom.io.images import to_nifti, write_nifti
from voxloom.io.regions import read_region
from voxloom.io.study import open_study
from voxloom.io.write import clean_partial
from voxloom.kernels.expression import contrast_matrix
from voxloom.kernels.tails import f_to_p, f_to_z, t_to_p, t_to_z
from voxloom.pipeline.correct import CORRECTED, read_map
from voxloom.pipeline.group import GroupTest, group_tests, outcome_of
from voxloom.pipeline.infer import prepared_all
from voxloom.pipeline.stored_fit import load_design
from voxloom.pipeline.stored_maps import STATISTICS
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import voxel_coords
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from voxloom.io.bids import RunFile
    from voxloom.io.objects import Objects
    from voxloom.io.study import Study
    from voxloom.spec import Contrast

NAME = "export"
#: Statistic in a file name, by variable of a group model in the store.
GROUP_FILES = {
    "effect": "effect",
    "variance": "variance",
    "stat": "t",
    "z_score": "z",
    "p_value": "p",
    "dof": "dof",
    "n": "n",
}
#: Statistics written of a subject's contrast.
SUBJECT_FILES = {"t": ("effect", "variance", "t", "z", "p", "dof"), "F": ("F", "z", "p", "dof")}
#: ``desc`` entity of a corrected p map.
CORRECTED_DESC = {"bonferroni": "bonferroni", "fdr": "fdr", "permutation": "fwe"}
#: Of the values of an exported map.
MAP_DTYPE = np.dtype(np.float32)

#: What a sidecar says of a permutation test, by the attribute it is told by.
PERMUTATION_ENTRIES = {
    "Scheme": "scheme",
    "Nuisance": "nuisance",
    "NumberOfPermutations": "n_perm",
    "Exhaustive": "exhaustive",
    "PValue": "p_method",
    "TailApproximation": "tail",
    "Seed": "seed",
}


def tasks(ws: Workspace) -> list[Task]:
    """Tasks of all subjects and group tests that are done."""
    return [*subject_tasks(ws), *group_tasks(ws)]


def prepare(ws: Workspace) -> None:
    """Describe the output folder and clear it of halves; forget records whose files are gone or another analysis's."""
    output = Path(ws.analysis.output.dir)
    for folder in (output, *(output / site for site in ws.analysis.data.sites)):  # each site is a derivative
        write_description(folder, name="voxloom results")
    runs = [run for found in ws.subjects().values() for run in found]
    if runs:
        clean_partial(output / name for name in planned_files(ws, runs, group_tests(ws)))
    known = ws.ledger.read(NAME)
    for task in tasks(ws):
        record = known.get(task.key)
        if record is not None and not all(
            holds(output / name, task.kwargs["inputs"]) for name in record.details.get("files", ())
        ):
            ws.ledger.forget(record)


def note_leftovers(ws: Workspace) -> None:
    """Say which files in the output folder are of subjects and tests that this analysis no longer has."""
    wanted = {task.key for task in tasks(ws)}
    folder = Path(ws.analysis.output.dir)
    kept: set[str] = set()
    left: set[str] = set()
    for key, record in ws.ledger.read(NAME).items():
        if key.endswith(f"/{digest(str(folder))}"):
            (kept if key in wanted else left).update(record.details.get("files", ()))
    stale = sorted(name for name in left - kept if (folder / name).exists())
    if stale:
        ws.note(f"{folder}: {len(stale)} files of earlier runs are not part of this result, such as {stale[0]}")


def holds(path: Path, inputs: str) -> bool:
    """Whether a file is there and, by its sidecar, made of these inputs."""
    return path.exists() and read_sidecar(path).get("InputsDigest") == inputs


def planned_files(ws: Workspace, runs: Sequence[RunFile], tests: Sequence[GroupTest]) -> Iterator[str]:
    """Names of the files an analysis will write from these runs, each beside its sidecar."""
    yield from ("dataset_description.json", *(f"{site}/dataset_description.json" for site in ws.analysis.data.sites))
    for name in dict.fromkeys((*planned_subject_files(ws, runs), *planned_group_files(ws, runs, tests))):
        yield from (name, f"{name.partition('.')[0]}.json")


def planned_subject_files(ws: Workspace, runs: Sequence[RunFile]) -> Iterator[str]:
    """Designs of the runs and maps of the subjects."""
    yield from (design_name(run.entities) for run in runs)
    for subject in dict.fromkeys(run.subject for run in runs):
        entities = shared_entities([run.entities for run in runs if run.subject == subject])
        for name, wanted in ws.analysis.first_level.contrasts.items():
            yield from (subject_name(entities, contrast=name, stat=stat) for stat in SUBJECT_FILES[wanted.stat_type])


def planned_group_files(ws: Workspace, runs: Sequence[RunFile], tests: Sequence[GroupTest]) -> Iterator[str]:
    """Designs and maps of the group models."""
    for test in tests:
        entities = group_entities(runs)
        yield group_design_name(test.name)
        stats: list[tuple[str, str | None]] = [(stat, None) for stat in GROUP_FILES.values()]
        stats += [("p", CORRECTED_DESC[m]) for m in ws.analysis.group[test.name].inference.method]
        for first, name in product(test.first_level, test.contrasts):
            yield from (
                group_name(test.name, contrast=first, test=name, stat=stat, entities=entities, desc=desc)
                for stat, desc in stats
            )


def group_entities(runs: Sequence[RunFile]) -> dict[str, str]:
    """Entities of a group map: those that all runs share, subject and site apart."""
    shared = shared_entities([run.entities for run in runs])
    return {key: value for key, value in shared.items() if key not in ("sub", "site")}


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


def shared_entities(runs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Entities that all runs have with one value: those of the map made of them."""
    first = runs[0]
    return {key: value for key, value in first.items() if all(run.get(key) == value for run in runs)}


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


def write_map(study: Study, path: Path, values: NDArray[np.float64], content: Mapping[str, Any]) -> int:
    """Write one map over the study's voxels as NIfTI, its sidecar first: an image is never without one.

    Returns the bytes of the volume's values.
    """
    check_cancelled()
    write_sidecar(path, content)
    background = 1.0 if "_stat-p_" in path.name else 0.0
    array = xr.DataArray(values, dims="voxel", coords=voxel_coords(study.grid, study.voxel))
    image = to_nifti(array, fill=background, dtype=MAP_DTYPE)
    write_nifti(image, path)
    return int(image.dataobj.nbytes)


def group_tasks(ws: Workspace) -> Iterator[Task]:
    """One task per group model, first-level contrast and group contrast."""
    output = Path(ws.analysis.output.dir)
    runs: list[RunFile] = [run for found in ws.subjects().values() for run in found]
    for test in group_tests(ws):
        model = ws.analysis.group[test.name]
        for i, first in enumerate(test.first_level):
            for j, name in enumerate(test.contrasts):
                record = ws.done("correct").get(f"{test.results}/{i}-{j}")
                if record is None:
                    continue
                inputs = digest([outcome_of(ws, test), record.inputs, record.digest])
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
                        "expression": ws.analysis.first_level.contrasts[first].expression,
                        "model": model.model_dump(mode="json", exclude={"contrasts", "inference", "table"})
                        | ws.analysis.data.rounding,
                        "corrections": corrections(ws, test, j),
                        "entities": group_entities(runs),
                        "inputs": inputs,
                    },
                    inputs=digest([inputs, group_entities(runs)]),
                )


def corrections(ws: Workspace, test: GroupTest, column: int) -> dict[str, dict[str, Any]]:
    """How each corrected p of a group contrast was made."""
    wanted = ws.analysis.group[test.name].inference
    tail = "two-sided" if wanted.two_sided else "upper"
    made: dict[str, dict[str, Any]] = {m: {"Method": m, "Tail": tail} for m in wanted.method}
    if "permutation" in made:
        setup = prepared_all(test, wanted, ws.analysis.seed)[column]
        made["permutation"] |= {name: setup.attrs[key] for name, key in PERMUTATION_ENTRIES.items()}
    return made


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
    corrections: Mapping[str, Mapping[str, Any]],
    entities: Mapping[str, str],
    inputs: str,
) -> Output:
    """Write every map of one group test, and the design of its model."""
    study, folder = open_study(store), Path(output)
    first, second = names
    about = {"Name": second, "Expression": test.contrasts[second], "Model": test.name}
    design = group_design_name(test.name)
    write_design(folder / design, test.design.rename_axis(index="participant_id"), {"InputsDigest": test.results})
    files, read, written = [], 0, 0
    wanted: list[tuple[str, str, str | None, Mapping[str, Any] | None]] = [
        (variable, stat, None, None) for variable, stat in GROUP_FILES.items()
    ]
    wanted += [(CORRECTED[m], "p", CORRECTED_DESC[m], how) for m, how in corrections.items()]
    for variable, stat, desc, how in wanted:
        path = group_name(test.name, contrast=first, test=second, stat=stat, entities=entities, desc=desc)
        content = sidecar(
            stat,
            contrast=first,
            expression=expression,
            model=model,
            test=about,
            n=len(test.subjects),
            correction=how,
            inputs=inputs,
        )
        values = read_map(study.objects, test, variable, row, column)
        read += values.nbytes
        written += write_map(study, folder / path, values, content)
        files.append(path)
    return Output(digest=inputs, bytes_read=read, bytes_written=written, details={"files": files})


STAGE = Stage(NAME, tasks, prepare)
