"""Stages `combat` and `harmonise`: what sites add to maps and scale them by is found, then taken from the maps.

Location and scale of a site at a voxel are shrunken toward what they are over all voxels (`kernels.group.combat`), so
there are two passes with a small sum between them. The first, a task per contrast and shard of voxels, leaves what each
voxel tells, and moments over the shard, added in chunks of voxels. The second adds the moments of all shards in order,
shrinks, and writes harmonised maps a block of subjects at a time, as the group stage reads maps.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.io.store.arrays import create_array
from voxloom.io.store.objects import Objects
from voxloom.io.store.regions import read_region
from voxloom.io.study.open import describe_results
from voxloom.kernels.group import combat as kernel
from voxloom.kernels.group.patterns import group_patterns, pattern_bits
from voxloom.pipeline.planning.memory import FLOAT64, GroupWork, group_piece, map_voxels
from voxloom.pipeline.stages.group import HARMONISE as NAME
from voxloom.pipeline.stages.group import group_tests, inputs_of, load_effects
from voxloom.pipeline.stages.harmony import raw
from voxloom.pipeline.stored.maps import make_map_array, map_chunks, write_block
from voxloom.pipeline.workspace import GroupWorkspace, Stage, content_digest
from voxloom.schema import MAP_CHUNK_MAPS, MAP_CHUNK_VOXELS, MAP_SHARD_VOXELS, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.pipeline.stages.harmony import Harmony
    from voxloom.spec import GroupAnalysis

COMBAT = "combat"
#: Arrays of `kernel.Described` in the store: what maps tell of a site has a name of its own beside what is shrunken.
STORED = {
    "mean": "mean",
    "beta": "beta",
    "sigma": "sigma",
    "gamma": "gamma_own",
    "delta2": "delta2_own",
    "n": "n",
}
SHRUNKEN = ("gamma", "delta2")
#: Sums of `kernel.moments`.
MOMENTS = 5


def is_wanted(analysis: GroupAnalysis) -> bool:
    """Whether any model wants it."""
    return any(model.harmonise for model in analysis.group.values())


def tests_of(ws: GroupWorkspace) -> list[tuple[GroupTest, Harmony]]:
    """Group models that want it."""
    return [(test, test.harmony) for test in group_tests(ws) if test.harmony is not None]


def shards(n_voxels: int) -> list[slice]:
    """Stretches of voxels, one a task."""
    return shard_slices(n_voxels, map_chunks(n_voxels)[1])


def combat_tasks(ws: GroupWorkspace) -> list[Task]:
    """One task of the first pass per model, contrast and shard of voxels."""
    return [task for test, known in tests_of(ws) for task in _first(ws, test, known)]


def _first(ws: GroupWorkspace, test: GroupTest, known: Harmony) -> list[Task]:
    kwargs = {"test": test, "memory_budget": ws.analysis.memory_budget}
    return _tasks(ws, COMBAT, describe_shard, first_inputs(ws, test, known), kwargs)


def first_inputs(ws: GroupWorkspace, test: GroupTest, known: Harmony) -> str:
    """Digest of the maps of the first pass, and of who is of which site."""
    return digest([inputs_of(ws, raw(test)), known.settings])


def tasks(ws: GroupWorkspace) -> list[Task]:
    """One task of the second pass per model, contrast and shard of voxels, once the first is done."""
    found: list[Task] = []
    for test, known in tests_of(ws):
        first = _first(ws, test, known)
        if ws.complete(first):
            done = [ws.done(COMBAT)[task.key].digest for task in first]
            inputs = digest([first_inputs(ws, test, known), done])
            found += _tasks(ws, NAME, harmonise_shard, inputs, {"test": test})
    return found


def _tasks(
    ws: GroupWorkspace, stage: str, function: Callable[..., Output], inputs: str, kwargs: dict[str, Any]
) -> list[Task]:
    """A task for each contrast and shard of voxels of ``kwargs["test"]``."""
    test, where = kwargs["test"], {"store": ws.url}
    return [
        Task(
            stage=stage,
            key=f"{test.source}/{i}-{place:04d}",
            function=function,
            kwargs=kwargs | where | {"contrast": i, "place": place, "start": voxels.start, "stop": voxels.stop},
            inputs=inputs,
        )
        for i in range(len(test.rows))
        for place, voxels in enumerate(shards(len(ws.voxel)))
    ]


def prepare_combat(ws: GroupWorkspace) -> None:
    """Room for what voxels tell; what other maps or other sites told is replaced."""
    for test, known in tests_of(ws):
        attrs = {"inputs": first_inputs(ws, test, known)}
        forget = partial(ws.ledger.forget_all, COMBAT, test.source)
        for name, leading in leading_of(test, known).items():
            make_map_array(
                ws.objects, f"{path_of(test)}/{name}", leading, len(ws.voxel), attrs=attrs, on_replace=forget
            )
        n_shards, n_sites = len(shards(len(ws.voxel))), len(known.labels)
        create_array(
            ws.objects,
            f"{path_of(test)}/moments",
            dims=("contrast", "shard", "moment", "site"),
            shape=(len(test.rows), n_shards, MOMENTS, n_sites),
            chunks=(1, 1, MOMENTS, n_sites),
            attrs=attrs,
            on_replace=forget,
        )


def leading_of(test: GroupTest, known: Harmony) -> dict[str, dict[str, int]]:
    """Dims of the arrays of the first pass, the voxels apart; there is none of no covariates."""
    contrast, site = {"contrast": len(test.rows)}, {"site": len(known.labels)}
    found = {"mean": contrast, "sigma": contrast}
    found |= {STORED[name]: contrast | site for name in ("gamma", "delta2", "n")}
    return found | ({"beta": contrast | {"regressor": known.keep.shape[1]}} if known.keep.shape[1] else {})


def path_of(test: GroupTest) -> str:
    """Where the harmonised maps of a model lie."""
    return f"results/{test.source}"


def describe_shard(
    *, store: str, test: GroupTest, contrast: int, place: int, start: int, stop: int, memory_budget: int
) -> Output:
    """What the maps of one contrast tell of every site at a shard of voxels."""
    objects, before, known = Objects(store), raw(test), test.harmony
    assert known is not None, "tasks are of models that harmonise"
    X, site, fitted = known.X, np.asarray(known.site), np.asarray(known.fitted)
    n_sites, n_voxels = len(known.labels), stop - start
    shapes = {"beta": (X.shape[1],)} | dict.fromkeys(("gamma", "delta2", "n"), (n_sites,))
    out = kernel.Described(*(np.empty((*shapes.get(name, ()), n_voxels)) for name in STORED))
    sums, read, step = np.zeros((MOMENTS, n_sites)), 0, combat_piece(n_voxels, test, memory_budget)
    for piece in shard_slices(n_voxels, step):
        check_cancelled()
        voxels = slice(start + piece.start, start + piece.stop)
        Y = load_effects(objects, before, before.rows[contrast], voxels)["effect"].to_numpy()
        read += Y.nbytes
        Y = Y if fitted.all() else Y[fitted]
        pattern, present = group_patterns(pattern_bits(Y), len(Y))
        found = kernel.describe(X[fitted], Y, site[fitted], n_sites, pattern, present)
        del Y
        for values, of_piece in zip(out, found):
            values[..., piece] = of_piece
        for chunk in shard_slices(found.mean.size, MAP_CHUNK_VOXELS):
            sums += kernel.moments(found.gamma[:, chunk], found.delta2[:, chunk]).sum(axis=-1)
    stored = {STORED[name]: values for name, values in out._asdict().items() if values.size}
    for name, values in stored.items():
        write_block(objects, f"{path_of(test)}/{name}", (contrast, *(0,) * (values.ndim - 1), start), values[None])
    write_block(objects, f"{path_of(test)}/moments", (contrast, place, 0, 0), sums[None, None])
    written = [*stored.values(), sums]
    return Output(
        digest=content_digest(written),
        bytes_read=read,
        bytes_written=sum(values.nbytes for values in written),
        wrote=[
            *(
                f"{path_of(test)}/{name}/c/{contrast}/{'*/' * (values.ndim - 1)}{place}"
                for name, values in stored.items()
            ),
            f"{path_of(test)}/moments/c/{contrast}/{place}/*/*",
        ],
    )


def prepare(ws: GroupWorkspace) -> None:
    """Room for shrunken parameters and harmonised maps, named as `fit_combat` and the group stage name them."""
    for test, known in tests_of(ws):
        forget, n = partial(ws.ledger.forget_all, NAME, test.source), len(test.subjects)
        coords = {"subject": list(test.subjects), "contrast": list(test.first_level)}
        coords |= {"site": list(known.labels), "regressor": list(map(str, known.keep.columns))}
        said = {"model": test.name, "sites": [known.labels[i] for i in known.site], "fitted_to": list(known.fitted)}
        describe_results(ws.objects, test.source, level="harmonised", coords=coords, **said)
        attrs, leading = {"inputs": first_inputs(ws, test, known)}, {"subject": n, "contrast": len(test.rows)}
        make_map_array(
            ws.objects,
            f"{path_of(test)}/effect",
            leading,
            len(ws.voxel),
            chunk=(min(MAP_CHUNK_MAPS, n), 1),
            attrs=attrs,
            on_replace=forget,
        )
        leading = {"contrast": len(test.rows), "site": len(known.labels)}
        for name in SHRUNKEN:
            make_map_array(
                ws.objects, f"{path_of(test)}/{name}", leading, len(ws.voxel), attrs=attrs, on_replace=forget
            )


def harmonise_shard(*, store: str, test: GroupTest, contrast: int, place: int, start: int, stop: int) -> Output:
    """Shrink location and scale of every site at a shard of voxels, and take them from the maps of one contrast."""
    objects, known = Objects(store), test.harmony
    assert known is not None, "tasks are of models that harmonise"
    path, voxels = path_of(test), slice(start, stop)
    sums = read_region(objects, f"{path}/moments", (slice(contrast, contrast + 1), *(slice(None),) * 3))[0]
    of = read_described(objects, test, known, contrast, voxels)
    prior, chunks = kernel.priors(reduce(np.add, sums)), shard_slices(stop - start, MAP_CHUNK_VOXELS)
    shrunken = tuple(np.empty_like(of.gamma) for _ in SHRUNKEN)
    for chunk in chunks:
        for values, found in zip(shrunken, kernel.shrink(part_of(of, chunk), prior)):
            values[:, chunk] = found
    for name, values in zip(SHRUNKEN, shrunken):
        write_block(objects, f"{path}/{name}", (contrast, 0, start), values[None])
    read, contents = sums.nbytes + sum(values.nbytes for values in of), [content_digest(shrunken)]
    for block in shard_slices(len(test.subjects), MAP_CHUNK_MAPS):
        maps = read_block(objects, raw(test), contrast, block, voxels)
        read += maps.nbytes
        for chunk in chunks:
            check_cancelled()
            gamma, delta2 = (values[:, chunk] for values in shrunken)
            site = np.asarray(known.site[block])
            maps[:, chunk] = kernel.adjust(known.X[block], maps[:, chunk], site, part_of(of, chunk), gamma, delta2)
        write_block(objects, f"{path}/effect", (block.start, contrast, start), maps[:, None])
        contents.append(content_digest([maps]))
    n_maps = len(test.subjects) + len(SHRUNKEN) * len(known.labels)
    return Output(
        digest=digest(contents),
        bytes_read=read,
        bytes_written=FLOAT64 * n_maps * (stop - start),
        wrote=[
            f"{path}/effect/c/*/{contrast}/{start // MAP_SHARD_VOXELS}",
            *(f"{path}/{name}/c/{contrast}/*/{start // MAP_SHARD_VOXELS}" for name in SHRUNKEN),
        ],
    )


def read_described(objects: Objects, test: GroupTest, known: Harmony, contrast: int, voxels: slice) -> kernel.Described:
    """What the first pass found at a stretch of voxels."""
    found = {}
    for name, leading in leading_of(test, known).items():
        region = (slice(contrast, contrast + 1), *(slice(None),) * (len(leading) - 1), voxels)
        found[name] = read_region(objects, f"{path_of(test)}/{name}", region)[0]
    found.setdefault("beta", np.empty((0, voxels.stop - voxels.start)))
    return kernel.Described(*(found[stored] for stored in STORED.values()))


def part_of(of: kernel.Described, chunk: slice) -> kernel.Described:
    """Some of the voxels."""
    return kernel.Described(*(values[..., chunk] for values in of))


def read_block(objects: Objects, before: GroupTest, contrast: int, block: slice, voxels: slice) -> NDArray[np.float64]:
    """Maps of a block of subjects as they were."""
    places = tuple(range(len(before.subjects)))[block] if before.places is None else before.places[block]
    part = replace(before, subjects=before.subjects[block], places=places)
    return np.asarray(load_effects(objects, part, before.rows[contrast], voxels)["effect"].to_numpy())


def combat_work(test: GroupTest) -> GroupWork:
    """What the first pass holds: residuals and what they are standardised to, and what every voxel tells, twice."""
    assert test.harmony is not None, "asked of models that harmonise"
    return GroupWork(copies=5, numbers=2 * test.harmony.n_parameters, n_tests=0)


def combat_numbers(n_voxels: int, test: GroupTest) -> int:
    """What every voxel of a shard tells, and of a piece of it."""
    assert test.harmony is not None, "asked of models that harmonise"
    return 2 * test.harmony.n_parameters * map_voxels(n_voxels)


def combat_piece(n_voxels: int, test: GroupTest, budget: int) -> int:
    """Voxels of which the maps are read at once, in whole chunks."""
    return group_piece(budget, len(test.subjects), combat_numbers(n_voxels, test), combat_work(test))


COMBAT_STAGE = Stage(COMBAT, combat_tasks, prepare_combat, wanted=is_wanted)
STAGE = Stage(NAME, tasks, prepare, wanted=is_wanted)
