"""The local web site: what it serves, to whom, and what it takes as an answer."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime_web import server
from modelbuild.runtimes.onnxruntime_web.server import Site

ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "secret.txt").write_text("not served")
    (tmp_path / "code.mjs").write_text("export default 1;")
    files = {"code.mjs": tmp_path / "code.mjs", "deep/a.wasm": b"\0asm", "index.html": b"<p>", "data": b""}
    with Site(files) as found:
        yield found


def ask(
    site: Site, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; `path` goes below the site's unless it begins with "/"."""
    parts = urlsplit(site.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        whole = path if path.startswith("/") else parts.path + path
        connection.putrequest("GET" if body is None else "POST", whole)
        given = {} if body is None else {"Content-Length": str(len(body))}
        for name, value in (given if headers is None else headers).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("code.mjs", "text/javascript", b"export default 1;"),
        ("deep/a.wasm", "application/wasm", b"\0asm"),
        ("index.html", "text/html; charset=utf-8", b"<p>"),
        ("data", "application/octet-stream", b""),
    ],
)
def test_serves_its_files_with_their_types_isolated(site: Site, path: str, kind: str, body: bytes) -> None:
    status, headers, found = ask(site, path)
    assert (status, headers["Content-Type"], found) == (200, kind, body)
    assert headers.items() >= ISOLATED.items()


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/code.mjs", "/index.html", "", "secret.txt", "deep", "deep/", "deep/../secret.txt"),
        *("../code.mjs", "%2e%2e/secret.txt", "secret.txt?x", "//etc/passwd", "deep/../code.mjs"),
    ],
)
def test_serves_nothing_else(site: Site, path: str) -> None:
    assert ask(site, path)[0] == 404


def test_a_query_is_for_the_page_and_not_for_the_server(site: Site) -> None:
    assert ask(site, "code.mjs?backend=webgpu") == ask(site, "code.mjs")


def test_is_on_this_machine_alone_under_a_path_nobody_can_guess(site: Site) -> None:
    parts = urlsplit(site.url)
    assert parts.hostname == "127.0.0.1"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", parts.port or 0), timeout=5)
    assert len(parts.path) > 30
    with Site({}) as other:
        assert urlsplit(other.url).path != parts.path


def test_hands_over_what_was_posted(site: Site) -> None:
    assert ask(site, "answer", b'{"a": [1, "\xc3\xa9"]}\nraw\n\0bytes')[0] == 200
    assert site.wait(10) == ({"a": [1, "\u00e9"]}, b"raw\n\0bytes")


@pytest.mark.parametrize("path", ["/answer", "other", "/", "code.mjs"])
def test_takes_answers_in_one_place_only(site: Site, path: str) -> None:
    assert ask(site, path, b"{}\n")[0] == 404
    with pytest.raises(TimeoutError):
        site.wait(0.3)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"no JSON\n", None, 400),
        (b"[1]\n", None, 400),
        (b"", None, 400),
        (b"", {}, 411),
        (b"", {"Content-Length": "-5"}, 411),
    ],
)
def test_what_is_no_answer_is_none(
    site: Site, body: bytes, headers: dict[str, str] | None, status: int
) -> None:
    assert ask(site, "answer", body, headers)[0] == status
    with pytest.raises(TimeoutError):
        site.wait(0.3)


def test_an_answer_that_is_too_large_is_refused_in_words(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LARGEST_POST", 10)
    assert ask(site, "answer", b'{"a": 1}\n')[0] == 200
    assert site.wait(10).about == {"a": 1}
    assert ask(site, "answer", b"", {"Content-Length": "11"})[0] == 413
    with pytest.raises(RecipeError, match="11 bytes is larger than 10"):
        site.wait(10)


def test_waits_no_longer_than_somebody_can_answer(site: Site) -> None:
    def watch() -> None:
        raise RecipeError("x", "the browser is gone")

    start = time.monotonic()
    with pytest.raises(RecipeError, match="gone"):
        site.wait(60, watch)
    assert time.monotonic() - start < 30


def test_ends_with_its_block() -> None:
    with Site({"a": b"1"}) as site:
        assert ask(site, "a")[0] == 200
    with pytest.raises(ConnectionError):
        ask(site, "a")


def test_is_quiet_also_when_the_browser_is_ended_in_the_middle(capfd: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    with Site({"large": bytes(2**26)}) as site:
        ask(site, "large")
        ask(site, "answer", b"no JSON\n")
        parts = urlsplit(site.url)
        connection = http.client.HTTPConnection(parts.netloc)
        connection.request("GET", f"{parts.path}large")
        connection.getresponse().read(1)
        connection.close()
        while threading.active_count() > before + 1:
            time.sleep(0.01)
    assert capfd.readouterr() == ("", "")
