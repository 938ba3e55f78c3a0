"""Whether a store is sound: every object against its checksums, and every object that a record speaks of there."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from voxloom.engine.ledger import Forgetful, Ledger
from voxloom.engine.runner import Output, Task, run_stage
from voxloom.engine.worker import check_cancelled
from voxloom.errors import StoreError
from voxloom.io.store.integrity import (
    Damage,
    damage_of,
    damaged_documents,
    metadata_key,
    node_of,
)
from voxloom.io.store.objects import Objects
from voxloom.io.study.coverage import PATH as COVERAGE
from voxloom.io.study.open import AXIS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import distributed

    from voxloom.engine.events import OnEvent
    from voxloom.engine.ledger import Record

NAME = "verify"
#: Objects of one task; a shard is up to 64 MiB.
BATCH = 64


def find_damage(
    objects: Objects, client: distributed.Client | None = None, on_event: OnEvent | None = None
) -> list[Damage]:
    """Every damaged or missing object of a store, by key.

    An object is missing when a record of the ledger says that it was written: what an interrupted run has not come
    to is no damage. Objects of other programs, and the store's lock, are not looked at.

    Raises
    ------
    StoreError
        There is no study.
    """
    # records before keys: what they speak of was there before them
    require_study(objects)
    claims, keys = claimed(done_records(objects)), objects.list("")
    result = run_stage(
        NAME, tasks(objects.url, keys, claims), ledger=Ledger(Forgetful()), client=client, on_event=on_event
    )
    result.require_complete()
    found = [Damage(*told) for record in result.records.values() for told in record.details["damage"]]
    return sorted([*found, *missing_metadata(keys, claims)])


def require_study(objects: Objects) -> None:
    """Raise `StoreError` where there is no study, not even a damaged one."""
    if all(objects.get(metadata_key(node)) is None for node in ("", *AXIS)):
        raise StoreError(objects.url, "is not a voxloom study.", "Check the path, or make one with `voxloom run`.")


def done_records(objects: Objects) -> list[Record]:
    """Records of every stage whose tasks are done."""
    ledger = Ledger(objects)
    return [r for stage in objects.children("ledger") for r in ledger.read(stage).values() if r.status == "done"]


def claimed(records: Iterable[Record]) -> dict[str, list[str]]:
    """What should be there, by group or array: places of its shards, as `io.store.integrity.damage_of` takes them."""
    found: dict[str, list[str]] = defaultdict(list, {name: [""] for name in (*AXIS, COVERAGE)})
    for record in records:
        for text in record.wrote:
            node, place = parse_claim(text)
            found[node] += [] if place is None else [place]
    return dict(found)


def parse_claim(text: str) -> tuple[str, str | None]:
    """Path of the group or array, and place of its shards: empty for all, None for the metadata alone."""
    if (node := node_of(text)) is not None and text == metadata_key(node):
        return node, None
    node, _, place = text.partition("/c/")
    return node, place


def missing_metadata(keys: Sequence[str], claims: Mapping[str, Sequence[str]]) -> Iterator[Damage]:
    """Metadata of what should be there, and of the groups above it, that are not."""
    wanted = {metadata_key(node) for node in groups_above(claims).union(claims)}
    return (Damage(key, "is missing") for key in wanted.difference(keys))


def groups_above(nodes: Iterable[str]) -> set[str]:
    """Every group above these, the root included."""
    groups = {""}
    for node in nodes:
        parts = node.split("/")
        groups.update("/".join(parts[:i]) for i in range(1, len(parts)))
    return groups


def tasks(store: str, keys: Sequence[str], claims: Mapping[str, Sequence[str]]) -> list[Task]:
    """One task per `BATCH` objects; those of one array stay together."""
    nodes: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        if (node := node_of(key)) is not None:
            nodes[node].append(key)
    documents = [key for key in keys if key.startswith("ledger/")]
    found = [
        _task(store, {node: nodes[node] for node in batch}, {node: claims[node] for node in batch if node in claims})
        for batch in _batches(nodes)
    ]
    starts = range(0, len(documents), BATCH)
    return found + [_task(store, {}, {}, documents[start : start + BATCH]) for start in starts]


def _batches(nodes: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for node in sorted(nodes):
        batch.append(node)
        size += len(nodes[node])
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _task(
    store: str,
    nodes: Mapping[str, Sequence[str]],
    claims: Mapping[str, Sequence[str]],
    documents: Sequence[str] = (),
) -> Task:
    first = next(iter(nodes or documents))
    return Task(
        stage=NAME,
        key=first or "root",
        function=check,
        kwargs={"store": store, "nodes": nodes, "claims": claims, "documents": documents},
        inputs="",
    )


def check(
    *,
    store: str,
    nodes: Mapping[str, Sequence[str]],
    claims: Mapping[str, Sequence[str]],
    documents: Sequence[str],
) -> Output:
    """Check some objects; what is wrong with them is in the details."""
    objects = Objects(store)
    found = [*damaged_documents(objects, documents)]
    for node, keys in nodes.items():
        check_cancelled()
        found += damage_of(objects, node, keys, claims.get(node, ()))
    return Output(digest="", details={"damage": [list(damage) for damage in found]})
