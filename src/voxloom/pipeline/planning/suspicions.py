"""Inputs that can be used but look wrong beside the others: one line each, with the file and what to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from voxloom.engine.plan import Problem
from voxloom.errors import InputError
from voxloom.io.nifti.volumes import read_mask
from voxloom.models.design.diagnostics import FEW_DOF, NOTABLE, design_diagnostics, inflation
from voxloom.pipeline.levels import answerable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from voxloom.io.bids.run_table import RunFile
    from voxloom.pipeline.planning.sizes import Survey

#: A run with fewer volumes than this share of the median was perhaps stopped early.
SHORT = 0.75
#: A mask beyond these shares of the median size was perhaps made of another image.
SMALL, LARGE = 0.7, 1.4
#: Repetition times that differ by more, in s, are others.
OTHER_T_R = 1e-3
#: Bytes that are read of files of equal size, from their beginning and their end, to tell copies.
LOOK = 2**16


def suspicions(survey: Survey) -> Iterator[Problem]:
    """Everything that is odd about the runs of a study."""
    runs = survey.ws.runs
    yield from short_runs({run.bold: survey.n_volumes(run) for run in runs})
    yield from odd_masks([run.mask for run in runs if run.mask is not None])
    yield from other_t_r({run.bold: survey.inputs.headers[run.id].t_r or run.t_r for run in runs})
    yield from copies([run.bold for run in runs])
    yield from copies([run.events for run in runs if run.events is not None and own_events(run, runs)])
    yield from rare_conditions(survey)
    yield from weak_designs(survey)


def warn(where: object, what: str, remedy: str) -> Problem:
    """A line of the plan."""
    return Problem(level="warning", where=str(where), what=what, remedy=remedy)


def short_runs(lengths: Mapping[Path, int]) -> Iterator[Problem]:
    """Images much shorter than most."""
    usual = np.median(list(lengths.values())) if lengths else 0
    for path, n in lengths.items():
        if n < SHORT * usual:
            what = f"has {n} volumes, most runs {usual:.0f}: was it stopped early?"
            yield warn(path, what, "Leave it out with data.exclude if so.")


def odd_masks(paths: Sequence[Path]) -> Iterator[Problem]:
    """Masks much smaller or larger than most."""
    sizes = {}
    for path in paths:
        try:
            sizes[path] = int(read_mask(path)[0].sum())
        except InputError:
            continue  # told elsewhere
    usual = np.median(list(sizes.values())) if sizes else 0
    for path, n in sizes.items():
        if not SMALL * usual <= n <= LARGE * usual:
            what = f"holds {n} voxels, most masks {usual:.0f}: was the brain found?"
            yield warn(path, what, "Look at it over its image; give data.mask, or leave the run out.")


def other_t_r(times: Mapping[Path, float | None]) -> Iterator[Problem]:
    """Images of another repetition time than most."""
    known = {path: round(t_r / OTHER_T_R) for path, t_r in times.items() if t_r}
    if not known:
        return
    usual, _ = Counter(known.values()).most_common(1)[0]
    for path, t_r in known.items():
        if abs(t_r - usual) > 1:
            what = f"has a repetition time of {t_r * OTHER_T_R:g} s, most runs {usual * OTHER_T_R:g} s."
            yield warn(path, what, "Check its protocol; each run is modelled with its own.")


def own_events(run: RunFile, runs: Sequence[RunFile]) -> bool:
    """Whether a run does not share its events file with others, as an inherited one is shared."""
    return sum(other.events == run.events for other in runs) == 1


def copies(paths: Sequence[Path]) -> Iterator[Problem]:
    """Files with the same content as an earlier one."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        by_size[path.stat().st_size].append(path)
    for alike in by_size.values():
        seen: dict[bytes, Path] = {}
        for path in alike if len(alike) > 1 else ():
            first = seen.setdefault(ends_of(path), path)
            if first != path:
                yield warn(path, f"has the same content as {first}.", "One run may stand under two names.")


def ends_of(path: Path) -> bytes:
    """First and last bytes of a file; the last of a gzip file are the checksum of its content."""
    with path.open("rb") as file:
        head = file.read(LOOK)
        file.seek(max(0, path.stat().st_size - LOOK))
        return head + file.read()


def rare_conditions(survey: Survey) -> Iterator[Problem]:
    """Columns of a design that are zero throughout: a condition whose events all lie outside the run, say."""
    paths = {run.id: run.events or run.bold for run in survey.fitted}
    for run_id, matrix in survey.designs.items():
        empty = [str(name) for name in matrix.columns[(matrix == 0).all()]]
        if empty:
            what = f"gives the columns {empty} no value other than 0."
            yield warn(paths[run_id], what, "Check onsets and durations; contrasts of them cannot be estimated.")


def weak_designs(survey: Survey) -> Iterator[Problem]:
    """Contrasts whose regressors are hard to tell apart, and runs with few volumes for their columns."""
    inflated: dict[str, dict[str, float]] = defaultdict(dict)
    dof = {}
    contrasts = survey.ws.analysis.first_level.contrasts
    for run_id, matrix in survey.designs.items():
        found = design_diagnostics(matrix, answerable(contrasts, list(matrix.columns)))
        dof[run_id] = found.dof
        for name, vif in found.contrasts["vif"].items():
            if NOTABLE < vif < np.inf:  # one that cannot be estimated is told elsewhere
                inflated[str(name)][run_id] = vif
    for name, of in inflated.items():
        worst = max(of, key=lambda run_id: of[run_id])
        what = f"contrast {name}: in {len(of)} of {len(dof)} runs, most in {worst}, {inflation(of[worst])}."
        yield warn("first_level.contrasts", what, "Look at plot_design; drop or merge regressors, or ask for less.")
    few = {run_id: n for run_id, n in dof.items() if n < FEW_DOF}
    if few:
        least = min(few, key=lambda run_id: few[run_id])
        what = f"{len(few)} of {len(dof)} runs leave fewer than {FEW_DOF} degrees of freedom; {least} {few[least]}."
        yield warn("first_level", what, "Use fewer confounds, scrub less, or leave the runs out.")
