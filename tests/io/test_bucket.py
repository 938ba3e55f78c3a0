"""What a bucket adds to a store: errors that may pass and errors that will not, told once; secrets that stay put."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import numpy as np
import pytest

from voxloom.engine.ledger import Ledger
from voxloom.engine.runner import Output, Task, run_stage
from voxloom.errors import CorruptionError, InputError, StoreAccessError, StoreAwayError
from voxloom.io.store import bucket as bucket_module
from voxloom.io.store.access import Objects, open_group_dataset, put_array, put_group

if TYPE_CHECKING:
    from pathlib import Path

    from s3_server import Server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up as soon as at the first contact; else a test of a lost server takes a minute."""
    monkeypatch.setattr(bucket_module, "LATER", bucket_module.AT_FIRST)


@pytest.fixture
def objects(bucket: str) -> Objects:
    return Objects(f"{bucket}/store")


@pytest.mark.parametrize("status", [0, 429, 500, 503])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_server_in_trouble_is_asked_again_and_then_away(
    objects: Objects, s3: Server, status: int, method: str
) -> None:
    objects.put("a", b"1")
    act = {"GET": lambda: objects.get("a") == b"1", "PUT": lambda: objects.put("a", b"1") is None}[method]
    s3.trouble(status=status, times=1, method=method)
    assert act()
    s3.trouble(status=status, times=100, method=method)
    with pytest.raises(StoreAwayError, match=r"store: 127\.0\.0\.1:\d+ does not answer .*Check AWS_ENDPOINT_URL"):
        act()


def test_zarr_tells_the_same_errors_and_no_damage(objects: Objects, s3: Server) -> None:
    put_array(objects, "g/a", ["x"], np.arange(5))
    put_group(objects, "g", {})
    lazy = open_group_dataset(objects, "g")
    s3.trouble(status=503, times=100, method="GET")
    with pytest.raises(StoreAwayError):
        lazy["a"].compute()
    s3.trouble(status=403, times=100, method="GET")
    with pytest.raises(StoreAccessError, match="refuses access"):
        lazy["a"].compute()
    s3.trouble(status=403, times=0, method="GET")
    objects.delete("g/a/c/0")
    with pytest.raises(CorruptionError, match=rf"{objects.url}/g/a/c/0: is missing"):
        lazy["a"].compute()


def test_who_wrote_a_new_object_knows_it_even_when_the_answer_was_lost(objects: Objects, s3: Server) -> None:
    objects.get("connected")
    s3.trouble(status=0, times=1, method="PUT", after=True)
    assert objects.put_new("lock", b"mine")
    assert not objects.put_new("lock", b"theirs")
    assert objects.get("lock") == b"mine"


def count(objects: Objects, marks: list[int]) -> Output:
    marks.append(1)
    objects.put("out", b"1")
    return Output(digest="1")


def run_one(objects: Objects, folder: Path) -> tuple[str, int, int, str]:
    """Status, attempt, calls and reason of a task that writes to a bucket."""
    marks: list[int] = []
    task = Task(stage="s", key="k", function=count, kwargs={"objects": objects, "marks": marks}, inputs="x")
    record = run_stage("s", [task], ledger=Ledger(Objects(folder))).records["k"]
    return record.status, record.attempt, len(marks), record.reason


def test_a_task_is_tried_again_while_the_server_is_away_and_not_when_access_is_refused(
    objects: Objects, s3: Server, tmp_path: Path
) -> None:
    objects.get("connected")
    s3.trouble(status=503, times=4, method="PUT")  # an attempt makes 3 requests
    assert run_one(objects, tmp_path / "a")[:3] == ("done", 2, 2)
    s3.trouble(status=403, times=100, method="PUT")
    status, _, calls, reason = run_one(objects, tmp_path / "b")
    assert (status, calls) == ("failed", 1)
    assert "refuses access (403)" in reason


def vary(monkeypatch: pytest.MonkeyPatch, **environment: str | None) -> None:
    for name, value in environment.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "kind", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, StoreAccessError, "refuses access (403 InvalidAccessKeyId)"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, StoreAwayError, "127.0.0.1:9 does not answer"),
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, StoreAccessError, "AWS_ENDPOINT_URL: 'localhost:9000' is no address"),
        ({"AWS_ENDPOINT_URL": ""}, StoreAccessError, "AWS_ENDPOINT_URL: '' is no address"),
        ({"AWS_CONDITIONAL_PUT": "disabled"}, StoreAccessError, "cannot create an object only where there is none"),
        ({"AWS_CONDITIONAL_PUT": "perhaps"}, StoreAccessError, "Check the AWS_ variables"),
        (
            # where the library asks next: the role of the machine, here of none
            {
                "AWS_ACCESS_KEY_ID": None,
                "AWS_SECRET_ACCESS_KEY": None,
                "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
            },
            StoreAccessError,
            "no credentials are known. Set AWS_ACCESS_KEY_ID",
        ),
    ],
)
def test_each_mistake_in_the_environment_has_its_message(
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str | None],
    kind: type[Exception],
    words: str,
) -> None:
    vary(monkeypatch, **environment)
    with pytest.raises(kind) as raised:
        Objects(f"{bucket}/store").put_new("a", b"1")
    text = str(raised.value)
    assert words in text
    assert len(text) < 400
    assert "\n" not in text
    # the library's own text, which quotes what was sent, is not even in the traceback that a record keeps
    assert "Debug source" not in "".join(traceback.format_exception(raised.value))
    assert not isinstance(raised.value, InputError), "a task would count its input as wrong"


def test_no_such_bucket_is_not_an_empty_store(s3: Server) -> None:
    with pytest.raises(StoreAccessError, match=r"s3://nowhere/a: there is no such bucket at 127\.0\.0\.1:\d+\."):
        Objects("s3://nowhere/a").get("zarr.json")


def test_a_bucket_that_goes_later_is_not_an_empty_store(objects: Objects, s3: Server) -> None:
    objects.put("a", b"1")
    objects.delete("a")
    s3.remove_bucket(objects.url.split("/")[2])
    for act in (lambda: objects.get("a"), lambda: objects.put("a", b"1"), lambda: objects.list("")):
        with pytest.raises(StoreAccessError, match="no such bucket"):
            act()


def test_without_the_library_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "voxloom.io.store.bucket")
    with pytest.raises(StoreAccessError, match=r"obstore is not installed\. Run: pip install 'voxloom\[s3\]'"):
        Objects("s3://bucket/store").get("a")


def test_what_is_sent_to_workers_holds_no_secret(objects: Objects) -> None:
    put_array(objects, "g/a", ["x"], np.arange(5))
    put_group(objects, "g", {})
    for sent in (objects, open_group_dataset(objects, "g"), Ledger(objects)):
        raw = pickle.dumps(sent)
        assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in raw
        assert os.environ["AWS_ACCESS_KEY_ID"].encode() not in raw
    there = pickle.loads(pickle.dumps(open_group_dataset(objects, "g")))
    np.testing.assert_array_equal(there["a"].values, np.arange(5))


@pytest.mark.parametrize("kind", [StoreAccessError, StoreAwayError])
def test_errors_come_back_from_workers_as_they_are(kind: type[Exception]) -> None:
    error = pickle.loads(pickle.dumps(kind("s3://b: is away. Wait.")))
    assert (type(error), str(error)) == (kind, "s3://b: is away. Wait.")


def test_a_store_on_a_disk_does_not_import_the_library(tmp_path: Path) -> None:
    code = (
        "import sys, voxloom.pipeline; from voxloom.io.store.access import Objects; o = Objects(sys.argv[1]);"
        "o.put('a', b'1'), o.get('a'), o.list(''), o.strict_store;"
        "assert not {'obstore', 'voxloom.io.store.bucket'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
