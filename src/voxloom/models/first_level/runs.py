"""A contrast over the runs of a subject: every run answers that can, and the answers are joined."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import xarray as xr

from voxloom.blocks import map_voxels
from voxloom.errors import ContrastError, InputError, VoxloomWarning
from voxloom.kernels.contrast import MinimumStatistics, minimum_statistics
from voxloom.models.contrasts import combine_f, contrast, contrast_rows, contrast_text
from voxloom.models.first_level.fit import fixed_effects, stack_runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from voxloom.models.contrasts import Expression


def contrast_over_runs(
    fits: Mapping[str, xr.Dataset] | Sequence[xr.Dataset],
    expression: Expression | Mapping[str, Expression],
    *,
    stat_type: str | None = None,
    precision_weighted: bool = False,
) -> xr.Dataset:
    """Test a contrast over the runs of a subject, by fixed effects over those that can answer it.

    Parameters
    ----------
    fits : mapping of str to Dataset, or sequence of Dataset
        From `fit_first_level`, by the name of the run; a sequence names them ``run-1``, ``run-2``, ...
    expression : str, sequence of str, (K,) or (q, K) array_like, or mapping of str to one of these
        As in `contrast`. A mapping has one for each run; a run that it does not name is left out.
    stat_type : {"t", "F", "conjunction"}, optional
        t for one expression and F for more, when not given. F is of the mean of the rows over runs (`combine_f`);
        a conjunction of the fixed effects of each expression (`conjunction`).
    precision_weighted : bool
        As in `fixed_effects`; of t and conjunctions.

    Returns
    -------
    Dataset
        Of kind "contrast"; the attribute ``runs`` names the runs it rests on.

    Raises
    ------
    ContrastError
        No run can answer it; the reason is that of the first.
    InputError
        No runs, voxels that differ, or an unknown `stat_type`.

    Warns
    -----
    VoxloomWarning
        Names a run whose design lacks a column, or cannot estimate the contrast: a condition that did not happen in it.
    """
    named = fits if isinstance(fits, Mapping) else {f"run-{i}": fit for i, fit in enumerate(fits, 1)}
    asked = expression if isinstance(expression, Mapping) else dict.fromkeys(named, expression)
    _require_known(asked, named)
    answers: dict[str, Answer] = {}
    errors: dict[str, ContrastError] = {}
    for run, question in asked.items():
        try:
            answers[run] = answer(named[run], question, stat_type, tails=True)
        except ContrastError as error:
            errors[run] = error
    if not answers:
        raise next(iter(errors.values()))
    for run, reason in errors.items():
        warnings.warn(f"{run} is left out: {reason}", VoxloomWarning, stacklevel=2)
    joined = join(list(answers.values()), precision_weighted=precision_weighted)
    return joined.assign_attrs(runs=list(answers))


def _require_known(asked: Mapping[str, Any], named: Mapping[str, xr.Dataset]) -> None:
    unknown = [run for run in asked if run not in named]
    if unknown or not asked:
        raise InputError("runs", f"{unknown} have no fit." if unknown else "there is none.", f"Fits: {list(named)}.")


class Answer(NamedTuple):
    """A contrast in one run.

    Attributes
    ----------
    kind : {"t", "F", "conjunction"}
    maps : Dataset
        What the run alone says.
    parts : tuple of Dataset
        What is joined over runs: the contrast, for F its rows with their covariance, for a conjunction each t.
    """

    kind: str
    maps: xr.Dataset
    parts: tuple[xr.Dataset, ...]


def answer(fit: xr.Dataset, expression: Any, stat_type: str | None, *, tails: bool = False) -> Answer:
    """Ask one run an `Expression`; ``tails`` as in `contrast`, of t alone.

    Raises
    ------
    ContrastError
        The design lacks the columns, or cannot estimate the contrast.
    """
    if stat_type == "conjunction":
        if isinstance(expression, str):
            raise InputError(f"conjunction {expression!r}", "is of one contrast.", "Two or more are wanted.")
        parts = tuple(contrast(fit, row, stat_type="t") for row in expression)
        return Answer("conjunction", conjunction(parts), parts)
    maps = contrast(fit, expression, stat_type=stat_type, tails=tails)
    kind = str(maps.attrs["stat_type"])
    return Answer(kind, maps, (maps,) if kind == "t" else (contrast_rows(fit, expression),))


def join(answers: Sequence[Answer], *, precision_weighted: bool = False, tails: bool = True) -> xr.Dataset:
    """Fixed effects over the runs that have an answer (one at least), all to the same kind of question."""
    kinds = {found.kind for found in answers}
    if len(kinds) > 1:
        raise InputError("contrasts", f"of runs are {' and '.join(sorted(kinds))}.", "One kind is wanted.")
    over_runs = [list(runs) for runs in zip(*(found.parts for found in answers), strict=True)]
    return _JOIN[kinds.pop()](over_runs, partial(fixed_effects, precision_weighted=precision_weighted), tails)


def _join_t(parts: list[list[xr.Dataset]], mean: Callable[..., xr.Dataset], tails: bool) -> xr.Dataset:
    return mean(parts[0], tails=tails)


def _join_f(parts: list[list[xr.Dataset]], mean: Callable[..., xr.Dataset], tails: bool) -> xr.Dataset:
    return combine_f(parts[0])


def _join_conjunction(parts: list[list[xr.Dataset]], mean: Callable[..., xr.Dataset], tails: bool) -> xr.Dataset:
    return conjunction([mean(runs) for runs in parts])


_JOIN = {"t": _join_t, "F": _join_f, "conjunction": _join_conjunction}


def conjunction(contrasts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Test that every one of several effects is there, by the minimum statistic against the conjunction null.

    Parameters
    ----------
    contrasts : sequence of Dataset
        Two or more of kind "contrast" on the same voxels, of either level, from `contrast` (or `fixed_effects`,
        `contrast_over_runs`); t or F, of any degrees of freedom.

    Returns
    -------
    Dataset
        Of kind "contrast": ``stat`` and ``z_score`` are the smallest z, ``p_value`` is the largest p (one-sided; the
        null is that at least one effect is absent: Nichols et al. 2005), ``dof`` is infinite, for z is a normal
        deviate. NaN where any contrast is.

    Raises
    ------
    InputError
        Fewer than two contrasts, one without ``z_score``, or voxels that differ.
    """
    given = list(contrasts)
    if len(given) < 2:
        raise InputError("conjunction", f"is of {len(given)} contrast.", "Two or more are wanted.")
    if any("z_score" not in found for found in given):
        raise InputError("conjunction", "a contrast has no `z_score`.", "Make it by contrast(..., tails=True).")
    stacked = stack_runs([found[["z_score"]] for found in given], {"z_score": ("run",)})
    maps = map_voxels(minimum_statistics, stacked["z_score"], outputs=dict.fromkeys(MinimumStatistics._fields, ()))
    texts = [str(found.attrs.get("contrast", "")) for found in given]
    return xr.Dataset(maps, attrs={"stat_type": "conjunction", "contrast": contrast_text(texts)})
