"""The runs of a whole analysis: those of its dataset, or of all its sites, which must be of one kind."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from voxloom.errors import InputError
from voxloom.io.bids.run_table import index_runs
from voxloom.io.bids.tree import natural_key
from voxloom.spec.section import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxloom.io.bids.run_table import RunFile
    from voxloom.spec import Data

#: Entities in which runs of one study must not differ: another task is another question, the others another grid.
SHARED = ("task", "space", "cohort", "res", "den")


def find_runs(data: Data) -> tuple[RunFile, ...]:
    """Every run an analysis names, in natural order.

    Parameters
    ----------
    data : Data
        Section `data` of the analysis.

    Raises
    ------
    InputError
        As `index_runs`, with the name of the site; sites differ in task or space; an excluded run is not there.
    """
    runs = [run for site in data.datasets for run in _runs_at(data, site)]
    for key in SHARED if data.sites else ():
        _require_one(runs, key)
    known = {run.id for run in runs}
    for run_id in data.exclude:
        if run_id not in known:
            raise InputError("data.exclude", f"{run_id} is no run of the analysis.", did_you_mean(run_id, known))
    return tuple(sorted((run for run in runs if run.id not in data.exclude), key=lambda run: natural_key(run.id)))


def _runs_at(data: Data, site: str) -> Iterator[RunFile]:
    """Runs of one dataset."""
    dataset = data.datasets[site]
    try:
        yield from index_runs(
            dataset.bids_dir,
            dataset.derivatives,
            task=data.task,
            space=data.space,
            filters=dict(dataset.filters),
            site=site,
        )
    except InputError as error:
        if not site:
            raise
        raise InputError(f"data.sites.{site}: {error.where}", error.what, error.remedy) from error


def _require_one(runs: Sequence[RunFile], key: str) -> None:
    """Refuse sites that differ in an entity; within a site `index_runs` has seen to it."""
    sites: dict[str, Counter[str]] = {}
    for run in runs:
        sites.setdefault(run.entities.get(key, "none"), Counter())[run.site] += 1
    if len(sites) > 1:
        shown = "; ".join(f"{key}-{value} at {', '.join(sorted(found))}" for value, found in sorted(sites.items()))
        raise InputError(
            "data.sites",
            f"differ in `{key}`: {shown}.",
            f"Set `data.{key}:`." if key in ("task", "space") else "Choose one with the filters of each site.",
        )
