"""Maps of a group test and the design of its model as files; one task per group test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloom.engine.runner import Output, Task
from voxloom.io.derivatives import (
    group_design_name,
    group_name,
    sidecar,
    write_design,
)
from voxloom.io.study import open_study
from voxloom.pipeline.correct import CORRECTED, read_map
from voxloom.pipeline.group import GroupTest, group_tests, outcome_of
from voxloom.pipeline.map_files import CORRECTED_DESC, GROUP_FILES, NAME, group_entities, write_map
from voxloom.pipeline.nulls import prepared
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from voxloom.io.bids import RunFile
    from voxloom.pipeline.workspace import Workspace

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
        setup = prepared(test, wanted, ws.analysis.seed, column)
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
