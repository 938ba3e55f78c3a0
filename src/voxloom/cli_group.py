"""The command `voxloom group`: a group model of maps that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxloom import cli_maps as given
from voxloom import cli_sums as sums
from voxloom.cli_options import Cluster, Memory, Quiet, Verbose, Workers, finish
from voxloom.console import session
from voxloom.errors import InputError

if TYPE_CHECKING:
    from voxloom.spec import MapsAnalysis

Maps = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="MAPS...",
        help="One 4-D image, several 3-D images, a quoted pattern, or a list of them: .txt (a path a line), .tsv or "
        ".csv (a column path or map, maybe variance, and covariates).",
    ),
]
Out = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the results.")]
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
Visits = Annotated[
    str | None, typer.Option(help="Column of visits or conditions, for sandwich-homogeneous, such as session_id.")
]
MinN = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Least number of maps: of a voxel that is fitted, else 1; of all, of each level of a factor and of each "
        "voxel that sums tell of, else 10.",
    ),
]
Permutations = Annotated[
    int | None, typer.Option(min=1, help="Rearrangements; asks for permutation among the corrections.")
]
Corrections = Annotated[str, typer.Option(help="Of bonferroni, fdr, permutation; with commas between.")]
Name = Annotated[str, typer.Option(help="Of the model, for the names of the files.")]


def group(
    maps: Maps = None,
    output: Out = None,
    variances: Variances = None,
    mask: given.Mask = None,
    table: Tables = None,
    formula: given.Formula = None,
    contrast: given.Contrasts = None,
    estimator: Estimator = "ols",
    groups: Groups = None,
    visits: Visits = None,
    missing: Missing = "raise",
    min_n: MinN = None,
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
    export_sums: sums.ExportSums = None,
    merge_sums: sums.MergeSums = None,
    add_to: sums.AddTo = None,
    remove_from: sums.RemoveFrom = None,
    site: sums.Site = "",
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

    With --plan it says what it would do. The same command again goes on where it was stopped. Sites that may not share
    maps share sums of them: --export-sums at each, --merge-sums for the pooled fit.
    """
    tables = list(table or ())
    work = {"store": store, "cluster": cluster, "workers": workers, "memory_budget": memory_budget}
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
        asked = {"contrasts": given.named_contrasts(contrast), "min_n": min_n or 1, "inference": inference}
        model = asked | {"estimator": estimator, "groups": groups, "visits": visits}
        if plan and (merge_sums or export_sums):
            raise InputError("--plan", "is given beside sums.", "It tells of models of maps alone.")
        if merge_sums:
            why = "The design of sums is theirs."
            sums.refuse("--merge-sums", why, formula=formula, table=table, mask=mask, variances=variances)
            files = [*merge_sums, *(maps or ())]
            result, summary = sums.pool(listener, files, output, export_sums, model=model, name=name, **work)
        elif export_sums:
            why = "Sums are of the maps; what is asked of them is said when they are merged."
            sums.refuse("--export-sums", why, contrast=contrast, variances=variances, groups=groups, n_perm=n_perm)
            about = {
                "table": tables,
                "formula": formula,
                "missing": missing,
                "mask": mask,
                "min_n": min_n,
                "site": site,
            }
            joined = {"add_to": add_to, "remove_from": remove_from}
            result, summary = sums.export(listener, maps or [], export_sums, **about, **joined, **work)
        else:
            sums.refuse("maps alone", "Name the file to write: --export-sums.", add_to=add_to, remove_from=remove_from)
            analysis = analysis_of(
                maps,
                output,
                variances=variances or (),
                mask=mask,
                tables=tables,
                model=model | {"formula": formula, "missing": missing},
                name=name,
                scratch_budget=scratch_budget,
                seed=seed,
                **work,
            )
            if plan:
                given.show_plan(analysis)
                return
            result, summary = given.work(listener, analysis)
    finish(result, quiet, summary)


def analysis_of(maps: list[Path] | None, output: Path | None, **options: Any) -> MapsAnalysis:
    """The analysis of the maps, where there are some, and a place for the results."""
    if not maps:
        raise InputError("MAPS", "are missing.", "Give the maps, or sums of sites with --merge-sums.")
    if output is None:
        raise InputError("--output", "is missing.", "Name a folder for the results.")
    from voxloom.pipeline.given_maps.analysis import maps_analysis

    return maps_analysis(maps, output=output, **options)
