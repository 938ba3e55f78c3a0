"""The command `voxloom infer`: permutation inference on maps that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxloom.cli_options import Cluster, Memory, Quiet, Verbose, Workers, finish, tell
from voxloom.console import session
from voxloom.errors import InputError

if TYPE_CHECKING:
    from voxloom.spec import MapsAnalysis

#: Name of the group model of the command.
MODEL = "maps"


Maps = Annotated[
    list[Path],
    typer.Argument(
        metavar="MAPS...",
        help="One 4-D image, several 3-D images, or a list of them: .txt (a path a line), .tsv (a column path or map).",
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
    typer.Option(help="Contrast of the design's columns, such as 'a - b' or 'name = a - b'; may be repeated."),
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
Sides = Annotated[bool, typer.Option("--two-sided/--one-sided", help="Test both signs, apart, or positive values.")]
Corrections = Annotated[str, typer.Option(help="Of permutation, fdr, bonferroni; with commas between.")]
Alpha = Annotated[float, typer.Option(help="Level of the summary.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the rearrangements.")]
StorePath = Annotated[
    str | None, typer.Option(help="Where the maps are kept while they are worked on; else OUTPUT.zarr.")
]


def infer(
    maps: Maps,
    output: Out,
    mask: Mask = None,
    design: Design = None,
    formula: Formula = None,
    contrast: Contrasts = None,
    n_perm: Permutations = 10_000,
    statistics: Chosen = "max_stat",
    cluster_threshold: Threshold = 0.001,
    scheme: Scheme = "auto",
    nuisance: Nuisance = "freedman-lane",
    blocks: BlocksOption = None,
    variance_groups: VarianceGroups = None,
    rearrangements: Rearrangements = None,
    tail: Tail = None,
    two_sided: Sides = True,
    correction: Corrections = "permutation,fdr",
    alpha: Alpha = 0.05,
    seed: Seed = 0,
    store: StorePath = None,
    cluster: Cluster = None,
    workers: Workers = None,
    memory_budget: Memory = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Test maps by permutation: family-wise corrected p, out of core, from the maps alone.

    The same command again goes on where it was stopped; with a greater --n-perm it adds the permutations that are new.
    """
    tables: list[Path] = []
    inference: dict[str, Any] = {
        "method": _words(correction),
        "alpha": alpha,
        "two_sided": two_sided,
        "n_perm": n_perm,
        "scheme": scheme,
        "statistics": [_statistic(name, cluster_threshold) for name in _words(statistics)],
        "nuisance": nuisance,
        "rearrangements": None if rearrangements is None else str(rearrangements),
        "tail": tail,
    }
    model: dict[str, Any] = {
        "formula": formula,
        "table": None if design is None else str(design),
        "inference": inference,
    }
    given = {"cluster": cluster, "workers": workers, "memory_budget": memory_budget, "seed": seed}
    with session(quiet=quiet, verbose=verbose) as listener:
        model |= {"contrasts": _contrasts(contrast, design)}
        inference |= {"blocks": _blocks(blocks, tables), "variance_groups": _one(variance_groups, tables)}
        analysis = _analysis(maps, mask, output, store, tables, {"group": {MODEL: model}} | given)
        from voxloom.pipeline.infer_maps import infer_maps
        from voxloom.pipeline.survivors import survivors

        result = infer_maps(analysis, on_event=listener)
        tell(listener, result)
        summary = survivors(analysis) if result.ok else []
    finish(result, quiet, "\n".join([*summary, f"maps   {result.output}", f"store  {result.store}"]))


def _analysis(
    maps: list[Path], mask: Path | None, output: Path, store: str | None, tables: list[Path], more: dict[str, Any]
) -> MapsAnalysis:
    from voxloom.io.given_maps import list_maps
    from voxloom.spec import parse_maps_analysis

    given = list_maps(maps)
    raw = {
        "maps": {
            "files": [str(path) for path in given.effects],
            "variances": [str(path) for path in given.variances],
            "mask": None if mask is None else str(mask),
            "tables": [str(path) for path in tables],
        },
        "output": {"dir": str(output)},
        "store": {"path": store or f"{output}.zarr"},
    }
    return parse_maps_analysis(raw | more)


def _blocks(given: str | None, tables: list[Path]) -> Any:
    """Blocks as the analysis has them; those of a table of its own are all its columns."""
    if given is None:
        return None
    if "=" in given:
        return dict(pair.partition("=")[::2] for pair in _words(given))
    columns = _columns(given, tables)
    return columns[0] if len(columns) == 1 else columns


def _one(given: str | None, tables: list[Path]) -> str | None:
    """Column of a table."""
    return None if given is None else _columns(given, tables)[0]


def _columns(given: str, tables: list[Path]) -> list[str]:
    """Columns by name, or those of a table, which is added to the others."""
    if not given.endswith(".tsv"):
        return _words(given)
    from voxloom.io.phenotypes import LABEL_COLUMNS
    from voxloom.io.tables import read_tsv

    table = read_tsv(given, remedy="A table with a row per map is wanted.")
    tables.append(Path(given))
    return [name for name in table.columns if name not in LABEL_COLUMNS]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _statistic(name: str, threshold: float) -> str | dict[str, Any]:
    return {name: {"threshold": threshold}} if name.startswith("cluster_") else name


def _contrasts(given: list[str] | None, design: Path | None) -> dict[str, str]:
    """Contrasts by name; without any, and without a design, the mean."""
    if not given and design is not None:
        raise InputError("--contrast", "is missing, but a design needs one.", "Name columns of it, such as 'a - b'.")
    named = [text.partition("=") if "=" in text else (text, "=", text) for text in given or ()]
    return {name.strip(): expression.strip() for name, _, expression in named}
