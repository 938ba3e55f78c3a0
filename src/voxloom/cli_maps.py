"""Options of commands that work on given maps, and how these make an analysis of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxloom.cli_options import tell

if TYPE_CHECKING:
    from voxloom.console import Listener
    from voxloom.pipeline import RunResult
    from voxloom.spec import MapsAnalysis

Maps = Annotated[
    list[Path],
    typer.Argument(
        metavar="MAPS...",
        help="One 4-D image, several 3-D images, a quoted pattern, or a list of them: .txt (a path a line), .tsv or "
        ".csv (a column path or map, maybe variance, and covariates).",
    ),
]
Out = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Mask = Annotated[
    Path | None, typer.Option(help="Mask image; else voxels that are finite in every map and not 0 in all of them.")
]
Design = Annotated[
    Path | None,
    typer.Option(help="Table (.tsv) with a row per map: the regressors, or what --formula names; else the mean alone."),
]
Formula = Annotated[str | None, typer.Option(help="Right-hand side over the table, such as 'age + C(group)'.")]
Contrasts = Annotated[
    list[str] | None,
    typer.Option(
        help="Of the design's columns, such as 'a - b' or 'name = a - b' (t); a term of the formula, such as "
        "'C(group)', or several with ; between, such as 'any = a - b; b - c' (F). May be repeated."
    ),
]
Permutations = Annotated[int, typer.Option(min=1, help="Rearrangements; more than before extends a test.")]
Chosen = Annotated[str, typer.Option(help="Of max_stat, cluster_size, cluster_mass, tfce; with commas between.")]
Threshold = Annotated[float, typer.Option(help="Cluster-forming p, in one tail.")]
Scheme = Annotated[str, typer.Option(help="auto, flip (signs) or permute.")]
Nuisance = Annotated[str, typer.Option(help="freedman-lane, dekker, ter-braak, manly or huh-jhun.")]
BlocksOption = Annotated[
    str | None,
    typer.Option(
        help="Who may be exchanged: a column of the table, within=COLUMN,whole=COLUMN, columns of nested blocks, or a "
        "table of its own."
    ),
]
VarianceGroups = Annotated[
    str | None, typer.Option(help="Who shares a variance: a column of the table, a table of its own, or auto.")
]
Rearrangements = Annotated[
    Path | None, typer.Option(help="Rearrangements to take in place of drawn ones, such as PALM's _permidx.csv.")
]
Tail = Annotated[str | None, typer.Option(help="gpd or gamma: fitted to the null for p below 0.1.")]
Joint = Annotated[
    str | None, typer.Option(help="Correct p over contrasts, modalities or all too, by the maximum over all of them.")
]
Smoothing = Annotated[
    float | None,
    typer.Option(help="Pseudo-t: smooth the variance over voxels by this many mm (FWHM); for tests of few maps."),
]
StopAt = Annotated[
    int | None,
    typer.Option(min=1, help="Stop counting for a voxel's uncorrected p after so many that reach its statistic."),
]
Sides = Annotated[bool, typer.Option("--two-sided/--one-sided", help="Test both signs, apart, or positive values.")]
Corrections = Annotated[str, typer.Option(help="Of permutation, fdr, bonferroni; with commas between.")]
Alpha = Annotated[float, typer.Option(help="Level of the summary.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the rearrangements.")]
StorePath = Annotated[
    str | None, typer.Option(help="Where the maps are kept while they are worked on; else OUTPUT.zarr.")
]
Scratch = Annotated[
    str | None, typer.Option(help="Disk that maps of clusters and TFCE may take at a time, such as 8GiB.")
]
Planned = Annotated[
    bool, typer.Option("--plan", help="Say what the command would do and what looks odd; write nothing.")
]


def inference_of(
    *,
    correction: str,
    statistics: str,
    cluster_threshold: float,
    blocks: str | None,
    variance_groups: str | None,
    rearrangements: Path | None,
    tables: list[Path],
    **others: Any,
) -> dict[str, Any]:
    """Inference as the analysis has it; tables that options name are added to `tables`."""
    return {
        "method": _words(correction),
        "statistics": [_statistic(name, cluster_threshold) for name in _words(statistics)],
        "blocks": _blocks(blocks, tables),
        "variance_groups": None if variance_groups is None else _columns(variance_groups, tables)[0],
        "rearrangements": None if rearrangements is None else str(rearrangements),
        **others,
    }


def work(listener: Listener, analysis: MapsAnalysis) -> tuple[RunResult, str]:
    """Do an analysis; how it ended, what is left at its level, and where the results are."""
    from voxloom.pipeline.given_maps.line import run_maps
    from voxloom.pipeline.inference.survivors import survivors

    result = run_maps(analysis, on_event=listener)
    tell(listener, result)
    lines = survivors(analysis) if result.ok else []
    return result, "\n".join([*lines, f"maps   {result.output}", f"store  {result.store}"])


def show_plan(analysis: MapsAnalysis) -> None:
    """Print what `work` would do.

    Raises
    ------
    MemoryBudgetError
        A task does not fit.
    """
    from voxloom.pipeline.given_maps.planning import plan_maps

    planned = plan_maps(analysis, calibrate=True)
    typer.echo(planned.render())
    planned.require_fits(analysis.memory_budget)


def named_contrasts(given: list[str] | None) -> dict[str, str | list[str]]:
    """Contrasts by name: ``name = expression``, or the expression as its own; several with ``;`` between."""
    return dict(_named(text) for text in given or ())


def _named(text: str) -> tuple[str, str | list[str]]:
    """Name and expressions of a contrast; a sign of equality in parentheses is one of a term."""
    head, equals, rest = text.partition("=")
    name, rows = (head, rest) if equals and "(" not in head else (text, text)
    expressions = [row.strip() for row in rows.split(";")]
    return name.strip(), expressions[0] if len(expressions) == 1 else expressions


def _blocks(given: str | None, tables: list[Path]) -> Any:
    """Blocks as the analysis has them; those of a table of its own are all its columns."""
    if given is None:
        return None
    if "=" in given:
        return dict(pair.partition("=")[::2] for pair in _words(given))
    columns = _columns(given, tables)
    return columns[0] if len(columns) == 1 else columns


def _columns(given: str, tables: list[Path]) -> list[str]:
    """Columns by name, or those of a table, which is added to the others."""
    if not given.endswith((".tsv", ".csv")):
        return _words(given)
    from voxloom.io.maps.phenotypes import LABEL_COLUMNS
    from voxloom.io.tables import read_tsv

    table = read_tsv(given, remedy="A table with a row per map is wanted.")
    tables.append(Path(given))
    return [name for name in table.columns if name not in LABEL_COLUMNS]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _statistic(name: str, threshold: float) -> str | dict[str, Any]:
    return {name: {"threshold": threshold}} if name.startswith("cluster_") else name
