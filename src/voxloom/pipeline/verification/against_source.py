"""Stored runs beside the files they were made from: decoded once more, one task per run, to compare or to mend."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloom.engine.ledger import Forgetful, Ledger
from voxloom.engine.runner import Output, Task, run_stage
from voxloom.errors import InputError
from voxloom.io.store.integrity import Damage, metadata_key
from voxloom.io.store.objects import Objects
from voxloom.io.study.retrace import Retrace
from voxloom.io.study.runs import ATTRS, members, run_attrs
from voxloom.pipeline.stages import ingest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import distributed

    from voxloom.engine.runner import StageResult
    from voxloom.pipeline.workspace import Workspace

COMPARE, MEND = "compare", "mend"
#: What a run keeps that is not of its files' content: software, and where and when the file lay.
INCIDENTAL = ("versions", "path", "mtime_ns")


def compare_runs(ws: Workspace, client: distributed.Client | None) -> list[Damage]:
    """Decode the source of every stored run again and compare; what differs, and whose source is gone or changed."""
    stored = set(members(ws.objects, "runs"))
    wanted = [retrace_task(ws, COMPARE, run_id) for run_id in sources(ws) if run_id in stored]
    result = run_stage(COMPARE, wanted, ledger=Ledger(Forgetful()), client=client, on_event=ws.on_event)
    found = [Damage(*told) for record in result.records.values() for told in record.details.get("damage", ())]
    return sorted([*found, *unusable(result), *gone(ws, stored - set(sources(ws)))])


def mend_runs(ws: Workspace, client: distributed.Client | None, bad: Mapping[str, Sequence[str]]) -> StageResult:
    """Encode damaged objects of runs again, from their sources: keys by run, all of them in `sources`."""
    wanted = [retrace_task(ws, MEND, run_id, bad=keys) for run_id, keys in bad.items()]
    return run_stage(MEND, wanted, ledger=Ledger(Forgetful()), client=client, on_event=ws.on_event)


def sources(ws: Workspace) -> dict[str, Task]:
    """The ingest task of every run of the analysis, by the name of the run in the store."""
    return {task.key: task for task in ingest.tasks(ws)}


def unusable(result: StageResult) -> Iterator[Damage]:
    """Runs whose source cannot be decoded, and why."""
    return (Damage(f"runs/{record.key}", record.reason) for record in (*result.quarantined, *result.failed))


def gone(ws: Workspace, others: set[str]) -> Iterator[Damage]:
    """Of the stored runs that the analysis does not find: those whose file is not where it was."""
    for run_id in others:
        path = run_attrs(ws.objects, run_id)["source"]["path"]
        if not Path(path).exists():
            yield Damage(f"runs/{run_id}", f"its source {path} is gone")


def retrace_task(ws: Workspace, stage: str, run_id: str, **more: Any) -> Task:
    """A task that ingests a run again without writing it."""
    task = sources(ws)[run_id]
    return replace(task, stage=stage, function=FUNCTIONS[stage], kwargs={**task.kwargs, **more}, inputs="")


def compare_run(*, store: str, run_id: str, **ingested: Any) -> Output:
    """Compare a run with its source; what differs is in the details."""
    objects, path = Objects(store), f"runs/{run_id}"
    retrace = Retrace(objects, path)
    output = ingest.ingest_run(store=store, run_id=run_id, into=retrace, **ingested)
    source, described = str(ingested["run"].bold), metadata_key(path)
    mine = json.loads(retrace.metadata[described])["attributes"][ATTRS]
    changed = _changed(mine, run_attrs(objects, run_id))
    if "source.sha256" in changed:
        found = [Damage(path, f"its source {source} has changed since it was read (sha256)")]
    else:
        found = [Damage(key, f"is not what {source} gives") for key in retrace.different if key != described]
        found += [Damage(described, f"{name} is not what {source} gives") for name in changed]
    return Output(digest="", bytes_read=output.bytes_read, details={"damage": [list(damage) for damage in found]})


def mend_run(*, store: str, run_id: str, bad: Sequence[str], **ingested: Any) -> Output:
    """Replace bad objects of a run. The source is decoded twice: before anything is written, all else must agree.

    Raises
    ------
    InputError
        The source gives something else than what is sound in the store.
    """
    path, objects = f"runs/{run_id}", Objects(store)
    trial = Retrace(objects, path, bad)
    ingest.ingest_run(store=store, run_id=run_id, into=trial, **ingested)
    described = metadata_key(path)
    other = [key for key in trial.different if key != described]
    if described not in bad:
        mine = json.loads(trial.metadata[described])["attributes"][ATTRS]
        other += _changed(mine, run_attrs(objects, run_id))
    if other:
        raise InputError(
            str(ingested["run"].bold),
            f"gives another {other[0]} than is in the store, so it is not what the run was made from.",
            "Bring the file back, or ingest the new one: voxloom run.",
        )
    return ingest.ingest_run(store=store, run_id=run_id, into=Retrace(objects, path, bad, mend=True), **ingested)


FUNCTIONS = {COMPARE: compare_run, MEND: mend_run}


def _changed(mine: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """Names of attributes that differ, but for what is incidental."""
    a, b = (dict(_flat(attrs)) for attrs in (mine, stored))
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def _flat(attrs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in attrs.items():
        if name == "source":
            yield from ((f"source.{part}", kept) for part, kept in value.items() if part not in INCIDENTAL)
        elif name not in INCIDENTAL:
            yield name, value
