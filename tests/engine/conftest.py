from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from engine_tasks import Folder

from voxloom.engine.cluster import connect
from voxloom.engine.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from distributed import Client

MiB = 2**20


@pytest.fixture(scope="session")
def cluster() -> Iterator[Client]:
    """Two worker processes, shared: a start costs seconds. Killed workers are replaced by their nannies."""
    with connect("local", workers=2, memory_budget=64 * MiB) as client:
        assert client is not None
        yield client


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Folder(str(tmp_path / "store")))
