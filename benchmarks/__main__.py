"""Run the benchmarks: ``python -m benchmarks [names]``, all of them without names.

A benchmark is a module ``bench_<name>.py`` here with ``run() -> dict``. Its result is printed as a table and
kept in ``results/<name>.json``.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks._harness import write_results

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def available() -> list[str]:
    """Names of the benchmarks of this folder, sorted."""
    modules = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name.removeprefix("bench_") for name in modules if name.startswith("bench_"))


def flat(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Rows (dotted key, value) of a nested result; long lists stay in the JSON."""
    for key, value in results.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        elif not isinstance(value, list):
            yield name, f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: list[str] | None = None) -> int:
    """Run the named benchmarks; 2 for an unknown name."""
    names = available()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of: {', '.join(names)}")
    chosen = parser.parse_args(argv).names or names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are: {', '.join(names)}")
    console = Console()
    for name in chosen:
        results = importlib.import_module(f"benchmarks.bench_{name}").run()
        table = Table("figure", "value", title=name)
        for row in flat(results):
            table.add_row(*row)
        console.print(table)
        console.print(f"written to {write_results(name, results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
