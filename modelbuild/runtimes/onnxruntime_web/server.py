"""A web site of a few named files on this machine alone, and the post box in which its page leaves one answer.

Everything lies below a path that cannot be guessed, so that no other page or user can read from it or post to it.
Pages are cross-origin isolated: without that a browser gives WebAssembly no threads.
"""

from __future__ import annotations

import json
import queue
import secrets
import shutil
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from modelbuild.errors import RecipeError

PLACE = "the local web server"
POST_BOX = "answer"  # where a page posts to, beside the files
LARGEST_POST = 2 * 2**30  # bytes
LOOK_EVERY = 0.1  # seconds between two looks at whether the one who should answer still lives
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
}
OTHER_TYPE = "application/octet-stream"


class Posted(NamedTuple):
    """What a page posted: one line of JSON, and the bytes after it."""

    about: Mapping[str, Any]
    data: bytes


def posted(body: bytes) -> Posted:
    """Take a body apart. Raises ValueError when its first line is not a JSON object."""
    line, _, data = body.partition(b"\n")
    about = json.loads(line)
    if not isinstance(about, dict):
        raise ValueError("the first line is not a JSON object")
    return Posted(about, data)


class Site:
    """`files` by the path below `url` that serves them, within a `with` block; nothing else is served."""

    url: str

    def __init__(self, files: Mapping[str, Path | bytes]) -> None:
        self._answers: queue.SimpleQueue[Posted | RecipeError] = queue.SimpleQueue()
        self._base = f"/{secrets.token_urlsafe(24)}/"
        self._files = {f"{self._base}{path}": content for path, content in files.items()}

    def __enter__(self) -> Site:
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}{self._base}"
        threading.Thread(target=self._server.serve_forever, args=(LOOK_EVERY,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, seconds: float, watch: Callable[[], None] = lambda: None) -> Posted:
        """The first answer posted. `watch` is called now and then, and may raise when none can come any more.

        Raises TimeoutError when none came in time, RecipeError for one larger than LARGEST_POST.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                answer = self._answers.get(timeout=LOOK_EVERY)
            except queue.Empty:
                watch()
                continue
            if isinstance(answer, RecipeError):
                raise answer
            return answer
        raise TimeoutError(f"no answer within {seconds:g} seconds")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        files, box, answers = self._files, f"{self._base}{POST_BOX}", self._answers

        class Handler(_Handler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                content = files.get(path)
                if content is None:
                    self.reply(HTTPStatus.NOT_FOUND)
                else:
                    self.reply(HTTPStatus.OK, content, TYPES.get(PurePosixPath(path).suffix, OTHER_TYPE))

            def do_POST(self) -> None:
                if self.path != box:
                    self.reply(HTTPStatus.NOT_FOUND)
                    return
                status, answer = self.received()
                self.reply(status)
                if answer is not None:
                    answers.put(answer)

        return Handler


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service who 127.0.0.1 is.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A browser that is ended in the middle of a transfer is no error.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: HTTPStatus, content: Path | bytes = b"", kind: str = OTHER_TYPE) -> None:
        with _opened(content) as (stream, size):
            self.send_response(status)
            for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(size)}.items():
                self.send_header(name, value)
            if status >= HTTPStatus.BAD_REQUEST:  # what was sent along is not read
                self.close_connection = True
                self.send_header("Connection", "close")
            self.end_headers()
            shutil.copyfileobj(stream, self.wfile)

    def received(self) -> tuple[HTTPStatus, Posted | RecipeError | None]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return HTTPStatus.LENGTH_REQUIRED, None
        if int(length) > LARGEST_POST:
            fact = f"an answer of {length} bytes is larger than {LARGEST_POST}"
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, RecipeError(PLACE, fact, "Evaluate fewer samples")
        body = self.rfile.read(int(length))
        try:
            return HTTPStatus.OK, posted(body) if len(body) == int(length) else None
        except ValueError:
            return HTTPStatus.BAD_REQUEST, None


@contextmanager
def _opened(content: Path | bytes) -> Iterator[tuple[BinaryIO, int]]:
    if isinstance(content, bytes):
        yield BytesIO(content), len(content)
        return
    with content.open("rb") as stream:
        yield stream, content.stat().st_size
