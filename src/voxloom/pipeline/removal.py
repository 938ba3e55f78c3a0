"""Takes a run out of a store: its voxels, its fits, and the maps it is part of."""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING

from voxloom.engine.ledger import Ledger
from voxloom.engine.lock import StoreLock
from voxloom.errors import StoreError, VoxloomWarning
from voxloom.io.bids.run_table import subject_of
from voxloom.io.store.access import get_attrs
from voxloom.io.study.open import open_study
from voxloom.io.study.runs import ATTRS, members, run_of
from voxloom.pipeline.coverage import update_coverage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from voxloom.io.store.objects import Objects


def remove_run(store: str | PathLike[str], run: str) -> list[str]:
    """Take a run out of a store, every smoothed version of it included; nothing else changes.

    Its voxels, fits and maps go with their records, and so do the maps of its subject, which the next
    `voxloom.run` makes again of the runs that are left; group results follow then. A run that is still among the
    files of an analysis is ingested again: leave it out with ``data.exclude``.

    Parameters
    ----------
    store : path-like or str
    run : str
        As in the index of `Study.runs`.

    Returns
    -------
    list of str
        Names of the results that it was part of.

    Raises
    ------
    StoreError
        There is no such study or run, or another process works on the store.
    """
    objects, run = open_study(store).objects, run_of(run)
    with StoreLock(objects, command="voxloom remove-run"):
        stored = versions_of(objects, run)
        results = [name for name in members(objects, "results") if objects.children(f"results/{name}/runs/{run}")]
        subjects = sorted({subject for name in stored for subject in subject_in(objects, name)})
        # records before data, and what says that the run is there last: a removal that was killed can be repeated
        forget(Ledger(objects), objects, run, stored, [f"{name}/{s}" for name in results for s in subjects])
        for name in results:
            sessions = [session for session in objects.children(f"results/{name}/sessions") if owned(session, subjects)]
            maps = [f"subjects/{subject}" for subject in subjects] + [f"sessions/{session}" for session in sessions]
            for path in (f"runs/{run}", *maps):
                objects.delete_tree(f"results/{name}/{path}")
        made = [f"{group}/{one}" for group in ("fits", "noise") for one in members(objects, group)]
        for path in (f"{path}/{name}" for path in made for name in stored):
            objects.delete_tree(path)
        for name in stored:
            objects.delete(f"runs/{name}/zarr.json")
            objects.delete_tree(f"runs/{name}")
        note = update_coverage(objects, Ledger(objects))
    if note is not None:
        warnings.warn(note, VoxloomWarning, stacklevel=2)
    return results


def versions_of(objects: Objects, run: str) -> list[str]:
    """Stored versions of a run: as it is, and smoothed.

    Raises
    ------
    StoreError
        There is none; the message gives the nearest names.
    """
    names = members(objects, "runs")
    found = [name for name in names if run_of(name) == run]
    if not found:
        near = get_close_matches(run, names, n=3)
        raise StoreError(objects.url, f"holds no run {run!r}.", f"Nearest: {', '.join(near)}." if near else "")
    return found


def owned(session: str, subjects: Sequence[str]) -> bool:
    """Whether the maps of a session are of one of these subjects."""
    return any(session.startswith(f"{subject}_ses-") for subject in subjects)


def subject_in(objects: Objects, stored: str) -> list[str]:
    """Subject of a stored run; none of one that was removed by half, whose subject has no maps any more."""
    attrs = (get_attrs(objects, f"runs/{stored}") or {}).get(ATTRS)
    return [] if attrs is None else [subject_of(run_of(stored), attrs["entities"])]


def forget(ledger: Ledger, objects: Objects, run: str, stored: list[str], combined: list[str]) -> None:
    """Drop the records of a run and of the maps it is part of."""
    for key in combined:
        ledger.drop("combine", key)
    for name in stored:
        for stage in ("design", "noise", "smooth", "fit"):
            for fit in objects.children(f"ledger/{stage}"):
                ledger.drop(stage, f"{fit}/{name}")
                ledger.forget_all(stage, f"{fit}/{name}")
        ledger.drop("ingest", name)
    ledger.drop("prepare", run)
