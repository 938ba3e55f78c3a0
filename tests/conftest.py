"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def voxloom_data() -> Path:
    """Folder with real data and reference results; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("VOXLOOM_DATA", ROOT / ".." / "shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not found: {folder} has no data/ (set VOXLOOM_DATA)")
    return folder
