"""Options of `voxloom group` for sites that share sums of their maps, and what they do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxloom.cli_options import tell
from voxloom.errors import InputError

if TYPE_CHECKING:
    from voxloom.console import Listener
    from voxloom.pipeline import RunResult

ExportSums = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write sums of the maps (with --merge-sums: of all sites) for others to merge; no map is told.",
    ),
]
MergeSums = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="Fit the pooled model of these sums, in place of maps: --merge-sums FILE FILE ..."
    ),
]
AddTo = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --export-sums: sums that the maps are added to.")
]
RemoveFrom = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --export-sums: sums that the maps are taken from.")
]
Site = Annotated[str, typer.Option(help="Name of the site in its sums; else that of the file.")]


def refuse(option: str, why: str, **others: Any) -> None:
    """Raise `InputError` for options that are given beside one that leaves them nothing to do."""
    for name, value in others.items():
        if value:
            raise InputError(f"--{name.replace('_', '-')}", f"is given beside {option}.", why)


def export(listener: Listener, maps: list[Path], path: Path, **options: Any) -> tuple[RunResult, str]:
    """Make a file of sums; how it ended, and where it is."""
    if not maps:
        raise InputError("MAPS", "are missing.", "Give the maps to be summed.")
    from voxloom.pipeline.site_sums.api import export_sums

    result = export_sums(maps, path, on_event=listener, **options)
    tell(listener, result)
    if not result.ok:
        return result, f"store  {result.store}"
    from voxloom.io.maps.sums import open_sums

    about = open_sums(path).attrs
    sites = ", ".join(f"{n} of {site}" for site, n in about["sites"].items())
    return result, f"sums   {path}: {about['cells']['maps']} maps ({sites}), {len(about['regressors'])} regressors"


def pool(
    listener: Listener, files: list[Path], output: Path | None, merged: Path | None, **options: Any
) -> tuple[RunResult, str]:
    """Fit a model to sums; how it ended, what is left at its level, and where the results are."""
    if output is None:
        raise InputError("--output", "is missing.", "Name a folder for the results.")
    from voxloom.pipeline.inference.survivors import survivors
    from voxloom.pipeline.site_sums.api import pooled_analysis, run_pooled

    wanted = pooled_analysis(files, output=output, **options)
    result = run_pooled(wanted, merged, on_event=listener)
    tell(listener, result)
    lines = survivors(wanted.analysis) if result.ok else []
    sites = ", ".join(f"{n} of {site}" for site, n in wanted.about.sites.items())
    lines += [f"sites  {sites}", f"maps   {result.output}", f"store  {result.store}"]
    return result, "\n".join(lines + ([f"sums   {merged}"] if merged else []))
