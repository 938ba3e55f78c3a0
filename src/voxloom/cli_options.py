"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxloom.console import EXIT_FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxloom.console import Listener
    from voxloom.engine.ledger import Record
    from voxloom.pipeline import RunResult

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks of errors.")]
Cluster = Annotated[
    str | None,
    typer.Option(help="local, threads, or the address of a scheduler (tcp://host:8786); else as in the file."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; else as many as cores and memory allow.")]
Memory = Annotated[str | None, typer.Option(help="Memory of one task, such as 512MiB; else as in the file.")]
Reports = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write there what each stage cost: JSON, and Dask's report as HTML (with bokeh)."),
]


def tell(listener: Listener, result: RunResult) -> None:
    """Show what the events did not."""
    for text in result.warnings:
        listener.note(text)
    for record in bad(result):
        listener.ended(record)


def finish(result: RunResult, quiet: bool, where: str) -> None:
    """Say where the results are, and end with the code that fits them."""
    if not quiet:
        typer.echo(where)
    if list(bad(result)):
        typer.echo(
            f"{len(result.failed)} failed, {len(result.quarantined)} quarantined; what was done is kept",
            err=True,
        )
        raise typer.Exit(EXIT_FAILED)


def bad(result: RunResult) -> Iterable[Record]:
    """Tasks without a result."""
    return (*result.failed, *result.quarantined)
