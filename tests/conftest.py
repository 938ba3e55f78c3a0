"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent))

import s3_server  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def voxloom_data() -> Path:
    """Folder with real data and reference results; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("VOXLOOM_DATA", ROOT / ".." / "shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not found: {folder} has no data/ (set VOXLOOM_DATA)")
    return folder


@pytest.fixture(scope="session")
def s3_process() -> Iterator[s3_server.Server]:
    """An S3 server in a process of its own."""
    with s3_server.running() as server:
        yield server


@pytest.fixture
def s3(s3_process: s3_server.Server, monkeypatch: pytest.MonkeyPatch) -> s3_server.Server:
    """The S3 server, which the environment of the test leads to."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_process.environment.items():
        monkeypatch.setenv(name, value)
    return s3_process


@pytest.fixture
def bucket(s3: s3_server.Server) -> Iterator[str]:
    """Address of a new bucket on the S3 server."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.make_bucket(name)
    yield f"s3://{name}"
    s3.trouble(status=0, times=0, method="")
