"""A page as one HTML file that needs nothing beside it: style, program, volumes and viewer are in it."""

from __future__ import annotations

import base64
import gzip
import math
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pandas as pd

from voxloom._version import __version__

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

    from voxloom.report.blocks import Page

#: Digits that are shown of a number.
DIGITS = 3


def render(page: Page) -> str:
    """HTML of a page; the same bytes for the same page."""
    return environment().get_template("page.html").render(page=page, version=__version__, viewer=viewer_code())


@cache
def environment() -> jinja2.Environment:
    """The templates, which escape what they are given."""
    import jinja2  # 60 ms that only pages need

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("voxloom.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.globals["asset"] = asset
    found.filters["shown"] = shown
    return found


def asset(name: str) -> Markup:
    """Style or program of the page, as it is."""
    from markupsafe import Markup

    return Markup(files("voxloom.report").joinpath("templates", name).read_text(encoding="utf-8"))


@cache
def viewer_code() -> str:
    """NiiVue, gzipped in base64: 1.06 MB on the page instead of 2.28; browsers undo it in a tenth of a second."""
    code = files("voxloom.report").joinpath("vendor/niivue.umd.js").read_bytes()
    return base64.b64encode(gzip.compress(code, 9, mtime=0)).decode()


def is_number(value: Any) -> bool:
    """Whether a cell is a number, and goes to the right of its column."""
    return isinstance(value, (int, float)) or hasattr(value, "dtype")


def shown(value: Any, places: int | None = None) -> str:
    """A cell: numbers with `places`, or three digits, or all of a whole one's; nothing for what is missing."""
    if pd.isna(value):
        return ""
    if isinstance(value, bool) or not is_number(value):
        return str(value)
    number = float(value)
    if not math.isfinite(number):
        return "\N{INFINITY}"
    if places is not None:
        return f"{number:,.{places}f}".replace("-", "\N{MINUS SIGN}")
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}".replace("-", "\N{MINUS SIGN}")
    text = f"{number:.{DIGITS}g}" if abs(number) < 1000 else f"{number:,.0f}"
    return text.replace("-", "\N{MINUS SIGN}", 1)
