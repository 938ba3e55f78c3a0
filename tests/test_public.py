"""The top of the package: light to import, and every name of it documented."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import voxloom

INDEX = (Path(__file__).resolve().parents[1] / "docs/reference/python.md").read_text()
FUNCTIONS = sorted(name for name in voxloom.__all__ if inspect.isfunction(getattr(voxloom, name)))
#: Their imports cost from 0.1 s (NumPy) to more than a second (distributed). Typer itself takes pydantic.
HEAVY = {
    *("bokeh", "dask", "distributed", "formulaic", "nibabel", "numba", "numcodecs", "numpy", "obstore", "pandas"),
    *("pyarrow", "scipy", "xarray", "zarr"),
}
LIGHT = {
    "import": "import voxloom",
    "help": "import runpy; sys.argv = ['voxloom', '--help']; run('voxloom')",
    "help of a command": "import runpy; sys.argv = ['voxloom', 'run', '--help']; run('voxloom')",
    "version": "import runpy; sys.argv = ['voxloom', '--version']; run('voxloom')",
}
#: What the interpreter has loaded after a piece of code, and before it (startup files may import things themselves).
LOADED = """
import sys, contextlib, io
def run(module):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        runpy.run_module(module, run_name="__main__")
before = set(sys.modules)
{code}
print(*{{name.partition(".")[0] for name in set(sys.modules) - before}})
"""


@pytest.mark.parametrize("code", LIGHT.values(), ids=LIGHT)
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    ran = subprocess.run([sys.executable, "-c", LOADED.format(code=code)], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "voxloom" in loaded
    assert not loaded & HEAVY


def test_a_name_of_the_package_brings_what_it_needs():
    ran = subprocess.run([sys.executable, "-c", LOADED.format(code="import voxloom; voxloom.fdr")], capture_output=True)
    assert b"numpy" in ran.stdout.split()


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
