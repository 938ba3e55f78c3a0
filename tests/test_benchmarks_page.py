"""The page of benchmarks is what its script makes of the results that are kept, and ours is what it says is less."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "docs/measured"))
    return importlib.import_module("make_benchmarks")


def test_the_page_is_what_the_script_writes_now(script):
    assert script.PAGE.read_text() == script.page()


def test_ratios_are_those_of_the_numbers_beside_them(script):
    """Medians of ratios, so not to the digit; a pair with its sides exchanged would be far off."""
    for pair in script.PAIRS:
        ratio = script.value(pair.theirs) / script.value(pair.ours)
        assert ratio > 1
        if pair.ratio:
            assert 0.7 < script.value(pair.ratio) / ratio < 1.4, pair.what
