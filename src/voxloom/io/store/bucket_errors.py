"""What went wrong with a bucket, in our words; an error that may pass by itself, and one that will not."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import BaseError

from voxloom.errors import StoreAccessError, StoreAwayError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Variables that say where the server is, the most special first.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
#: Where the library asks for the role of the machine, when the environment has no keys.
_ROLE = re.compile(r"/latest/(api/token|meta-data)")
#: Client errors that pass: the request took too long, or there were too many.
_BUSY = ("408", "429")
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if it has one)"
_ALLOWED = "and that it may list the bucket and get, put and delete its objects"


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise the library's errors as ours. Its texts are long and have parts of what was sent; they are dropped.

    Raises
    ------
    StoreAccessError
        Another attempt would fail the same way.
    StoreAwayError
        Another attempt may succeed.
    """
    try:
        yield
    except (BaseError, FileNotFoundError, NotImplementedError) as error:
        raise _our_error(url, str(error)) from None


def endpoint() -> str:
    """Address of the server as the environment gives it; empty for Amazon's.

    Raises
    ------
    StoreAccessError
        It is no address; the library would panic.
    """
    for name in ENDPOINTS:
        if not os.environ.get(name, "http://").startswith(("http://", "https://")):
            raise StoreAccessError(
                f"{name}: {os.environ[name]!r} is no address. Wanted: https://host:9000, or unset it."
            )
    return next((os.environ[name] for name in ENDPOINTS if name in os.environ), "")


def no_such_bucket(error: Exception) -> bool:
    """Whether the bucket itself is missing, which the library tells as if it were an object."""
    return "<Code>NoSuchBucket</Code>" in str(error)


def beyond_the_end(error: Exception) -> bool:
    """Whether bytes were asked for that an object does not have; a file would give none."""
    return "416 Range Not Satisfiable" in str(error) or "non-partial response" in str(error)


def _our_error(url: str, text: str) -> StoreAccessError | StoreAwayError:
    status, code = _found(_STATUS, text), _found(_CODE, text)
    said = " ".join(filter(None, (status, code)))
    if _ROLE.search(text):
        return StoreAccessError(f"{url}: no credentials are known. Set {_KEYS}.")
    if code == "NoSuchBucket":
        return StoreAccessError(f"{url}: there is no such bucket at {_server()}. Make it, or check the address.")
    if status in ("401", "403"):
        return StoreAccessError(f"{url}: {_server()} refuses access ({said}). Check {_KEYS}, {_ALLOWED}.")
    if status == "501" or "not yet implemented" in text:
        return StoreAccessError(f"{url}: {_server()} cannot create an object only where there is none. Use another.")
    if text.startswith("Generic Config error"):
        return StoreAccessError(f"{url}: {text.splitlines()[0]}. Check the AWS_ variables of the environment.")
    if status.startswith(("3", "4")) and status not in _BUSY:
        return StoreAccessError(f"{url}: {_server()} does not understand ({said}). Check AWS_REGION and the address.")
    reason = f"status {said}" if said else "no connection, or it was lost"
    return StoreAwayError(f"{url}: {_server()} does not answer ({reason}). Check AWS_ENDPOINT_URL and the network.")


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""


def _server() -> str:
    """Name the server, without what else its address may hold."""
    parts = urlsplit(endpoint())
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "amazonaws.com"
