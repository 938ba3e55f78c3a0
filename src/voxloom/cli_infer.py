"""The command `voxloom infer`: permutation inference on maps that are there already."""

from __future__ import annotations

from voxloom import cli_maps as given
from voxloom.cli_options import Cluster, Memory, Quiet, Verbose, Workers, finish
from voxloom.console import session
from voxloom.errors import InputError


def infer(
    maps: given.Maps,
    output: given.Out,
    mask: given.Mask = None,
    design: given.Design = None,
    formula: given.Formula = None,
    contrast: given.Contrasts = None,
    n_perm: given.Permutations = 10_000,
    statistics: given.Chosen = "max_stat",
    cluster_threshold: given.Threshold = 0.001,
    scheme: given.Scheme = "auto",
    nuisance: given.Nuisance = "freedman-lane",
    blocks: given.BlocksOption = None,
    variance_groups: given.VarianceGroups = None,
    rearrangements: given.Rearrangements = None,
    tail: given.Tail = None,
    joint: given.Joint = None,
    variance_smoothing: given.Smoothing = None,
    stop_at: given.StopAt = None,
    two_sided: given.Sides = True,
    correction: given.Corrections = "permutation,fdr",
    alpha: given.Alpha = 0.05,
    seed: given.Seed = 0,
    store: given.StorePath = None,
    cluster: Cluster = None,
    workers: Workers = None,
    memory_budget: Memory = None,
    scratch_budget: given.Scratch = None,
    plan: given.Planned = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Test maps by permutation: family-wise corrected p, out of core, from the maps alone.

    With --plan it says what it would do. The same command again goes on where it was stopped; with a greater --n-perm
    it adds the permutations that are new.
    """
    tables = [] if design is None else [design]
    with session(quiet=quiet, verbose=verbose) as listener:
        if not contrast and design is not None:
            raise InputError(
                "--contrast", "is missing, but a design needs one.", "Name columns of it, such as 'a - b'."
            )
        inference = given.inference_of(
            correction=correction,
            alpha=alpha,
            two_sided=two_sided,
            n_perm=n_perm,
            statistics=statistics,
            cluster_threshold=cluster_threshold,
            scheme=scheme,
            nuisance=nuisance,
            blocks=blocks,
            variance_groups=variance_groups,
            rearrangements=rearrangements,
            tail=tail,
            joint=joint,
            variance_smoothing_fwhm=variance_smoothing,
            stop_at=stop_at,
            tables=tables,
        )
        from voxloom.pipeline.given_maps.analysis import maps_analysis

        model = {"formula": formula, "contrasts": given.named_contrasts(contrast), "inference": inference}
        analysis = maps_analysis(
            maps,
            mask=mask,
            tables=tables,
            model=model,
            output=output,
            store=store,
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
