"""Verification of a store, its comparison with the files it was made from, and its repair."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from voxloom.engine.cluster import connect
from voxloom.engine.lock import StoreLock
from voxloom.io.bids.sites import find_runs
from voxloom.io.store.objects import Objects
from voxloom.io.study.open import open_study
from voxloom.pipeline.line import stages_of
from voxloom.pipeline.running import as_analysis, at_work
from voxloom.pipeline.verification.against_source import compare_runs
from voxloom.pipeline.verification.axis import mend_axis
from voxloom.pipeline.verification.damage import find_damage, require_study
from voxloom.pipeline.verification.mending import mend
from voxloom.pipeline.workspace import Workspace
from voxloom.schema import MEMORY_BUDGET
from voxloom.spec import Analysis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from os import PathLike
    from pathlib import Path

    import distributed

    from voxloom.engine.events import OnEvent
    from voxloom.io.store.integrity import Damage


def verify(
    store: str | PathLike[str] | Analysis,
    client: distributed.Client | None = None,
    *,
    workers: int | None = None,
    on_event: OnEvent | None = None,
) -> list[Damage]:
    """Read every object of a store again and check it against its checksums; look for those that should be there.

    Writes nothing and needs no lock; what a run is replacing at the same time may be told as missing.

    Parameters
    ----------
    store : path-like, str or Analysis
    client : distributed.Client, optional
        Where to run; on the cluster of the analysis when not given, and in this process where there is none.
    workers : int, optional
        Worker processes to start for a store that is named without an analysis.
    on_event : callable, optional
        Called with each event of the engine.

    Returns
    -------
    list of Damage
        ``key`` and ``what`` of each object that is damaged or missing; none for a sound store. What an interrupted
        run has not come to is no damage.

    Raises
    ------
    StoreError
        There is no study.
    """
    if isinstance(store, Analysis):
        with _cluster(store, client) as connected:
            return find_damage(Objects(store.store.path), connected, on_event)
    spec = "local" if workers and client is None else "threads"
    with connect(spec, workers=workers, memory_budget=MEMORY_BUDGET) as started:
        return find_damage(Objects(store), client or started, on_event)


def verify_sources(
    spec: Analysis | str | Path | Mapping[str, Any],
    client: distributed.Client | None = None,
    *,
    on_event: OnEvent | None = None,
) -> list[Damage]:
    """Decode the image of every stored run again and compare with the store: voxels in the mask, header, extras.

    One task per run, within the memory budget of the analysis. Writes nothing.

    Returns
    -------
    list of Damage
        What differs, and the runs whose source is gone, has changed, or cannot be read.

    Others as in `run`.
    """
    analysis = as_analysis(spec)
    ws = Workspace(analysis, Objects(analysis.store.path), runs=find_runs(analysis.data), on_event=on_event)
    ws.study = open_study(ws.url)
    with _cluster(analysis, client) as connected:
        return compare_runs(ws, connected)


def repair(
    spec: Analysis | str | Path | Mapping[str, Any],
    client: distributed.Client | None = None,
    *,
    on_event: OnEvent | None = None,
) -> list[Damage]:
    """Make what is damaged or missing in the store of an analysis anew, and nothing else.

    Shards of runs are encoded again from their files, once these have been seen to give all that is sound of the
    run; everything else is written again by the tasks that wrote it. The store is then, byte for byte, what it was.

    Returns
    -------
    list of Damage
        What is left, and why.

    Others as in `run`.
    """
    analysis = as_analysis(spec)
    ws = Workspace(analysis, Objects(analysis.store.path), runs=find_runs(analysis.data), on_event=on_event)
    require_study(ws.objects)
    with StoreLock(ws.objects, command="voxloom verify --repair", on_event=on_event):
        mend_axis(ws)
    with at_work(analysis, client, on_event, stages_of(analysis)) as (at, connected):
        return mend(at, connected)


@contextmanager
def _cluster(analysis: Analysis, client: distributed.Client | None) -> Iterator[distributed.Client | None]:
    if client is not None:
        yield client
        return
    with connect(analysis.cluster, workers=analysis.workers, memory_budget=analysis.memory_budget) as connected:
        yield connected
