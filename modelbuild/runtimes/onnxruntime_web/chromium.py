"""A headless Chromium: where it is, which file is the browser itself, and one page opened in a fresh one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from modelbuild.errors import RecipeError

PLACE = "Chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = tuple(
    Path(f"/Applications/{name}.app/Contents/MacOS/{name}") for name in ("Google Chrome", "Chromium")
)
REMEDY = 'Install it (Debian and Ubuntu: apt-get install chromium), or name another with "executable"'
# Where packages put the browser, seen from the folder of the script that starts it.
BEHIND = (
    *("chrome", "chromium"),
    *(f"../{lib}/{name}/{name}" for lib in ("lib", "lib64") for name in ("chromium", "chromium-browser")),
    *(f"../{lib}/{name}/chrome" for lib in ("lib", "lib64") for name in ("chromium", "chromium-browser")),
    "../../snap/chromium/current/usr/lib/chromium-browser/chrome",
)
# No sandbox: root and most containers have none, and the only page is ours.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WEBGPU_FLAGS = ("--enable-unsafe-webgpu",)
PATIENCE = 5  # seconds between asking it to end and ending it
SOCKET = "/org.chromium.Chromium.aB3dE6/SingletonSocket"
LONGEST_SOCKET = 103  # of macOS, in bytes; others take a few more
LAST_LINES = 4
LAST_BYTES = 600


def find(executable: str | None = None) -> str | None:
    """The program to start: `executable`, a name or a path, and no other where it is given; None when absent."""
    if executable is not None:
        return shutil.which(executable)
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or next((str(path) for path in APPLICATIONS if path.is_file()), None)


def missing(executable: str | None = None) -> str:
    """Why there is none, in words."""
    sought = executable or ", ".join(NAMES)
    return f"there is no Chromium on this machine (looked for {sought}). {REMEDY}"


def binary(executable: str) -> str:
    """The file that holds the browser: links resolved, and what a known script in front of it starts.

    A script that starts something unknown is taken for the browser itself. No process is started.
    """
    path = Path(executable).resolve()
    # All of snap's programs are links to one that looks at the name it was called by.
    start = Path(executable).absolute() if path.name == "snap" else path
    if path == start and not _is_script(path):
        return str(path)
    for name in BEHIND:
        behind = (start.parent / name).resolve()
        if behind != path and behind.is_file() and not _is_script(behind):
            return str(behind)
    return str(path)


def _is_script(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"#!"


class Browser:
    """One that runs."""

    def __init__(self, process: subprocess.Popen[bytes], said: BinaryIO) -> None:
        self._process, self._said = process, said

    def check(self) -> None:
        """Raise RecipeError, with its last words, when the browser has ended."""
        code = self._process.poll()
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise RecipeError(PLACE, f"the browser {how} before it answered{self.last_words()}", REMEDY)

    def last_words(self) -> str:
        """`: ` and the last lines of its stderr; empty when it said nothing."""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        said = " ".join([line.strip() for line in lines if line.strip()][-LAST_LINES:])
        return f": {said[-LAST_BYTES:].rstrip('.')}" if said else ""


@contextmanager
def page(executable: str, url: str, webgpu: bool) -> Iterator[Browser]:
    """`url` opened in a browser of its own with an empty profile; afterwards both are gone.

    Raises RecipeError when the browser cannot be started.
    """
    temporary = tempfile.TemporaryDirectory(prefix="modelbuild-chromium-", ignore_cleanup_errors=True)
    with temporary as profile, tempfile.TemporaryFile() as said:
        flags = (*FLAGS, *(WEBGPU_FLAGS if webgpu else ()), f"--user-data-dir={profile}")
        process = _started([executable, *flags, url], said, _environment(profile))
        try:
            yield Browser(process, said)
        finally:
            _end(process)


def _environment(profile: str) -> dict[str, str]:
    """Temporary files go into the profile; not where the socket that it makes there would have too long a path."""
    return {"TMPDIR": profile} if len(os.fsencode(profile + SOCKET)) <= LONGEST_SOCKET else {}


def _started(command: list[str], said: BinaryIO, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # A session of its own, so that it can be ended together with all that it starts.
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    except OSError as error:
        raise RecipeError(PLACE, f"{command[0]} cannot be run: {error.strerror}", REMEDY) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group that `process` leads; what has ended already is no error."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
