"""An S3 server for tests: moto in a process of its own, on a free port of this machine.

`python s3_server.py` prints its address and ends with its standard input, that is, with whoever started it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ACCESS_KEY, SECRET_KEY = "AKIAVOXLOOMTESTS0000", "secret-of-the-tests"
DENIED = b"<Error><Code>InvalidAccessKeyId</Code><Message>The key id is not known.</Message></Error>"


class Server:
    """The address of a running server, and what a test may ask of it besides S3."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which clients find it and are let in."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> None:
        self._ask("PUT", name)

    def remove_bucket(self, name: str) -> None:
        self._ask("DELETE", name)

    def trouble(self, *, status: int, times: int, method: str, after: bool = False) -> None:
        """Fail the next `times` requests of a method with a status, or with a lost connection for 0.

        With `after`, the request is carried out and only its answer is lost.
        """
        wanted = {"status": status, "times": times, "method": method, "after": after}
        self._ask("PUT", "trouble", json.dumps(wanted).encode())

    def _ask(self, method: str, path: str, body: bytes = b"") -> None:
        scope = f"{ACCESS_KEY}/20260101/us-east-1/s3/aws4_request"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
        request = urllib.request.Request(f"{self.url}/{path}", body, headers, method=method)
        with urllib.request.urlopen(request) as answer:
            assert answer.status in (200, 204)


@contextmanager
def running() -> Iterator[Server]:
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Server(process.stdout.readline().strip())
    finally:
        process.stdin.close()
        process.wait()


class _App:
    """moto behind one lock, because it looks for an object and stores it in two steps, where S3 does it in one."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.moto = DomainDispatcherApplication(create_backend_app)
        self.lock = threading.Lock()
        self.trouble: dict[str, Any] = {"times": 0}

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self.lock:
            if environ["PATH_INFO"] == "/trouble":
                self.trouble = json.loads(_body(environ))
                return _answer(start, "204 No Content")
            if self.trouble["times"] and environ["REQUEST_METHOD"] == self.trouble["method"]:
                self.trouble["times"] -= 1
                return self._fail(environ, start)
            if ACCESS_KEY not in environ.get("HTTP_AUTHORIZATION", ""):
                _body(environ)
                return _answer(start, "403 Forbidden", DENIED)
            return list(self.moto(environ, start))

    def _fail(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if self.trouble["after"]:
            list(self.moto(environ, lambda *_: None))
        else:
            _body(environ)
        if self.trouble["status"]:
            return _answer(start, f"{self.trouble['status']} Trouble")
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return _answer(start, "500 Lost")


def _body(environ: dict[str, Any]) -> bytes:
    """Read the request to its end, so that the next one on this connection is understood."""
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return body


def _answer(start: Callable[..., Any], status: str, body: bytes = b"") -> list[bytes]:
    start(status, [("Content-Length", str(len(body)))])
    return [body]


def serve() -> None:
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept, as by S3

        def log(self, *_: Any) -> None:
            """Say nothing: lost connections are made on purpose."""

    server = make_server("127.0.0.1", 0, _App(), threaded=True, request_handler=Handler)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    serve()
