from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from engine_tasks import Folder
from hypothesis import given
from hypothesis import strategies as st

from voxloom.engine.ledger import Ledger, Record
from voxloom.sealed import seal

if TYPE_CHECKING:
    from pathlib import Path

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.builds(
        Record,
        stage=st.text(),
        key=st.text(),
        status=st.sampled_from(["done", "failed", "quarantined"]),
        inputs=st.text(),
        reason=st.text(),
        bytes_read=st.integers(min_value=0),
        seconds=st.floats(min_value=0, max_value=1e9),
        details=st.dictionaries(st.text(), json_values, max_size=3),
    )
)
def test_record_survives_json(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record


def test_numpy_scalars_become_numbers() -> None:
    record = Record(stage="s", key="k", status="done", inputs="", details={"n": np.int64(3), "x": np.float32(0.5)})
    read = Record.from_json(record.to_json())
    assert read is not None
    assert read.details == {"n": 3, "x": 0.5}


def test_stages_are_apart_and_later_records_replace(ledger: Ledger) -> None:
    first = Record(stage="fit", key="run/0001", status="failed", inputs="a", reason="no")
    other = Record(stage="fit-more", key="run/0001", status="done", inputs="a")
    last = Record(stage="fit", key="run/0001", status="done", inputs="a", digest="d")
    for record in (first, other, last):
        ledger.write(record)
    assert pickle.loads(pickle.dumps(ledger)).read("fit") == {"run/0001": last}
    assert ledger.read("nothing") == {}


def test_record_that_cannot_be_read_counts_as_not_done(ledger: Ledger) -> None:
    ledger.write(Record(stage="fit", key="good", status="done", inputs="a"))
    ledger.objects.put("ledger/fit/torn.json", b'{"stage": "fit", "ke')
    ledger.objects.put("ledger/fit/other.json", seal(b'{"colour": "red", "voxloom_crc32c": "00000000"}'))
    assert set(ledger.read("fit")) == {"good"}


def test_record_with_any_flipped_byte_counts_as_not_done() -> None:
    record = Record(stage="fit", key="run/0001", status="done", inputs="a", digest="d", details={"n": 3})
    raw = record.to_json()
    for place in range(len(raw)):
        for bit in range(8):
            flipped = raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]
            assert Record.from_json(flipped) is None, flipped


@dataclass(frozen=True)
class Counting(Folder):
    """A folder that notes what it is asked for."""

    asked: list[str] = field(default_factory=list)

    def get(self, key: str) -> bytes | None:
        self.asked.append(key)
        return super().get(key)

    def list(self, prefix: str) -> list[str]:
        self.asked.append(f"list {prefix}")
        return super().list(prefix)


def test_a_stage_is_read_with_one_listing_and_each_record_once(tmp_path: Path) -> None:
    folder = Counting(str(tmp_path))
    ledger = Ledger(folder)
    keys = [f"{i:05d}" for i in range(500)]
    for key in keys:
        ledger.write(Record(stage="fit", key=key, status="done", inputs="a", digest=key))
    records = ledger.read("fit")
    assert {key: record.digest for key, record in records.items()} == {key: key for key in keys}
    assert sorted(folder.asked) == [*(f"ledger/fit/{key}.json" for key in keys), "list ledger/fit/"]
