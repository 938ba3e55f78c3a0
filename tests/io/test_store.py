"""Oracles: Zarr's own reader and writer. Laws: whole shards only, every flipped byte found, equal bytes each time."""

from __future__ import annotations

import multiprocessing as mp
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from voxloom.errors import CorruptionError, InputError, StoreError
from voxloom.io.store.access import (
    Objects,
    clean_partial,
    create_array,
    get_attrs,
    open_array,
    open_group_dataset,
    put_array,
    put_group,
    read_region,
    read_voxels,
    write_region,
    write_shard,
    write_voxels,
)
from voxloom.io.store.integrity import damage_of
from voxloom.io.store.shard import CLEVEL, CNAME, encode_shard

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["disk", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty store of either kind: every law holds on both."""
    if request.param == "disk":
        return Objects(tmp_path / "store")
    return Objects(f"{request.getfixturevalue('bucket')}/some/store")


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(2).integers(-999, 999, (100, 7)).astype(np.int16)


def bold(objects: Objects, values: np.ndarray) -> str:
    """Array of 100 voxels in shards of 64, chunks of 16."""
    n, n_times = values.shape
    create_array(
        objects,
        "runs/a/bold",
        dims=("voxel", "time"),
        shape=values.shape,
        dtype=values.dtype,
        chunks=(16, n_times),
        shards=(64, n_times),
    )
    write_voxels(objects, "runs/a/bold", slice(0, n), values)
    return "runs/a/bold"


# objects --------------------------------------------------------------------------------------------


def test_objects_by_key(objects: Objects) -> None:
    assert objects.get("a/b.json") is None
    assert objects.list("") == []
    objects.put("a/b.json", b"1")
    objects.put("a/b.json", b"2")
    assert objects.get("a/b.json") == b"2"
    assert objects.put_new("a/c.json", b"mine")
    assert not objects.put_new("a/c.json", b"theirs")
    assert objects.get("a/c.json") == b"mine"
    objects.put("ab", memoryview(b"3"))
    assert objects.list("a") == objects.list("a/") == ["a/b.json", "a/c.json"]
    assert objects.list("") == ["a/b.json", "a/c.json", "ab"]
    assert objects.list("a/b") == objects.children("a/b") == []
    assert objects.children("a") == ["b.json", "c.json"]
    assert objects.children("") == ["a", "ab"]
    objects.delete("a/b.json")
    objects.delete("a/b.json")
    assert objects.list("a") == ["a/c.json"]
    assert pickle.loads(pickle.dumps(objects)).get("a/c.json") == b"mine"
    objects.delete_tree("b")
    objects.delete_tree("a")
    assert objects.list("") == ["ab"]
    assert objects.get("a") is None


@pytest.mark.parametrize(
    "url", ["gs://bucket/a", "memory://a", "s3://", "s3:///a", "s3:/bucket/a", "s3://b/a//b", "s3://b/.."]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="s3://bucket/prefix"):
        Objects(url)


def test_looking_makes_no_folder(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "no")
    assert objects.get("x") is None
    assert objects.list("runs") == objects.children("runs") == []
    assert not (tmp_path / "no").exists()


def race(url: str, barrier: object, wins: object, name: int) -> None:
    objects = Objects(url)
    objects.get("lock")  # connected
    barrier.wait()  # type: ignore[attr-defined]
    if objects.put_new("lock", f"{name}".encode() * 1000):
        wins.put(name)  # type: ignore[attr-defined]


def test_of_racing_processes_one_creates(objects: Objects) -> None:
    # a forked process has lost the threads of the S3 library; a spawned one imports all for itself, 2 s
    context = mp.get_context("spawn" if objects.url.startswith("s3://") else "fork")
    barrier, wins = context.Barrier(3), context.Queue()
    racers = [context.Process(target=race, args=(objects.url, barrier, wins, i)) for i in range(3)]
    for process in racers:
        process.start()
    for process in racers:
        process.join()
    winner = wins.get(timeout=5)
    assert wins.empty()
    assert objects.get("lock") == f"{winner}".encode() * 1000


def test_leftovers_of_interrupted_writes(tmp_path: Path) -> None:
    objects = Objects(tmp_path / "store")
    objects.put("a/data", b"1")
    left = Path(objects.url) / "a" / f"data.{'0' * 32}.partial"
    left.write_bytes(b"half")
    assert objects.list("a") == ["a/data"]
    assert clean_partial(objects) == 1
    assert not left.exists()
    assert objects.get("a/data") == b"1"


def test_an_object_in_pieces_is_there_whole_or_not_at_all(objects: Objects) -> None:
    def torn() -> Iterator[bytes]:
        yield b"4"
        raise OSError("full")

    objects.put_pieces("a/b", iter([b"1", b"", b"23"]))
    assert objects.get("a/b") == b"123"
    with pytest.raises(OSError, match="full"):
        objects.put_pieces("a/b", torn())
    assert objects.get("a/b") == b"123"
    assert objects.list("") == ["a/b"]


# arrays ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "<i2", ">i2", "int32", "float32", "float64", "bool"])
def test_a_shard_is_what_zarr_writes(dtype: str) -> None:
    values = (np.random.default_rng(0).normal(size=(40, 5)) * 100).astype(dtype)
    memory: dict = {}
    array = zarr.create_array(
        memory,
        shape=values.shape,
        chunks=(16, 5),
        shards=(64, 5),
        dtype=values.dtype.newbyteorder("<"),
        compressors=(BloscCodec(cname=CNAME, clevel=CLEVEL, shuffle="bitshuffle"), Crc32cCodec()),
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    array[...] = values
    assert encode_shard(values, (16, 5), (64, 5), 0) == memory["c/0/0"].to_bytes()


def test_zarr_and_xarray_read_what_is_written(objects: Objects, values: np.ndarray) -> None:
    path = bold(objects, values)
    put_array(objects, "runs/a/name", ["name"], ["x", "yy"])
    np.testing.assert_array_equal(zarr.open_array(objects.store, path=path, mode="r")[...], values)
    ds = open_group_dataset(objects, "runs/a")
    assert ds["bold"].chunks == ((16,) * 6 + (4,), (7,))
    assert open_group_dataset(objects, "runs/a", by_shard=True)["bold"].chunks[0] == (64, 36)
    np.testing.assert_array_equal(ds["bold"].compute(), values)
    assert list(ds["name"].values) == ["x", "yy"]


@pytest.mark.parametrize("part", [slice(0, 100), slice(3, 5), slice(60, 70), slice(64, 100), slice(5, 5)])
def test_any_stretch_reads_back(objects: Objects, values: np.ndarray, part: slice) -> None:
    path = bold(objects, values)
    np.testing.assert_array_equal(read_voxels(objects, path, part), values[part])
    np.testing.assert_array_equal(read_region(objects, path, (part, slice(2, 4))), values[part, 2:4])


def test_only_whole_shards_are_written(objects: Objects, values: np.ndarray) -> None:
    path = bold(objects, values)
    for part in (slice(0, 16), slice(16, 64), slice(64, 90), slice(0, 65), slice(64, 128)):
        with pytest.raises(StoreError, match="whole shards"):
            write_voxels(objects, path, part, np.zeros((part.stop - part.start, 7), np.int16))
    with pytest.raises(StoreError, match="shape"):
        write_voxels(objects, path, slice(0, 64), np.zeros((63, 7), np.int16))
    np.testing.assert_array_equal(read_voxels(objects, path, slice(0, 100)), values)


def test_a_shard_by_chunks_in_memory_used_again_is_that_of_all_voxels(objects: Objects, values: np.ndarray) -> None:
    path = bold(objects, values)
    whole = {key: objects.get(key) for key in objects.list(path)}
    buffer = np.empty((16, 7), np.int16)

    def blocks(start: int) -> Iterator[np.ndarray]:
        for a in range(start, min(start + 64, 100), 16):
            part = values[a : a + 16]
            buffer[: len(part)] = part
            yield buffer[: len(part)]

    for start in (0, 64):
        objects.delete(f"{path}/c/{start // 64}/0")
        write_shard(objects, open_array(objects, path, writable=True), start, blocks(start))
    assert {key: objects.get(key) for key in objects.list(path)} == whole


def test_maps_with_the_voxel_axis_last_and_several_axes(objects: Objects) -> None:
    rng = np.random.default_rng(0)
    create_array(
        objects, "r/effect", dims=("map", "voxel"), shape=(5, 50), chunks=(2, 8), shards=(4, 32), attrs={"a": 1}
    )
    effect = rng.normal(size=(5, 50))
    effect[0, 0] = np.nan
    write_region(objects, "r/effect", (slice(4, 5), slice(0, 50)), effect[4:])
    write_region(objects, "r/effect", (slice(0, 4), slice(0, 50)), effect[:4])
    np.testing.assert_array_equal(zarr.open_array(objects.store, path="r/effect", mode="r")[...], effect)
    np.testing.assert_array_equal(read_voxels(objects, "r/effect", slice(30, 40)), effect[:, 30:40])
    write_voxels(objects, "r/effect", slice(32, 50), -effect[:, 32:])
    np.testing.assert_array_equal(read_voxels(objects, "r/effect", slice(32, 50)), -effect[:, 32:])
    assert get_attrs(objects, "r/effect") == {"a": 1}


def test_creating_again_keeps_equal_and_replaces_other_arrays(objects: Objects, values: np.ndarray) -> None:
    path = bold(objects, values)
    same = {
        "dims": ("voxel", "time"),
        "shape": values.shape,
        "dtype": values.dtype,
        "chunks": (16, 7),
        "shards": (64, 7),
    }
    create_array(objects, path, **same)
    np.testing.assert_array_equal(read_voxels(objects, path, slice(0, 100)), values)
    create_array(objects, path, **(same | {"dtype": np.float32}))
    with pytest.raises(CorruptionError, match="missing"):
        read_voxels(objects, path, slice(0, 100))


def test_an_array_is_resized_along_one_axis_without_losing_data(objects: Objects, values: np.ndarray) -> None:
    path, forgotten = bold(objects, values), list[str]()
    same = {"dims": ("voxel", "time"), "dtype": values.dtype, "chunks": (16, 7), "shards": (64, 7)}
    same |= {"resizable": "voxel", "on_replace": lambda: forgotten.append(path)}
    for n in (300, 80, 100):
        create_array(objects, path, **(same | {"shape": (n, 7)}))
        np.testing.assert_array_equal(read_voxels(objects, path, slice(0, min(n, 100))), values[:n])
    assert not forgotten
    create_array(objects, path, **(same | {"shape": (300, 7), "attrs": {"of": "another"}}))
    assert forgotten == [path]
    with pytest.raises(CorruptionError, match="missing"):
        read_voxels(objects, path, slice(0, 64))


def test_zeros_are_written_and_a_lost_shard_is_not_zeros(objects: Objects, values: np.ndarray) -> None:
    path = bold(objects, np.zeros_like(values))
    assert not read_voxels(objects, path, slice(0, 100)).any()
    objects.delete(f"{path}/c/1/0")
    assert not read_voxels(objects, path, slice(0, 64)).any()
    with pytest.raises(CorruptionError, match=r"c/1/0.*missing"):
        read_voxels(objects, path, slice(60, 100))
    with pytest.raises(CorruptionError, match="missing"):
        open_group_dataset(objects, "runs/a")["bold"].compute()


def test_every_flipped_byte_is_found(objects: Objects, values: np.ndarray) -> None:
    path = bold(objects, values)
    key = f"{path}/c/0/0"
    good = objects.get(key)
    assert good is not None
    rng = np.random.default_rng(0)
    # of the chunks (blosc and crc32c) a sample; of the index at the end, 4 x 16 bytes and a crc32c, all
    for place in [*rng.integers(0, len(good) - 68, 40), *range(len(good) - 68, len(good))]:
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        objects.put(key, bytes(bad))
        with pytest.raises(CorruptionError, match="runs/a/bold: shard 0/0"):
            read_voxels(objects, path, slice(0, 100))
    objects.put(key, good)
    assert damaged(objects, path) == []


def damaged(objects: Objects, path: str) -> list[str]:
    return [damage.key for damage in damage_of(objects, path, objects.list(path), [""])]


@pytest.mark.parametrize("keep", [0, 1, 20, 300, -1])
def test_a_shard_cut_short_is_found(objects: Objects, values: np.ndarray, keep: int) -> None:
    path = bold(objects, values)
    key = f"{path}/c/0/0"
    objects.put(key, (objects.get(key) or b"")[:keep])
    for part in (slice(0, 100), slice(3, 5)):
        with pytest.raises(CorruptionError):
            read_voxels(objects, path, part)
    assert damaged(objects, path) == [key]


def test_small_arrays_and_metadata_are_checked_too(objects: Objects) -> None:
    put_array(objects, "runs/a/time", ["time"], np.arange(5.0))
    put_group(objects, "runs/a", {"voxloom": {"x": 1}})
    assert get_attrs(objects, "runs/a") == {"voxloom": {"x": 1}}
    good = objects.get("runs/a/time/c/0") or b""
    objects.put("runs/a/time/c/0", good[:-1] + b"?")
    assert damaged(objects, "runs/a/time") == ["runs/a/time/c/0"]
    objects.put("runs/a/zarr.json", b"{")
    with pytest.raises(CorruptionError, match="does not match its checksum"):
        get_attrs(objects, "runs/a")
    with pytest.raises(StoreError, match="not in the store"):
        open_array(objects, "runs/b")
    with pytest.raises(StoreError, match="not in the store"):
        open_group_dataset(objects, "runs/b")


@pytest.mark.parametrize("objects", ["disk"], indirect=True)  # the checks are the same, and 10,000 requests take long
def test_no_reader_takes_metadata_with_a_flipped_byte(objects: Objects, values: np.ndarray) -> None:
    path = bold(objects, values)
    put_group(objects, "runs/a", {"voxloom": {"x": 1}})
    readers = {
        f"{path}/zarr.json": [
            lambda: open_array(objects, path),
            lambda: open_array(objects, path, writable=True),
            lambda: read_voxels(objects, path, slice(0, 5)),
            lambda: write_voxels(objects, path, slice(0, 100), values),
            lambda: open_group_dataset(objects, "runs/a"),
            lambda: zarr.open_array(objects.strict_store, path=path, mode="r"),
        ],
        "runs/a/zarr.json": [
            lambda: get_attrs(objects, "runs/a"),
            lambda: open_group_dataset(objects, "runs/a"),
            lambda: zarr.open_group(objects.strict_store, path="runs/a", mode="r"),
        ],
    }
    for key, attempts in readers.items():
        good = objects.get(key)
        assert good is not None
        for place in range(len(good)):
            objects.put(key, good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :])
            for attempt in attempts:
                with pytest.raises(CorruptionError, match="does not match its checksum"):
                    attempt()
        objects.put(key, good)
        for attempt in attempts:
            attempt()


def test_checksums_of_metadata_are_no_attributes_of_the_data(objects: Objects, values: np.ndarray) -> None:
    path = bold(objects, values)
    put_array(objects, "runs/a/time", ["time"], np.arange(7.0), attrs={"units": "s"})
    put_group(objects, "runs/a", {"voxloom": {"x": 1}})
    ds = open_group_dataset(objects, "runs/a")
    assert ds.attrs == {"voxloom": {"x": 1}}
    assert ds["time"].attrs == {"units": "s"}
    assert ds["bold"].attrs == dict(open_array(objects, path).attrs) == {}


def test_equal_values_give_equal_bytes_wherever_they_are(tmp_path: Path, bucket: str, values: np.ndarray) -> None:
    stores = [Objects(tmp_path), Objects(bucket)]
    for objects in stores:
        bold(objects, values)
    a, b = ({key: objects.get(key) for key in objects.list("")} for objects in stores)
    assert a == b
