"""What the masks of the runs say of the study's voxels: how many runs cover each, and what lies outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.errors import CorruptionError
from voxloom.io.study.coverage import PATH, coverage_state, write_coverage
from voxloom.pipeline.masks import readable_mask
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from voxloom.engine.ledger import Ledger
    from voxloom.io.bids.run_table import RunFile
    from voxloom.io.store.objects import Objects
    from voxloom.pipeline.prepare import Inputs
    from voxloom.pipeline.workspace import Workspace
    from voxloom.schema import Grid


def update_coverage(objects: Objects, ledger: Ledger) -> str | None:
    """Count again how many runs cover each voxel where the runs of the store are not those that were counted.

    Returns why that cannot be done, where the mask of a run is damaged: there is no coverage then, rather than an
    old one, and no result depends on it.
    """
    done = [[r.key, r.digest] for r in ledger.read("ingest").values() if r.status == "done"]
    state = digest(done)  # records come in order of their keys
    try:
        if coverage_state(objects) != state:
            write_coverage(objects, state)
    except CorruptionError as error:
        objects.delete_tree(PATH)
        return f"coverage: cannot be counted: {error}"
    return None


def runs_of_sites(runs: Iterable[RunFile]) -> dict[str, list[RunFile]]:
    """Runs by site of a study of several; of one there is no difference to tell."""
    found: dict[str, list[RunFile]] = {}
    for run in runs:
        found.setdefault(run.site, []).append(run)
    return found if len(found) > 1 else {}


def outside(ws: Workspace) -> dict[str, int]:
    """Voxels of the masks of the ingested runs that the study does not have, by the run's id."""
    done = ws.done("ingest")
    return {run.id: done[ws.stored_id(run)].details["n_outside"] for run in ws.runs if ws.stored_id(run) in done}


def still(ws: Workspace) -> dict[str, int]:
    """Voxels in the masks of the ingested runs without a signal, by the run's id, of those that count them."""
    done = ws.done("ingest")
    details = {run.id: done[ws.stored_id(run)].details for run in ws.runs if ws.stored_id(run) in done}
    return {run: found["n_still"] for run, found in details.items() if "n_still" in found}


def planned_outside(ws: Workspace, inputs: Inputs, grid: Grid, mask: NDArray[np.bool_]) -> dict[str, int]:
    """`outside`, the masks of runs that are not ingested yet read; those that cannot be used become problems."""
    counts = outside(ws)
    if ws.study is None and ws.analysis.data.mask == "union":
        return counts  # the study has all their voxels
    for run in ws.runs:
        own = None if run.id in counts else readable_mask(run, inputs, grid, ws.analysis.data.mask)
        if own is not None:
            counts[run.id] = int(np.count_nonzero(own & ~mask))
    return counts


def outside_note(counts: Mapping[str, int]) -> str | None:
    """One line on the voxels that are left out; None where there are none."""
    some = {run: n for run, n in counts.items() if n}
    if not some:
        return None
    most = max(some, key=lambda run: some[run])
    return (
        f"voxels outside the study's: {len(some)} of {len(counts)} runs have {sum(some.values())} in all that are "
        f"not kept, most of them {most} ({some[most]})"
    )


def still_note(counts: Mapping[str, int]) -> str | None:
    """One line on the voxels that have no fit; None where there are none."""
    some = {run: n for run, n in counts.items() if n}
    if not some:
        return None
    most = max(some, key=lambda run: some[run])
    return (
        f"voxels without a signal (constant, zero or not finite): {sum(some.values())} in all, in {len(some)} of "
        f"{len(counts)} runs, most of them in {most} ({some[most]}); they are NaN there"
    )
