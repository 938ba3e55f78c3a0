"""Makes what is damaged in a store anew, and nothing else: runs from their files, results by the tasks that wrote them.

A task is done again only where its inputs are those of its record: it then writes the same bytes, and whatever was
made of them stands.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from voxloom.engine.ledger import is_done
from voxloom.io.store.arrays import put_group
from voxloom.io.store.integrity import Damage, metadata_key, node_of
from voxloom.io.study.coverage import PATH as COVERAGE
from voxloom.pipeline.coverage import update_coverage
from voxloom.pipeline.line import recall, run_tasks, stages_of
from voxloom.pipeline.stages import group
from voxloom.pipeline.verification.against_source import mend_runs, sources, unusable
from voxloom.pipeline.verification.damage import claimed, done_records, find_damage, groups_above, parse_claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import distributed

    from voxloom.engine.ledger import Record
    from voxloom.engine.runner import Task
    from voxloom.pipeline.workspace import Stage, Workspace

NOT_OURS = "cannot be made by this analysis as it is now: its files are gone or have changed, or another one made it"


def mend(ws: Workspace, client: distributed.Client | None) -> list[Damage]:
    """Mend a store until nothing is damaged, or nothing more of it can be mended; return what is left, and why.

    More than one round: shards of an array are looked at once its metadata are sound, and tasks are known once the
    records before them are.
    """
    found, before, reasons = find_damage(ws.objects, client, ws.on_event), None, set[Damage]()
    while found and found != before:
        reasons = set(mend_once(ws, client, [damage.key for damage in found]))
        before, found = found, find_damage(ws.objects, client, ws.on_event)
    return sorted({*found, *reasons}) if found else []


def mend_once(ws: Workspace, client: distributed.Client | None, bad: Sequence[str]) -> list[Damage]:
    """Mend what can be mended of these objects; return why others cannot."""
    runs, rest = by_run(bad)
    others = [key for key in rest if node_of(key) != COVERAGE]
    known = sources(ws)
    left = [Damage(f"runs/{run_id}", NOT_OURS) for run_id in runs if run_id not in known]
    mended = mend_runs(ws, client, {run_id: keys for run_id, keys in runs.items() if run_id in known})
    work = find_work(ws, others) if others else Work([], [], [])
    clear(ws, others, work)
    for stage, tasks in work.todo:
        redo(ws, client, stage, tasks)
    if rest != others and not runs:  # coverage is counted from sound runs
        ws.objects.delete_tree(COVERAGE)
        update_coverage(ws.objects, ws.ledger)
    return [*left, *unusable(mended), *(Damage(key, NOT_OURS) for key in work.stale)]


def by_run(keys: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Objects of runs, by run, and all others."""
    runs: dict[str, list[str]] = defaultdict(list)
    others: list[str] = []
    for key in keys:
        top, _, rest = key.partition("/")
        run_id, _, below = rest.partition("/")
        (runs[run_id] if top == "runs" and below else others).append(key)
    return dict(runs), others


class Work(NamedTuple):
    """What has to be done again.

    Attributes
    ----------
    todo : list of (Stage, list of Task)
        Stages that make room again, with their tasks, if any.
    lost : list of str
        Damaged records that can go.
    stale : list of str
        Objects whose task is no longer what it was.
    """

    todo: list[tuple[Stage[Workspace], list[Task]]]
    lost: list[str]
    stale: list[str]


def find_work(ws: Workspace, bad: Sequence[str]) -> Work:
    """Tasks that wrote these objects, with the inputs they had; and those whose record is damaged.

    Up to the first stage with a damaged record: the tasks of later ones are known when that has been done again. Of
    that stage all are known, so a damaged record of no task belongs to another analysis, and is as good as absent.
    """
    owners, work = owners_of(bad, done_records(ws.objects)), Work([], [], [])
    for stage in stages_of(ws.analysis):
        lost = {key for key in bad if key.startswith(f"ledger/{stage.name}/")}
        records, wanted = ws.ledger.read(stage.name), stage.tasks(ws)
        again = [task for task in wanted if record_key(task) in lost]
        settled = all(task in again or is_done(task, records.get(task.key)) for task in wanted)
        mine = [task for task in wanted if (task.stage, task.key) in owners and is_done(task, records.get(task.key))]
        if wanted and settled:
            work.todo.append((stage, again + mine))
        elif mine:
            work.todo.append((stage._replace(prepare=None), mine))
        for task in mine:
            del owners[task.stage, task.key]
        if lost:
            work.lost.extend(lost)
            return work
        recall(ws, stage)
    work.lost.extend(key for key in bad if key.startswith("ledger/"))
    work.stale.extend(key for keys in owners.values() for key in keys)
    return work


def record_key(task: Task) -> str:
    """Name of the object that holds the record of a task."""
    return f"ledger/{task.stage}/{task.key}.json"


def owners_of(bad: Iterable[str], records: Iterable[Record]) -> dict[tuple[str, str], list[str]]:
    """Records that speak of these objects, by stage and key: which ones."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for key in bad:
        wanted[node_of(key) or ""].append(key)
    found: dict[tuple[str, str], list[str]] = {}
    for record in records:
        mine = [key for text in record.wrote for key in wanted.get(parse_claim(text)[0], ()) if covers(text, key)]
        if mine:
            found[record.stage, record.key] = mine
    return found


def covers(claim: str, key: str) -> bool:
    """Whether an object is part of what a record says was written."""
    node, place = parse_claim(claim)
    if node_of(key) != node:
        return False
    if key == metadata_key(node):
        return not place  # some shards only: the array was made by another
    if place is None:
        return False
    indices = key.rpartition("/c/")[2].split("/")
    return not place or all(wanted in ("*", index) for wanted, index in zip(place.split("/"), indices, strict=True))


def clear(ws: Workspace, bad: Sequence[str], work: Work) -> None:
    """Take damaged records and metadata out of the way; describe groups anew, whose members are sound."""
    claims = claimed(done_records(ws.objects))
    groups = groups_above(claims) - claims.keys()
    for key in work.lost:
        ws.objects.delete(key)
    for key in set(bad) - set(work.stale):
        node = node_of(key)
        if node in groups:
            describe(ws, node)
        elif node is not None and key == metadata_key(node):
            ws.objects.delete(key)


def describe(ws: Workspace, node: str) -> None:
    """Write the metadata of a group; what a stage says of its results, it says again when it makes room."""
    put_group(ws.objects, node, {})
    for test in group.group_tests(ws):
        if test.path == node and ws.complete(group.shard_tasks(ws, test)):
            group.describe_group(ws, test)


def redo(ws: Workspace, client: distributed.Client | None, stage: Stage[Workspace], tasks: Sequence[Task]) -> None:
    """Make room where it is gone, and do the tasks again, with those before them that are not done any more."""
    for task in tasks:
        ws.objects.delete(record_key(task))
    if stage.prepare is not None:
        stage.prepare(ws)
    if not tasks:
        return
    known, wanted = stage.tasks(ws), {task.key for task in tasks}
    wanted |= {key for task in known if task.key in wanted for key in task.after}
    run_tasks(ws, client, stage, [task for task in known if task.key in wanted])
