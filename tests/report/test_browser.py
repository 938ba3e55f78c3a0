"""Pages as a browser shows them: values and places read back through the viewer, thresholds, narrow screens."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from nibabel.affines import apply_affine

from conftest import GRID, PEAK, PIT  # isort: skip

if TYPE_CHECKING:
    import xarray as xr

image = pytest.importorskip("PIL.Image")


def coloured(page: Any, selector: str) -> dict[str, int]:
    """Reddish and bluish pixels of an element, as they are on the screen."""
    shot = np.asarray(image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")).astype(int)
    red, green, blue = np.moveaxis(shot, -1, 0)
    strong = shot.max(axis=-1) - shot.min(axis=-1) > 60
    return {"warm": int((strong & (red > blue)).sum()), "cool": int((strong & (blue > red) & (blue > green)).sum())}


def set_threshold(page: Any, value: float) -> None:
    page.locator(".level input").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )
    page.wait_for_timeout(200)


def open_at(page: Any, row: int) -> dict[str, str]:
    """Click a row of the cluster table on show; what the viewer then reads out."""
    page.locator(".of-map:not([hidden]) tr.leads").nth(row).click()
    page.wait_for_function("document.querySelector('.place').dataset.value")
    page.wait_for_timeout(300)
    told: dict[str, str] = page.locator(".place").evaluate("(place) => ({...place.dataset, text: place.textContent})")
    return told


def test_planted_peaks_are_read_back_through_the_viewer_in_their_voxel(opened):
    for row, (place, height) in enumerate(((PEAK, 7.25), (PIT, -6.5))):
        told = open_at(opened.page, row)
        there = [float(told[axis]) for axis in "xyz"]
        found = apply_affine(np.linalg.inv(GRID.matrix), there)
        np.testing.assert_array_equal(np.rint(found), place)
        assert float(told["value"]) == pytest.approx(height, rel=1e-3)
        assert f"z {height:.2f}".replace("-", "\N{MINUS SIGN}") in told["text"]
    assert not opened.complaints


def test_the_other_map_is_read_after_it_is_chosen(opened):
    open_at(opened.page, 0)
    opened.page.locator(".which select").select_option("1")
    opened.page.wait_for_function("Number(document.querySelector('.place').dataset.value) < 0")
    assert float(opened.page.locator(".place").get_attribute("data-value")) == pytest.approx(-7.25, rel=1e-3)
    assert opened.page.locator(".of-map:not([hidden])").get_attribute("data-map") == "1"
    assert not opened.complaints


@pytest.mark.parametrize("part", [".glass", ".slices", ".stage"])
def test_a_higher_threshold_colours_fewer_pixels_of_either_sign(opened, part):
    if part == ".stage":
        open_at(opened.page, 0)
    counts = []
    for level in (1.0, 4.0, 6.9):
        set_threshold(opened.page, level)
        counts.append(coloured(opened.page, part))
    warm, cool = ([count[kind] for count in counts] for kind in ("warm", "cool"))
    assert warm[0] > warm[1] > warm[2] > 0
    assert cool[0] > cool[1] > cool[2]
    assert cool[2] == 0
    assert not opened.complaints


def test_signs_are_shown_apart(opened):
    for sign, seen, hidden in (("1", "warm", "cool"), ("-1", "cool", "warm")):
        opened.page.locator(".sign select").select_option(sign)
        found = coloured(opened.page, ".slices")
        assert found[seen] > 0
        assert found[hidden] == 0


def test_the_count_of_voxels_is_that_of_the_map(opened, planted: xr.DataArray):
    for level in (1.0, 4.0):
        set_threshold(opened.page, level)
        told = opened.page.locator(".count").text_content()
        assert f"{int((planted >= level).sum())} voxels positive, {int((planted <= -level).sum())} negative" in told


def test_nothing_is_asked_of_a_network(opened):
    open_at(opened.page, 0)
    assert {url.partition(":")[0] for url in opened.requests} <= {"file", "blob", "data"}
    assert not opened.complaints


@pytest.mark.parametrize("opened", [375], indirect=True)
def test_a_telephone_shows_all_of_it_without_scrolling_sideways(opened):
    open_at(opened.page, 0)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 375
    sizes = opened.page.evaluate(
        "[...document.querySelectorAll('p, td, th, dd, dt, label, button, select, figcaption, a')]"
        ".filter((one) => one.offsetParent).map((one) => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert sizes
    assert min(sizes) >= 12.5
    width = opened.page.locator(".slices").bounding_box()["width"]
    assert width > 320
    assert coloured(opened.page, ".glass")["warm"] > 0
    assert not opened.complaints
