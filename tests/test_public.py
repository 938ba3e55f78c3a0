"""The top of the package: light to import, and every name of it documented."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import voxloom

INDEX = (Path(__file__).resolve().parents[1] / "docs/index.md").read_text()
FUNCTIONS = sorted(name for name in voxloom.__all__ if inspect.isfunction(getattr(voxloom, name)))
MEASURE = """
import sys, time
started = time.perf_counter()
import voxloom
print(time.perf_counter() - started, *{"numpy", "xarray", "pandas", "dask", "zarr", "nibabel"} & set(sys.modules))
"""


def test_import_is_light_and_takes_less_than_a_tenth_of_a_second():
    runs = [subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True) for _ in range(3)]
    seconds, *loaded = zip(*(run.stdout.split() for run in runs))
    assert min(map(float, seconds)) < 0.1
    assert not loaded


def test_every_name_is_there_and_in_the_overview():
    assert set(voxloom.__all__) <= set(dir(voxloom))
    missing = [name for name in voxloom.__all__ if name != "__version__" and not re.search(rf"`{name}\b", INDEX)]
    assert not missing
    with pytest.raises(AttributeError, match="no_such_name"):
        voxloom.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_name_every_parameter_and_what_is_returned_and_raised(name):
    function = getattr(voxloom, name)
    text = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Raises"):
        assert f"{section}\n{'-' * len(section)}\n" in text
    listed = re.findall(r"^([\w, *]+) : ", text, re.MULTILINE) + re.findall(r"^(\w+)$", text, re.MULTILINE)
    named = {part.strip() for line in listed for part in line.split(",")}
    assert set(inspect.signature(function).parameters) <= named


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_overview_calls_functions_with_arguments_they_have(name):
    shown = re.search(rf"`{name}\(([^)]*)\)", INDEX)[1].split(", ")
    keywords = {argument.partition("=")[0] for argument in shown if "=" in argument}
    parameters = inspect.signature(getattr(voxloom, name)).parameters
    assert keywords <= set(parameters)
    assert len(shown) <= len(parameters)
