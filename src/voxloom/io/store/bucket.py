"""Objects below a prefix of an S3 bucket, on Amazon's servers or others of that kind.

Where the server is and who we are is told by the environment alone: ``AWS_ENDPOINT_URL``, ``AWS_REGION``,
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, or the role of the machine. Nothing of it
is kept, pickled or shown. Options considered: docs/design/007-object-stores.md.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store
from zarr.core.buffer.core import default_buffer_prototype
from zarr.storage import ObjectStore, WrapperStore

from voxloom.io.store.bucket_errors import beyond_the_end, endpoint, no_such_bucket, translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from obstore.store import RetryConfig
    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

#: One request, the shard it carries included: 64 MiB in that time is 0.2 MiB/s.
REQUEST_TIMEOUT = timedelta(minutes=5)
#: A mistake in an address shows in seconds; a server that has answered before is waited for longer.
AT_FIRST: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
LATER: RetryConfig = {
    "max_retries": 50,
    "retry_timeout": timedelta(seconds=30),
    # waits grow by up to 4 each time, at random; by the library's 2, eight retries are over in 2 s
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 4},
}


class Bucket:
    """The objects of a bucket below a prefix.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``

    Raises
    ------
    StoreAccessError
        No such bucket, access is refused, or the environment makes no sense: the same again would fail again.
    StoreAwayError
        The server does not answer; as every method, after some attempts.
    """

    streams = False

    def __init__(self, url: str) -> None:
        aws = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
        self.url, self.store = url, _connect(url, aws)

    def get(self, key: str) -> bytes | None:
        """Bytes of an object; None when there is none."""
        return _get(self.store, self.url, key)

    def put(self, key: str, value: bytes | memoryview) -> None:
        """Write an object in one request: a client killed amid it leaves nothing."""
        with translated(self.url):
            obstore.put(self.store, key, value, use_multipart=False)

    def put_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """As `put`; all of them are held."""
        value = bytearray()
        for piece in pieces:
            value += piece
        self.put(key, memoryview(value))

    def put_new(self, key: str, value: bytes) -> bool:
        """Write an object unless there is one (``If-None-Match: *``); of several callers at once, one gets True."""
        with translated(self.url):
            try:
                obstore.put(self.store, key, value, mode="create", use_multipart=False)
            except AlreadyExistsError:
                # ours, where the first answer was lost and the request was sent again
                return self.get(key) == value
        return True

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        with translated(self.url):
            obstore.delete(self.store, key)

    def delete_tree(self, prefix: str) -> None:
        """Remove everything below a prefix."""
        with translated(self.url):
            obstore.delete(self.store, self.keys(prefix))

    def keys(self, prefix: str) -> list[str]:
        """Keys below a prefix, at any depth."""
        with translated(self.url):
            return [found["path"] for batch in obstore.list(self.store, prefix or None) for found in batch]

    def children(self, prefix: str) -> list[str]:
        """Names directly below a prefix."""
        with translated(self.url):
            found = obstore.list_with_delimiter(self.store, prefix or None)
        paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        return [path.rpartition("/")[2] for path in paths]

    def clean_partial(self) -> int:
        """Nothing to do: an object is there whole or not at all."""
        return 0

    def zarr_store(self, *, read_only: bool) -> Store:
        """Zarr's store of the same objects."""
        return _Translated(self.url, read_only)


@lru_cache(maxsize=8)
def _connect(url: str, environment: tuple[tuple[str, str], ...]) -> S3Store:
    """Open a bucket and see that it answers; kept, for a task opens its store anew and connections are dear."""
    del environment  # read by the library; another one is another connection
    allow_http = endpoint().startswith("http://")  # the user's own word: not one to refuse
    name, _, prefix = url.removeprefix("s3://").partition("/")

    def opened(retry: RetryConfig) -> S3Store:
        return S3Store(
            name,
            prefix=prefix or None,
            retry_config=retry,
            client_options={"timeout": REQUEST_TIMEOUT, "allow_http": allow_http},
        )

    with translated(url):
        _get(opened(AT_FIRST), url, "zarr.json")
        return opened(LATER)


def _get(store: S3Store, url: str, key: str) -> bytes | None:
    with translated(url):
        try:
            return obstore.get(store, key).bytes().to_bytes()
        except FileNotFoundError as error:
            if no_such_bucket(error):
                raise
            return None


class _Translated(WrapperStore[Any]):
    """Zarr's store of a bucket, with errors of ours; pickled as the address alone."""

    def __init__(self, url: str, read_only: bool) -> None:
        super().__init__(ObjectStore(Bucket(url).store, read_only=read_only))
        self.url = url

    def __reduce__(self) -> tuple[Any, ...]:
        return _Translated, (self.url, self.read_only)

    def __str__(self) -> str:
        return self.url

    def with_read_only(self, read_only: bool = False) -> _Translated:
        return _Translated(self.url, read_only)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        with translated(self.url):
            try:
                found: Buffer | None = await self._store.get(key, prototype or default_buffer_prototype(), byte_range)
            except Exception as error:
                if not beyond_the_end(error):
                    raise
                return None
            return found

    async def set(self, key: str, value: Buffer) -> None:
        with translated(self.url):
            await self._store.set(key, value)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        with translated(self.url):
            async for name in self._store.list_dir(prefix):
                yield name
