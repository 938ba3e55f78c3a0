"""A browser that looks at pages, and a page whose numbers are known."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import xarray as xr

from voxloom.report.in_memory import model_report
from voxloom.schema import Grid, voxel_coords

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
#: WebGL 2 without a graphics card, and no sandbox, which root and most containers cannot have.
SWITCHES = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
#: Axes that run to the left, up and to the back, with sides of their own: nothing is right by chance.
GRID = Grid.of((14, 16, 18), np.array([[-4.0, 0, 0, 24], [0, 0, -3.0, 26], [0, 2.5, 0, -15], [0, 0, 0, 1]]))
PEAK, PIT = (4, 10, 6), (9, 5, 12)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; tests that need it skip where none is installed."""
    api = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("VOXLOOM_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium), or set VOXLOOM_CHROMIUM")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield started
        started.close()


@pytest.fixture(scope="session")
def planted() -> xr.DataArray:
    """Noise in a ball, with a peak of 7.25 and a pit of -6.5 that fall off around their voxels."""
    ijk = np.indices(GRID.shape).reshape(3, -1).T
    middle = (np.array(GRID.shape) - 1) / 2
    voxel = np.flatnonzero((((ijk - middle) / (middle + 0.5)) ** 2).sum(axis=1) < 1)
    values = 0.9 * np.random.default_rng(2).uniform(-1, 1, len(ijk))
    for place, height in ((PEAK, 7.25), (PIT, -6.5)):
        distance = ((ijk - place) ** 2).sum(axis=1)
        values = np.where(distance < 9, height * (1 - distance / 12), values)
    return xr.DataArray(values[voxel], dims="voxel", coords=voxel_coords(GRID, voxel), name="z_score")


class Seen(NamedTuple):
    """A page in the browser, and what it said or asked for while it was there."""

    page: Any
    complaints: list[str]
    requests: list[str]


@pytest.fixture(scope="session")
def html(planted: xr.DataArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the planted map and its negative, each with its cluster table."""
    path: Path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(model_report({"planted": planted, "turned": -planted}, {}, {}, title="A page"), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Any, html: Path, request: pytest.FixtureRequest) -> Iterator[Seen]:
    """The page, drawn, in a window of the given width (1280)."""
    seen = Seen(browser.new_page(viewport={"width": getattr(request, "param", 1280), "height": 900}), [], [])
    seen.page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("request", lambda asked: seen.requests.append(asked.url))
    seen.page.goto(html.as_uri())
    seen.page.wait_for_selector(".maps[data-ready]")
    yield seen
    seen.page.close()
