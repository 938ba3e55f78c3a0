"""Files that were changed after they were ingested: named, and ingested again or set aside as the analysis says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloom.errors import InputError
from voxloom.io.bids.confounds import sidecar_of
from voxloom.io.nifti.pairs import image_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxloom.io.bids.run_table import RunFile
    from voxloom.pipeline.prepare import Inputs
    from voxloom.pipeline.workspace import Workspace

Fingerprint = list[Any] | None
REFUSED_REMEDY = "Set `data.changed_sources: reingest`, put the file back, or leave the run out with data.exclude."


def fingerprint(path: str | Path | None) -> Fingerprint:
    """Name, bytes and time of change of a file; enough to see that it is another one."""
    if path is None or not Path(path).exists():
        return None
    stat = Path(path).stat()
    return [Path(path).name, stat.st_size, stat.st_mtime_ns]


def source_files(run: RunFile) -> tuple[Path | None, ...]:
    """Image and mask (both files of a pair), events and confounds of a run; None where it has none.

    The sidecar of the confounds comes last, where there is one.
    """
    images = [part for path in (run.bold, run.mask) for part in (image_files(path) if path else (None,))]
    sidecar = None if run.confounds is None else sidecar_of(run.confounds)
    return (*images, run.events, run.confounds, *(() if sidecar is None else (sidecar,)))


def source_bytes(run: RunFile) -> int:
    """Bytes of these files."""
    return sum(path.stat().st_size for path in source_files(run) if path is not None)


def sources_of(run: RunFile) -> list[Fingerprint]:
    """Fingerprints of these files."""
    return [fingerprint(path) for path in source_files(run)]


def changed_sources(ws: Workspace) -> dict[str, str]:
    """Which files of a run are not those that were ingested, in words, by the run's id."""
    known, found = ws.ledger.read("ingest"), {}
    for run in ws.runs:
        record = known.get(ws.stored_id(run))
        if record is None or record.status != "done" or "sources" not in record.details:
            continue
        what = difference(record.details["sources"], sources_of(run))
        if what:
            found[run.id] = f"{what} since the run was ingested"
    return found


def difference(before: Iterable[Fingerprint], now: Iterable[Fingerprint]) -> str:
    """Which files were changed, are gone or are new, in words; nothing where they are the same."""
    old, new = ({mark[0]: mark for mark in marks if mark is not None} for marks in (before, now))
    kinds = {
        "changed": [name for name in old if name in new and old[name] != new[name]],
        "gone": [name for name in old if name not in new],
        "new": [name for name in new if name not in old],
    }
    return "; ".join(f"{', '.join(sorted(names))} {kind}" for kind, names in kinds.items() if names)


def stale_notes(ws: Workspace) -> list[str]:
    """What the next run does about changed files."""
    refused = ws.analysis.data.changed_sources == "refuse"
    then = "it is set aside (data.changed_sources: refuse)" if refused else "it is ingested again"
    return [f"{run_id}: {what}; {then}" for run_id, what in changed_sources(ws).items()]


def check_sources(ws: Workspace, inputs: Inputs) -> None:
    """Say which runs have changed files; where the analysis refuses them, they become problems.

    A refused run stays in the store as it was, and no result of this analysis is made of it.
    """
    if ws.analysis.data.changed_sources == "reingest":
        for note in stale_notes(ws):
            ws.note(note)
        return
    for run_id, what in changed_sources(ws).items():
        if inputs.headers.pop(run_id, None) is not None:
            inputs.problems[run_id] = InputError(run_id, f"{what}, and data.changed_sources is refuse.", REFUSED_REMEDY)
