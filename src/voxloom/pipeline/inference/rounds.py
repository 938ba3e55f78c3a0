"""Maps of the statistic on their way through the store: written for a round of batches, read by each, removed.

A round is written when so many earlier batches have been used, and their maps removed, that all maps there are fit the
scratch budget. Others are read meanwhile: no worker waits for a round to end. The record of written maps stays when
they are gone; it is dropped where a batch is still to be made of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from voxloom.engine.ledger import is_done
from voxloom.engine.runner import Task
from voxloom.io.store.arrays import create_array, get_attrs
from voxloom.pipeline.inference.nulls import maps_path
from voxloom.pipeline.inference.whole_maps import write_maps
from voxloom.pipeline.planning.memory import MAP_ROWS, rearrange_stretch
from voxloom.schema import MAP_CHUNK_VOXELS, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from voxloom.engine.ledger import Ledger, Record
    from voxloom.io.store.objects import Objects
    from voxloom.pipeline.inference.nulls import Null
    from voxloom.pipeline.stages.group import GroupTest

T = TypeVar("T")

#: Batches of a round at most, about 1,000 rearrangements: the effects are read once for all of them. A power of two, so
#: that a test of 1,000, eight batches, ends with a round however little disk there is.
BATCHES = 8


class Round(NamedTuple):
    """Batches of one null whose maps are written together.

    Attributes
    ----------
    uses : sequence of Task
        A task per batch, that uses its maps.
    makes : sequence of Task
        Tasks that write them, a stretch of voxels each; none where a batch makes its own.
    """

    uses: Sequence[Task]
    makes: Sequence[Task]

    @property
    def start(self) -> int:
        """First rearrangement."""
        return int(self.uses[0].kwargs["batch"][0])

    def undone(self, records: Mapping[str, Record]) -> list[Task]:
        """Batches that are still to be made."""
        return [use for use in self.uses if not is_done(use, records.get(use.key))]


def cut(batches: Sequence[T], n_batches: int) -> list[Sequence[T]]:
    """Cut the batches of a test into rounds, where the maps of `n_batches` fit the scratch budget.

    Two rounds fit it, or a single batch: one is written while the other is read. A longer test begins with the rounds
    of a shorter one.
    """
    half = max(1, n_batches // 2)
    return [batches[part] for part in shard_slices(len(batches), min(BATCHES, 2 ** (half.bit_length() - 1)))]


def make_tasks(
    null: Null, test: GroupTest, stretches: Sequence[slice], uses: Sequence[Task], inputs: str
) -> list[Task]:
    """Tasks that write the maps of some batches, a stretch of voxels each."""
    batches = [use.kwargs["batch"] for use in uses]
    shared = {key: uses[0].kwargs[key] for key in ("store", "null_path", "test", "row", "column", "inference", "seed")}
    return [
        Task(
            stage=uses[0].stage,
            key=f"{null.key}/maps/{len(stretches)}-{s:04d}-{batches[0][0]:07d}",
            function=write_maps,
            kwargs=shared | {"voxels": (voxels.start, voxels.stop), "batches": batches},
            inputs=digest([inputs, batches[-1][1], *sorted(test.labels.items())]),
        )
        for s, voxels in enumerate(stretches)
    ]


def map_stretches(n_voxels: int, test: GroupTest, budget: int) -> list[slice]:
    """Stretches of voxels whose maps fit the memory budget."""
    return shard_slices(n_voxels, rearrange_stretch(budget, len(test.subjects)))


def in_turn(rounds: Sequence[Round], n_batches: int, records: Mapping[str, Record]) -> Iterator[Task]:
    """Tasks of all rounds in order, each with those that it comes after.

    Maps are written for batches that are not done; of a round that is done, writing that was not recorded is left out.
    """
    held: list[str] = []
    for one in rounds:
        left = one.undone(records)
        if one.makes:
            held += [use.key for use in left]
        freed, batches = tuple(held[: max(0, len(held) - n_batches)]), [use.kwargs["batch"] for use in left]
        for make in one.makes:
            if left or is_done(make, records.get(make.key)):
                yield replace(make, kwargs={**make.kwargs, "batches": batches}, after=freed)
        yield from (replace(use, after=[make.key for make in one.makes]) for use in one.uses)


def make_room(objects: Objects, ledger: Ledger, one: Round, n_voxels: int, records: Mapping[str, Record]) -> None:
    """Room for the maps of batches that are still to be made; what is left of those that have been used goes.

    Where maps are wanted again that are not there, the records of all that are gone are dropped before room is made.
    """
    left = one.undone(records)
    for use in one.uses:
        if use not in left:
            remove_maps(objects, use.key)
    if any(get_attrs(objects, path_of(use.key)) is None for use in left):
        for make in one.makes:
            ledger.drop(make.stage, make.key)
    forget = partial(ledger.forget_all, one.makes[0].stage, one.makes[0].key.rpartition("/")[0])
    for use in left:
        start, stop = use.kwargs["batch"]
        stretch = one.makes[0].kwargs["voxels"][1]
        make_maps(objects, path_of(use.key), (stop - start, n_voxels), stretch, on_replace=forget)


def make_maps(
    objects: Objects, path: str, shape: tuple[int, int], stretch: int, on_replace: Callable[[], None]
) -> None:
    """Create the maps of a batch: a row is read as a whole, a stretch of voxels written at once."""
    chunk = min(MAP_CHUNK_VOXELS, shape[1])
    create_array(
        objects,
        path,
        dims=("permutation", "voxel"),
        shape=shape,
        chunks=(MAP_ROWS, chunk),
        shards=(-(-shape[0] // MAP_ROWS) * MAP_ROWS, -(-stretch // chunk) * chunk),
        on_replace=on_replace,
    )


def path_of(use: str) -> str:
    """Where the maps of a batch lie, by the key of the task that uses them."""
    null, _, batch = use.rsplit("/", 2)
    return maps_path(f"nulls/{null}", int(batch))


def remove_maps(objects: Objects, use: str) -> None:
    """Remove the maps of a batch that have been used, by the key of the task that did."""
    objects.delete_tree(path_of(use))
