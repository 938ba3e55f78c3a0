"""The nulls of a group model: which there are, where they lie, and the batches in which they are made.

Rearrangement i of a test depends on its seed and i alone, and batches begin at the same numbers for any length, so a
longer test begins with the batches of a shorter one: their records stay valid, and their arrays are made longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil
from typing import TYPE_CHECKING

from voxloom.errors import InputError
from voxloom.models.inference.joint import require_comparable
from voxloom.models.inference.prepared_test import prepare_test, with_smoothed_variance
from voxloom.pipeline.inference.exchange import exchangeability_of
from voxloom.spec.digests import digest, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxloom.io.study.open import Study
    from voxloom.models.inference.prepared_test import PreparedTest
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.spec import Inference
    from voxloom.spec.statistics import Statistic

#: Permutations of one task; large enough that reading the maps again for each batch costs nothing.
BATCH = 2_500
#: The first batch is shorter: a test of 1,000, which many begin with, is a whole one.
FIRST = 1_000
#: Permutations of one chunk of a null; a batch is made of whole ones.
CHUNK = 500
#: Permutations of one task over whole maps: 5 s for 200 subjects and 230,000 voxels, a tenth of it to read the effects.
SPATIAL_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Null:
    """What is made of all rearrangements for one first-level and one group contrast.

    Parameters
    ----------
    row, column : int
        The two contrasts.
    setup : PreparedTest
    path : str
        Where its arrays lie in the store.
    """

    row: int
    column: int
    setup: PreparedTest
    path: str

    @property
    def key(self) -> str:
        """Beginning of the keys of its tasks."""
        return self.path.removeprefix("nulls/")

    @property
    def batches(self) -> list[slice]:
        """Stretches of its rearrangements, one a task."""
        return batches(self.setup.n_perm)


def batches(n_perm: int) -> list[slice]:
    """Cut so many rearrangements: the first `FIRST`, then at multiples of `BATCH`; only the last batch may be short."""
    edges = [0, *(edge for edge in (FIRST, *range(BATCH, n_perm, BATCH)) if edge < n_perm), n_perm]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def spatial_batches(n_perm: int) -> list[slice]:
    """Cut at multiples of `SPATIAL_BATCH`, and after `FIRST`; only the last batch depends on the length."""
    edges = {0, n_perm, *range(SPATIAL_BATCH, n_perm, SPATIAL_BATCH), *([FIRST] if n_perm > FIRST else [])}
    return [slice(start, stop) for start, stop in pairwise(sorted(edges))]


def spatial_statistics(wanted: Inference) -> dict[str, Statistic]:
    """Statistics of the whole map by the names of their results; none where nothing is permuted."""
    if "permutation" not in wanted.method:
        return {}
    return {name: one for name, one in wanted.named.items() if one.spatial}


def stops(null: Null, wanted: Inference) -> bool:
    """Whether counts of a voxel end before all rearrangements are done; where all distinct ones are, all count."""
    return wanted.stop_at is not None and not null.setup.rearrangements.exhaustive


def swept(null: Null, wanted: Inference) -> list[slice]:
    """Batches in which maxima and counts are made of all voxels; none where only counts are wanted, and these stop."""
    return null.batches if wanted.named or not stops(null, wanted) else []


def counts_path(null: Null, wanted: Inference) -> str:
    """Where counts lie that stop."""
    return f"{null.path}/counts-{wanted.stop_at}"


def spatial_path(null: Null, wanted: Inference) -> str:
    """Where the nulls of the spatial statistics of a test lie, named by what these are."""
    made = {name: one.model_dump(mode="json") for name, one in spatial_statistics(wanted).items()}
    return f"{null.path}/spatial-{digest(made)}"


def maps_path(null_path: str, start: int | None = None) -> str:
    """Where the maps of a batch lie until they have been used; those of all batches without its start."""
    return f"{null_path}/maps" if start is None else f"{null_path}/maps/{start:07d}"


def nulls_of(test: GroupTest, wanted: Inference, seed: int) -> list[Null]:
    """The nulls of a group model, in the order of its contrasts; none where nothing is permuted."""
    if "permutation" not in wanted.method:
        return []
    setups = prepared_all(test, wanted, seed)
    return [
        Null(row=row, column=column, setup=setup, path=null_path(test, wanted, seed, row, column, setup))
        for column, setup in enumerate(setups)
        for row in range(len(test.first_level))
    ]


def null_path(test: GroupTest, wanted: Inference, seed: int, row: int, column: int, setup: PreparedTest) -> str:
    """Where a null lies: the length is no part of its name, but the list of all rearrangements has an order of its own.

    A list of all is another null than the random one of the same test.
    """
    name = name_of("infer", test.results, wanted.null_settings, seed)
    return f"nulls/{name}/{row}-{column}{'-all' if setup.rearrangements.exhaustive else ''}"


def family(test: GroupTest, wanted: Inference, row: int, column: int) -> list[tuple[int, int]]:
    """Pairs of first-level and group contrasts that p is corrected over together with one; that alone by default."""
    rows = range(len(test.first_level)) if wanted.joint in ("modalities", "all") else [row]
    columns = range(len(test.contrasts)) if wanted.joint in ("contrasts", "all") else [column]
    return list(product(rows, columns))


def require_nulls(test: GroupTest, wanted: Inference, seed: int) -> None:
    """Refuse a test that cannot be made, or whose p would say nothing.

    Raises
    ------
    InputError
        As `prepare_test`; too few permutations for alpha; a joint correction over one test, or over tests that do not
        go through the same rearrangements.
    """
    try:
        nulls = nulls_of(test, wanted, seed)
    except InputError as error:
        raise type(error)(f"group.{test.name}.{error.where}", error.what, error.remedy) from None
    require_resolution(test.name, wanted, nulls)
    if wanted.joint is None or not nulls:
        return
    where = f"group.{test.name}.inference.joint"
    if len(family(test, wanted, 0, 0)) == 1:
        raise InputError(where, f"is over {wanted.joint}, but there is one.", "Leave it out, or add another.")
    columns = {column for _, column in family(test, wanted, 0, 0)}
    setups = {name: nulls[i * len(test.first_level)].setup for i, name in enumerate(test.contrasts) if i in columns}
    try:
        require_comparable(setups, wanted.named)
    except InputError as error:
        raise InputError(where, f"{error.where}: {error.what}", "Name one scheme for all, or leave it out.") from None


def require_resolution(name: str, wanted: Inference, nulls: Iterable[Null]) -> None:
    """Refuse a test whose p cannot fall below alpha for want of permutations.

    That of all distinct rearrangements is let pass: there are no more.

    Raises
    ------
    InputError
        Says the smallest p, and how many permutations would do.
    """
    for null in nulls:
        least = 1 / null.setup.n_perm
        if least > wanted.alpha and not null.setup.rearrangements.exhaustive:
            raise InputError(
                f"group.{name}.inference.n_perm",
                f"is {wanted.n_perm}: no p can be below {least:.3g}, but alpha is {wanted.alpha:g}.",
                f"At least {ceil(1 / wanted.alpha)} are wanted, and 1,000 or more for a stable p.",
            )


def prepared_all(test: GroupTest, wanted: Inference, seed: int) -> list[PreparedTest]:
    """The permutation test of every group contrast: partition, scheme and number of rearrangements."""
    return [prepared(test, wanted, seed, column) for column in range(len(test.contrasts))]


def prepared(test: GroupTest, wanted: Inference, seed: int, column: int) -> PreparedTest:
    """The permutation test of one group contrast, voxels apart."""
    question = test.questions[column]
    setup = prepare_test(
        test.design,
        question.weights,
        stat_type=question.stat_type,
        n_perm=wanted.n_perm,
        exchangeability=exchangeability_of(wanted, test.labels),
        nuisance=wanted.nuisance,
        two_sided=wanted.two_sided,
        seed=seed,
        min_n=test.min_n,
    )
    if wanted.variance_smoothing_fwhm is not None and setup.stat_type != "t":
        what = f"is for tests of t, but `{list(test.contrasts)[column]}` is one of {setup.stat_type}."
        raise InputError("inference.variance_smoothing_fwhm", what, "Leave it out, or F and variance groups.")
    return setup


def prepared_for(study: Study, test: GroupTest, wanted: Inference, seed: int, column: int) -> PreparedTest:
    """The same for the voxels of a study: smoothed variances want to know where these lie."""
    setup, fwhm = prepared(test, wanted, seed, column), wanted.variance_smoothing_fwhm
    return setup if fwhm is None else with_smoothed_variance(setup, fwhm, study.voxel, study.grid)
