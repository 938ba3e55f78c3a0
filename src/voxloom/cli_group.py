"""The command `voxloom group`: a group model of maps that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voxloom import cli_maps as given
from voxloom.cli_options import Cluster, Memory, Quiet, Verbose, Workers, finish
from voxloom.console import session

Variances = Annotated[
    list[Path] | None,
    typer.Option(
        help="Variances of the maps, in their order: an image, a quoted pattern or a list; may be repeated. Else the "
        "column variance of the table that lists the maps."
    ),
]
Tables = Annotated[
    list[Path] | None,
    typer.Option(
        help="Covariates: a .tsv or .csv with participant_id (and session_id), with path, or with a row per map in "
        "their order; or a BIDS dataset (participants.tsv, sub-*_sessions.tsv). May be repeated. Else the table that "
        "lists the maps."
    ),
]
Estimator = Annotated[
    str,
    typer.Option(help="ols, unequal-variances, sandwich, random-intercept; with variances: fixed, reml, paule-mandel."),
]
Groups = Annotated[
    str | None, typer.Option(help="Column of who shares a variance, a cluster or an intercept, such as participant_id.")
]
Missing = Annotated[
    str, typer.Option(help="raise, or drop: leave out maps without a row, a finite covariate or their pair.")
]
Permutations = Annotated[
    int | None, typer.Option(min=1, help="Rearrangements; asks for permutation among the corrections.")
]
Corrections = Annotated[str, typer.Option(help="Of bonferroni, fdr, permutation; with commas between.")]
Name = Annotated[str, typer.Option(help="Of the model, for the names of the files.")]


def group(
    maps: given.Maps,
    output: given.Out,
    variances: Variances = None,
    mask: given.Mask = None,
    table: Tables = None,
    formula: given.Formula = None,
    contrast: given.Contrasts = None,
    estimator: Estimator = "ols",
    groups: Groups = None,
    missing: Missing = "raise",
    correction: Corrections = "bonferroni,fdr",
    n_perm: Permutations = None,
    statistics: given.Chosen = "max_stat",
    cluster_threshold: given.Threshold = 0.001,
    scheme: given.Scheme = "auto",
    nuisance: given.Nuisance = "freedman-lane",
    blocks: given.BlocksOption = None,
    variance_groups: given.VarianceGroups = None,
    rearrangements: given.Rearrangements = None,
    tail: given.Tail = None,
    two_sided: given.Sides = True,
    alpha: given.Alpha = 0.05,
    seed: given.Seed = 0,
    name: Name = "maps",
    store: given.StorePath = None,
    cluster: Cluster = None,
    workers: Workers = None,
    memory_budget: Memory = None,
    scratch_budget: given.Scratch = None,
    plan: given.Planned = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fit a group model to maps, out of core: effects, t or F, z and corrected p as NIfTI.

    With --plan it says what it would do. The same command again goes on where it was stopped.
    """
    tables = list(table or ())
    with session(quiet=quiet, verbose=verbose) as listener:
        inference = given.inference_of(
            correction=correction if n_perm is None else f"{correction},permutation",
            alpha=alpha,
            two_sided=two_sided,
            n_perm=n_perm or 10_000,
            statistics=statistics,
            cluster_threshold=cluster_threshold,
            scheme=scheme,
            nuisance=nuisance,
            blocks=blocks,
            variance_groups=variance_groups,
            rearrangements=rearrangements,
            tail=tail,
            tables=tables,
        )
        from voxloom.pipeline.given_analysis import maps_analysis

        model = {
            "formula": formula,
            "contrasts": given.named_contrasts(contrast),
            "estimator": estimator,
            "groups": groups,
            "missing": missing,
            "inference": inference,
        }
        analysis = maps_analysis(
            maps,
            variances=variances or (),
            mask=mask,
            tables=tables,
            model=model,
            output=output,
            store=store,
            name=name,
            cluster=cluster,
            workers=workers,
            memory_budget=memory_budget,
            scratch_budget=scratch_budget,
            seed=seed,
        )
        if plan:
            given.show_plan(analysis)
            return
        result, summary = given.work(listener, analysis)
    finish(result, quiet, summary)
