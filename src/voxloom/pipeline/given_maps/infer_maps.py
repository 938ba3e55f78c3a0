"""Permutation inference on given maps, from Python: what `voxloom infer` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxloom.pipeline.given_maps.analysis import MODEL
from voxloom.pipeline.given_maps.group_maps import GroupMaps, Paths, group_maps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    import distributed

    from voxloom.engine.events import OnEvent


def infer_maps(
    maps: Paths,
    *,
    output: str | PathLike[str],
    mask: str | PathLike[str] | None = None,
    table: Paths = (),
    formula: str | None = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "raise",
    min_n: int = 1,
    name: str = MODEL,
    store: str | PathLike[str] | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    memory_budget: int | str | None = None,
    seed: int | None = None,
    client: distributed.Client | None = None,
    on_event: OnEvent | None = None,
    **inference: Any,
) -> GroupMaps:
    """Test maps that are there as files by permutation, out of core; or go on where an earlier call stopped.

    The numbers are those of `permutation_test`. The same call with a greater `n_perm` adds the rearrangements that are
    new.

    Parameters
    ----------
    maps, mask, table, formula, missing, min_n, name : see `group_maps`
    store, cluster, workers, memory_budget, client, on_event : see `group_maps`
    output : path
        Folder for the NIfTI files, a BIDS derivative.
    contrasts : mapping of str, optional
        By name, as in the analysis file: an expression (t), a term of the formula or a list of expressions (F); the
        mean without a formula.
    seed : int, optional
        Of the rearrangements; 0 when not given.
    inference : optional
        Further arguments, keys of ``inference`` in the analysis file: ``n_perm``, ``statistics`` (names or objects such
        as ``TFCE()``), ``two_sided``, ``blocks`` and ``variance_groups`` (columns of the tables), ``joint``, ``tail``,
        ``stop_at``, ``variance_smoothing_fwhm``, ...; ``method`` is permutation and FDR when not given.

    Returns
    -------
    GroupMaps
        `ok`, `maps` (statistics, p and nulls, lazy), `output`, `store`, and what failed.

    Raises
    ------
    InputError
        Maps, tables, design, contrasts or inference do not go together; the message names files, maps or keys.
    MemoryBudgetError
        Not even the smallest piece fits the budget.
    """
    return group_maps(
        maps,
        output=output,
        mask=mask,
        table=table,
        formula=formula,
        contrasts=contrasts,
        missing=missing,
        min_n=min_n,
        inference={"method": ["fdr", "permutation"]} | inference,
        name=name,
        store=store,
        cluster=cluster,
        workers=workers,
        memory_budget=memory_budget,
        seed=seed,
        client=client,
        on_event=on_event,
    )
