"""The command line.

A command imports the heavy modules itself, and after it has read the analysis file: `--help` and a typo are
answered at once.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxloom._version import __version__
from voxloom.cli_group import group
from voxloom.cli_infer import infer
from voxloom.cli_options import Cluster, Memory, Quiet, Reports, Verbose, Workers, finish, tell
from voxloom.console import EXIT_FAILED, session

if TYPE_CHECKING:
    from voxloom.spec import Analysis

app = typer.Typer(
    name="voxloom",
    help="Out-of-core fMRI GLM analysis on Dask: files in, maps out, from one analysis file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done; 1 a stage failed or inputs were quarantined; 2 file or arguments are wrong.",
)

#: New objects between two collections. The libraries make a million that stay: looking at them less saves 0.2 s.
GC_THRESHOLD = 100_000

AnalysisFile = Annotated[Path, typer.Argument(metavar="ANALYSIS", help="Analysis file, YAML or JSON.")]


def main() -> None:
    """Entry point of the ``voxloom`` command."""
    gc.set_threshold(GC_THRESHOLD)
    try:
        app(prog_name="voxloom")
    finally:
        gc.freeze()  # else the interpreter's last collections walk every object of every library: 0.55 s against 0.05


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voxloom {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for data, store and results.")] = Path("voxloom-demo"),
    workers: Workers = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Simulate a small study, run it, and compare what comes out with the truth."""
    with session(quiet=quiet, verbose=verbose) as listener:
        from voxloom.demo import run_demo

        result = run_demo(output, on_event=listener, workers=workers)
    typer.echo(str(result))


@app.command()
def init(
    bids_dir: Annotated[Path, typer.Argument(metavar="BIDS_DIR", help="BIDS dataset.")],
    preprocessed: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DERIVATIVES",
            help="Folders of preprocessed data, as fMRIPrep writes them; else derivatives/fmriprep where it is.",
        ),
    ] = None,
    derivatives: Annotated[list[Path] | None, typer.Option(help="The same as an option; may be repeated.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("analysis.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    verbose: Verbose = False,
) -> None:
    """Look at a dataset and write a commented analysis file to start from."""
    with session(verbose=verbose):
        from voxloom.io.bids.starter import write_starter

        folders = [*(preprocessed or ()), *(derivatives or ())]
        path = write_starter(bids_dir, folders or None, output, force=force)
    typer.echo(f"wrote {path}\nnext: voxloom plan {path}")


@app.command()
def plan(
    analysis: AnalysisFile,
    cluster: Cluster = None,
    workers: Workers = None,
    memory_budget: Memory = None,
    calibrate: Annotated[bool, typer.Option(help="Estimate CPU time by timing the kernels, 2 s.")] = True,
    verbose: Verbose = False,
) -> None:
    """Say what a run would do and what is wrong with its inputs; write nothing."""
    with session(verbose=verbose):
        wanted = _load(analysis, cluster, workers, memory_budget)
        from voxloom import pipeline

        planned = pipeline.plan(wanted, calibrate=calibrate)
        typer.echo(planned.render())
        planned.require_fits(wanted.memory_budget)
    if planned.errors:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def ingest(
    analysis: AnalysisFile,
    cluster: Cluster = None,
    workers: Workers = None,
    memory_budget: Memory = None,
    performance_report: Reports = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Put the runs of an analysis into its store: the first stage of a run, alone."""
    with session(quiet=quiet, verbose=verbose) as listener:
        wanted = _load(analysis, cluster, workers, memory_budget)
        from voxloom import pipeline

        result = pipeline.run(wanted, until="ingest", performance_report=performance_report, on_event=listener)
        tell(listener, result)
    finish(result, quiet, f"store  {result.store}")


@app.command()
def run(
    analysis: AnalysisFile,
    cluster: Cluster = None,
    workers: Workers = None,
    memory_budget: Memory = None,
    performance_report: Reports = None,
    report: Annotated[bool, typer.Option(help="Draw a page for every subject and group model at the end.")] = True,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run an analysis, or go on where an earlier run stopped."""
    with session(quiet=quiet, verbose=verbose) as listener:
        wanted = _load(analysis, cluster, workers, memory_budget)
        from voxloom import pipeline
        from voxloom.report.after_run import index_of, reports_after

        result = pipeline.run(
            wanted,
            performance_report=performance_report,
            on_event=listener,
            afterwards=reports_after if report else None,
        )
        tell(listener, result)
    index = index_of(result.output)
    pages = f"report {index}\n" if report and index.exists() else ""
    finish(result, quiet, f"{pages}maps   {result.output}\nstore  {result.store}")


@app.command()
def report(
    store: Annotated[
        str, typer.Argument(metavar="ANALYSIS_OR_STORE", help="Analysis file, or a store that was reported on before.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder in which `reports` is made; else that of the results.")
    ] = None,
    cluster: Cluster = None,
    workers: Workers = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw the pages of subjects and group models from the store, those that are missing or out of date."""
    with session(quiet=quiet, verbose=verbose) as listener:
        from voxloom.report.kept import kept_analysis

        wanted = _load(Path(store)) if _is_file(store) else kept_analysis(store)
        from voxloom.report.stage import write_reports

        index = write_reports(_changed(wanted, cluster, workers), output=output, on_event=listener)
    typer.echo(str(index))


@app.command()
def status(analysis: AnalysisFile, verbose: Verbose = False) -> None:
    """Say what is done, failed and quarantined, and why."""
    with session(verbose=verbose):
        wanted = _load(analysis)
        from voxloom import pipeline

        found = pipeline.status(wanted)
    typer.echo(found.render() or f"nothing is done yet: voxloom run {analysis}")


@app.command()
def verify(
    store: Annotated[
        str, typer.Argument(metavar="STORE_OR_ANALYSIS", help="Store, or the analysis file that names it.")
    ],
    against_source: Annotated[
        bool, typer.Option("--against-source", help="Decode the images again too, and compare. Needs the analysis.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make what is damaged anew, and nothing else. Needs the analysis.")
    ] = False,
    cluster: Cluster = None,
    workers: Workers = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Read all of a store again, check every checksum, and look for what is missing."""
    with session(quiet=quiet, verbose=verbose) as listener:
        analysis = _load(Path(store), cluster, workers) if _is_file(store) else None
        if analysis is None and (against_source or repair or cluster):
            raise typer.BadParameter("these options need the analysis file instead of the store")
        from voxloom import pipeline

        problems = pipeline.repair(analysis, on_event=listener) if analysis and repair else None
        if problems is None:
            problems = pipeline.verify(analysis or store, workers=workers, on_event=listener)
        if analysis and against_source:
            problems += pipeline.verify_sources(analysis, on_event=listener)
    url = analysis.store.path if analysis else store
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        remedy = "" if repair else f"; mend it: voxloom verify {store if analysis else 'ANALYSIS'} --repair"
        typer.echo(f"{len(problems)} damaged, missing or different{remedy}", err=True)
        raise typer.Exit(EXIT_FAILED)
    if not quiet:
        typer.echo(f"{url}: sound")


@app.command("remove-run")
def remove_run(
    analysis: AnalysisFile,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, as `voxloom status` and the store say.")],
    verbose: Verbose = False,
) -> None:
    """Take a run out of the store, with its fits and the maps it is part of."""
    with session(verbose=verbose):
        wanted = _load(analysis)
        from voxloom import pipeline

        results = pipeline.remove_run(wanted.store.path, run)
    typer.echo(
        f"removed {run}; made of it: {', '.join(results) or 'no results'}\n"
        f"where its files are still there, `data: {{exclude: [{run}]}}` keeps the next run from ingesting it again"
    )


@app.command()
def export(
    analysis: AnalysisFile,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the maps; else as in the file.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the maps that are in the store as NIfTI, without computing anything anew."""
    with session(quiet=quiet, verbose=verbose) as listener:
        wanted = _load(analysis)
        from voxloom import pipeline

        result = pipeline.export(wanted, output=output, on_event=listener)
        tell(listener, result)
    finish(result, quiet, f"maps   {result.output}\nstore  {result.store}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the analysis file, for editors."""
    from voxloom.spec import schema_text

    typer.echo(schema_text(), nl=False)


def _load(
    path: Path, cluster: str | None = None, workers: int | None = None, memory_budget: str | None = None
) -> Analysis:
    """Read an analysis file; what the command line sets replaces what it says."""
    from voxloom.spec import load_analysis

    return _changed(load_analysis(path), cluster, workers, memory_budget)


def _changed(
    analysis: Analysis, cluster: str | None, workers: int | None, memory_budget: str | None = None
) -> Analysis:
    """The analysis with what the command line sets."""
    from voxloom.spec import parse_analysis

    given = {"cluster": cluster, "workers": workers, "memory_budget": memory_budget}
    changes = {key: value for key, value in given.items() if value is not None}
    return parse_analysis(analysis.to_dict() | changes, where="command line") if changes else analysis


def _is_file(text: str) -> bool:
    return "://" not in text and Path(text).is_file()


app.command()(group)
app.command()(infer)
