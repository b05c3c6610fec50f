"""Environments against an index and a registry of one small package each, served here: nothing leaves the machine."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

from modelbuild import environments, nodejs
from modelbuild.environments import node, process, python
from modelbuild.errors import RecipeError
from modelbuild.paths import Workspace
from modelbuild.runtimes.onnxruntime_web import options as web

WHEEL = "tiny_thing-{}-py3-none-any.whl"
PIN, PACKAGE = "tiny-thing==1.0", "tiny-thing@1.0.0"


class Served:
    """Answers by path, and a server that gives them out; `asked` are the paths that were asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked.append(self.path)
                body = served.answers.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.send_header(
                    "Content-Type", "application/json" if body and body[:1] == b"{" else "text/html"
                )
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A project of its own, installers with empty caches, and pip told of one folder of wheels and no index."""
    for name in [n for n in os.environ if n.startswith(("PIP_", "UV_", "npm_", "NPM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    forget()
    yield
    forget()


def forget() -> None:
    for remembers in (python._indexes, python._pip_settings, nodejs.find):
        getattr(remembers, "cache_clear", lambda: None)()


def wheel(folder: Path, version: str = "1.0", says: str = "first", needs: str = "") -> Path:
    """A wheel of the module `tiny_thing`."""
    about = f"tiny_thing-{version}.dist-info"
    required = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        "tiny_thing.py": f"SAYS = {says!r}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: tiny-thing\nVersion: {version}\n{required}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WHEEL.format(version)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return path


def locked(folder: Path, *pins: str, kind: str = "python", **given: Path) -> Path:
    folder.mkdir()
    environments.lock(kind, pins or ((PIN,) if kind == "python" else (PACKAGE,)), given, folder)
    return folder


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    wheel(tmp_path / "wheels")
    return locked(tmp_path / "lock")


def said(place: Path) -> str:
    command = [python.interpreter(place), "-c", "import tiny_thing; print(tiny_thing.SAYS)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def module(place: Path) -> Path:
    return next(place.glob("lib/*/site-packages/tiny_thing.py"))


def installs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are installed into from now on."""
    seen: list[Path] = []
    install = python.install

    def spy(pins: list[str], lock: Path, place: Path) -> None:
        seen.append(place)
        install(pins, lock, place)

    monkeypatch.setattr(python, "install", spy)
    return seen


# -- Python: the lock


def test_a_lock_has_versions_and_hashes_and_nothing_of_this_machine(lock: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((tmp_path / "wheels" / WHEEL.format("1.0")).read_bytes()).hexdigest()
    text = (lock / "requirements.txt").read_text()
    assert text.split() == ["tiny-thing==1.0", "\\", f"--hash=sha256:{digest}"]
    assert sorted(path.name for path in lock.iterdir()) == ["environment.json", "requirements.txt"]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    about = {"kind": "python", "pins": [PIN], "python": here}
    assert json.loads((lock / "environment.json").read_text()) == about
    assert not any(str(tmp_path) in path.read_text() for path in lock.iterdir())


def test_what_a_pin_needs_is_locked_too(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", needs="other-thing>=2")
    other = wheel(tmp_path / "made")
    renamed = tmp_path / "wheels" / "other_thing-2.1-py3-none-any.whl"
    with zipfile.ZipFile(other) as made, zipfile.ZipFile(renamed, "w") as out:
        for name in made.namelist():
            text = made.read(name).decode().replace("tiny", "other").replace("1.0\nTag", "1.0\nTag")
            text = text.replace("Version: 1.0\n", "Version: 2.1\n") if name.endswith("METADATA") else text
            text = text.replace("-1.0.dist", "-2.1.dist")
            out.writestr(zipfile.ZipInfo(name.replace("tiny", "other").replace("-1.0", "-2.1")), text)
    text = (locked(tmp_path / "lock") / "requirements.txt").read_text()
    assert [line.split()[0] for line in text.splitlines() if "==" in line] == ["other-thing==2.1", PIN]
    assert text.count("--hash=sha256:") == 2


def test_the_same_pins_give_the_same_bytes(lock: Path, tmp_path: Path) -> None:
    again = locked(tmp_path / "again")
    names = sorted(path.name for path in lock.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert all((lock / name).read_bytes() == (again / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("pin", "words"), [("tiny-thing==2.0", "tiny-thing==2.0"), ("no-such-thing", "no-such-thing")]
)
def test_pins_that_cannot_be_had_are_an_error_in_words(tmp_path: Path, pin: str, words: str) -> None:
    wheel(tmp_path / "wheels")
    with pytest.raises(RecipeError) as caught:
        locked(tmp_path / "lock", pin)
    assert caught.value.place == f"the python environment of {pin}"
    assert caught.value.fact.startswith("cannot be resolved: ")
    assert words in caught.value.fact
    assert caught.value.remedy == python.REMEDY
    assert "Traceback" not in str(caught.value)


def test_pins_that_contradict_each_other(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    with pytest.raises(RecipeError, match=r"cannot be resolved: .*tiny-thing"):
        locked(tmp_path / "lock", PIN, "tiny-thing==2.0")


# -- Python: what is installed


def test_what_is_locked_is_installed(lock: Path) -> None:
    place = environments.ready(lock)
    assert said(place) == "first"
    assert place.parent == Path.cwd() / ".cache" / "environments"


def test_an_installed_environment_is_used_again(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = installs(monkeypatch)
    assert environments.ready(lock) == environments.ready(lock)
    compiled = module(seen[0]).parent / "__pycache__"  # running it compiles modules, and that is no change
    compiled.mkdir(exist_ok=True)
    (compiled / "tiny_thing.pyc").touch()
    environments.ready(lock)
    assert len(seen) == 1


def test_another_lock_is_another_environment(lock: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "1.1", "second")
    other = locked(tmp_path / "other", "tiny-thing==1.1")
    assert [said(environments.ready(each)) for each in (lock, other)] == ["first", "second"]


def change(place: Path) -> None:
    module(place).write_text("SAYS = 'else'\n")


def same_size(place: Path) -> None:
    module(place).write_text(module(place).read_text().replace("first", "FIRST"))


def same_time(place: Path) -> None:
    at = module(place).stat()
    change(place)
    os.utime(module(place), ns=(at.st_atime_ns, at.st_mtime_ns))


def remove(place: Path) -> None:
    module(place).unlink()


def add(place: Path) -> None:
    (module(place).parent / "stray.py").touch()


def interrupt(place: Path) -> None:
    (place / environments.INSTALLED).unlink()


def garble(place: Path) -> None:
    (place / environments.INSTALLED).write_text("[[")


def without_python(place: Path) -> None:
    link = place / "bin" / "python"
    at = os.lstat(link)
    target = place.parent / "gone"
    link.unlink()
    link.symlink_to(target)
    os.utime(link, ns=(at.st_atime_ns, at.st_mtime_ns), follow_symlinks=False)


@pytest.mark.parametrize(
    "damage", [change, same_size, same_time, remove, add, interrupt, garble, without_python]
)
def test_an_environment_that_is_not_what_was_installed_is_made_anew(
    damage: object, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(damage)
    seen = installs(monkeypatch)
    place = environments.ready(lock)
    damage(place)
    assert environments.ready(lock) == place
    assert len(seen) == 2
    assert said(place) == "first"
    assert not (module(place).parent / "stray.py").exists()


def test_an_interpreter_that_went_away_is_noticed(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = installs(monkeypatch)
    place = environments.ready(lock)
    link = place / "bin" / "python"
    base = tmp_path / "base-python"
    base.symlink_to(os.path.realpath(link))
    link.unlink()
    link.symlink_to(base)
    rows = [[*row] for row in environments._files(place)]
    (place / environments.INSTALLED).write_text(json.dumps(rows))
    environments.ready(lock)
    assert len(seen) == 1
    base.unlink()  # the system's Python was replaced by another
    assert said(environments.ready(lock)) == "first"
    assert len(seen) == 2


def test_an_install_that_failed_is_not_taken_for_whole(lock: Path, tmp_path: Path) -> None:
    kept = (tmp_path / "wheels" / WHEEL.format("1.0")).rename(tmp_path / "kept.whl")
    with pytest.raises(RecipeError, match="cannot be installed"):
        environments.ready(lock)
    kept.rename(tmp_path / "wheels" / WHEEL.format("1.0"))
    assert said(environments.ready(lock)) == "first"


def test_a_wheel_with_other_bytes_is_refused(lock: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "uv")  # what uv kept has the right bytes
    wheel(tmp_path / "wheels", says="tampered")
    with pytest.raises(RecipeError) as caught:
        environments.ready(lock)
    assert caught.value.place == f"the python environment of {PIN}"
    assert caught.value.fact.startswith("cannot be installed: ")
    assert "Hash mismatch" in caught.value.fact
    assert caught.value.remedy == python.REMEDY


def test_a_lock_without_hashes_is_not_installed(lock: Path) -> None:
    (lock / "requirements.txt").write_text(f"{PIN}\n")
    with pytest.raises(RecipeError, match=r"cannot be installed: .*hash"):
        environments.ready(lock)


def test_an_environment_sees_nothing_of_the_one_it_was_made_from(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = environments.ready(lock)
    code = "import importlib.util; print(importlib.util.find_spec('numpy'), importlib.util.find_spec('modelbuild'))"
    done = subprocess.run(
        [python.interpreter(place), "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["None", "None"]


def test_the_second_time_needs_no_index(
    tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wheel(tmp_path / "made")
    page = f'<a href="/files/{path.name}">{path.name}</a>'
    served.answers = {"/simple/tiny-thing/": page.encode(), f"/files/{path.name}": path.read_bytes()}
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"{served.url}/simple")
    lock = locked(tmp_path / "lock")
    shutil.rmtree(tmp_path / "uv")  # locked on another machine
    place = environments.ready(lock)
    asked = len(served.asked)
    change(place)
    assert said(environments.ready(lock)) == "first"
    assert len(served.asked) == asked
    monkeypatch.setenv("UV_OFFLINE", "1")
    add(place)
    assert said(environments.ready(lock)) == "first"


TWICE = """
import sys, time
from pathlib import Path
from modelbuild import environments
from modelbuild.environments import python
install = python.install
def spy(pins, lock, place):
    with open(sys.argv[2], "a") as log:
        log.write("installed\\n")
    time.sleep(0.5)
    install(pins, lock, place)
python.install = spy
print(environments.ready(Path(sys.argv[1])))
"""


def test_two_processes_install_once(lock: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWICE, str(lock), str(tmp_path / "log")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [each.communicate()[0].strip() for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "installed\n"
    assert told == [str(environments.ready(lock))] * 2


def test_environments_that_were_not_used_for_long_are_removed(lock: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "1.1")
    place, other = environments.ready(lock), environments.ready(locked(tmp_path / "other", "tiny-thing==1.1"))
    for each in (place, other):
        os.utime(each, (1000, 1000))
    environments.ready(lock)
    assert environments.remove_unused(Workspace(Path.cwd()), 2000.0) == 1
    assert place.is_dir()
    assert not other.exists()


def test_an_environment_that_is_being_made_ready_is_not_removed(lock: Path) -> None:
    place = environments.ready(lock)
    os.utime(place, (1000, 1000))
    found: list[int] = []
    remover = threading.Thread(
        target=lambda: found.append(environments.remove_unused(Workspace(Path.cwd()), 2000.0))
    )
    with FileLock(f"{place}.lock"):
        remover.start()
        time.sleep(0.2)  # it waits for the lock by now
        os.utime(place)
    remover.join()
    assert found == [0]
    assert place.is_dir()


def test_nothing_to_remove(tmp_path: Path) -> None:
    assert environments.remove_unused(Workspace(tmp_path), 1e12) == 0


# -- Python: where packages come from


def told(monkeypatch: pytest.MonkeyPatch, **settings: str) -> list[str]:
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return list(python._indexes())


BEST = ["--index-strategy", "unsafe-best-match"]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, []),
        ({"PIP_INDEX_URL": "https://one/simple"}, ["--default-index", "https://one/simple", *BEST]),
        (
            {"PIP_EXTRA_INDEX_URL": "https://a https://b"},
            ["--index", "https://a", "--index", "https://b", *BEST],
        ),
        ({"PIP_FIND_LINKS": "/a /b"}, ["--find-links", "/a", "--find-links", "/b", *BEST]),
        ({"PIP_NO_INDEX": "1"}, ["--no-index", *BEST]),
        ({"PIP_NO_INDEX": "true"}, ["--no-index", *BEST]),
        ({"PIP_NO_INDEX": "0"}, []),
        *[({"PIP_FIND_LINKS": "/a", name: "1"}, []) for name in python.TOLD],
    ],
)
def test_what_pip_was_told_is_told_to_uv(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], options: list[str]
) -> None:
    assert told(monkeypatch, **settings) == options


def test_a_file_of_pip_counts_and_its_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://of-all\nextra-index-url =\n https://x\n https://y\n"
        "[install]\nindex-url = https://of-install\n[freeze]\nfind-links = /not-for-us\n"
    )
    found = told(monkeypatch, PIP_CONFIG_FILE=str(tmp_path / "pip.conf"))
    assert found == [
        "--default-index",
        "https://of-install",
        "--index",
        "https://x",
        "--index",
        "https://y",
        *BEST,
    ]
    forget()
    monkeypatch.setenv("PIP_INDEX_URL", "https://of-the-environment")
    assert python._indexes()[1] == "https://of-the-environment"


def test_certificates_are_handed_on_and_what_is_set_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def spy(command: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        seen.append(env.get("SSL_CERT_FILE"))
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("PIP_CERT", "/pip.pem")
    python._pip_settings()
    monkeypatch.setattr(python, "run", spy)
    python._uv("version")
    monkeypatch.setenv("SSL_CERT_FILE", "/own.pem")
    python._uv("version")
    assert seen == ["/pip.pem", "/own.pem"]


def test_released_versions_are_those_that_pip_finds(tmp_path: Path) -> None:
    for version in ("1.0", "1.10", "1.9"):
        wheel(tmp_path / "wheels", version)
    assert python.versions("tiny-thing") == ["1.0", "1.9", "1.10"]
    with pytest.raises(RecipeError, match="the python environment of no-such-thing: cannot be looked up"):
        python.versions("no-such-thing")


# -- Running an installer


def test_an_installer_that_cannot_be_run_has_failed(tmp_path: Path) -> None:
    done = process.run([str(tmp_path / "none")])
    assert done.returncode != 0
    assert str(process.failed("node", ["a@1"], "resolved", done, "Look")) == (
        f"the node environment of a@1: cannot be resolved: {tmp_path}/none cannot be run: "
        "No such file or directory. Look"
    )


def test_an_installer_that_does_not_end_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0.1)
    done = process.run([sys.executable, "-c", "import time; time.sleep(60)"])
    assert done.returncode != 0
    assert done.stderr == "nothing came of it in 0.1 seconds"


def test_an_installer_that_fails_in_silence() -> None:
    done = process.run([sys.executable, "-c", "raise SystemExit(3)"])
    assert "cannot be installed: it said nothing" in str(
        process.failed("node", ["a@1"], "installed", done, "")
    )


def test_an_installer_has_no_one_to_ask() -> None:
    read, write = os.pipe()
    kept = os.dup(0)
    os.write(write, b"typed\n")
    os.dup2(read, 0)
    try:
        done = process.run([sys.executable, "-c", "print(input())"])
    finally:
        os.dup2(kept, 0)
        for each in (read, write, kept):
            os.close(each)
    assert done.returncode != 0
    assert "EOFError" in done.stderr


# -- Node


def tarball(says: str = "first") -> bytes:
    """An npm package that is one module."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in (
            ("package.json", json.dumps({"name": "tiny-thing", "version": "1.0.0", "main": "index.js"})),
            ("index.js", f"module.exports = {says!r}\n"),
        ):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture
def registry(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """A registry that has tiny-thing 1.0.0."""
    monkeypatch.setenv("npm_config_registry", served.url)
    publish(served, tarball())
    return served


def publish(served: Served, data: bytes) -> None:
    path = "/tiny-thing/-/tiny-thing-1.0.0.tgz"
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    dist = {"tarball": served.url + path, "integrity": integrity}
    one = {"name": "tiny-thing", "version": "1.0.0", "main": "index.js", "dist": dist}
    about = {"name": "tiny-thing", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": one}}
    served.answers = {"/tiny-thing": json.dumps(about).encode(), path: data}


def required(place: Path) -> str:
    found = nodejs.find()
    assert found is not None
    command = [found, "-p", "require('tiny-thing')"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=True).stdout.strip()


def test_node_is_locked_with_hashes_and_without_addresses(tmp_path: Path, registry: Served) -> None:
    one, two = (locked(tmp_path / name, kind="node") for name in ("one", "two"))
    assert sorted(path.name for path in one.iterdir()) == ["environment.json", node.LOCK, node.MANIFEST]
    found = json.loads((one / node.LOCK).read_text())["packages"]["node_modules/tiny-thing"]
    assert found["version"] == "1.0.0"
    assert found["integrity"].startswith("sha512-")
    assert all((one / p.name).read_bytes() == p.read_bytes() for p in two.iterdir())
    assert not any(registry.url in p.read_text() or "resolved" in p.read_text() for p in one.iterdir())
    assert not any(str(tmp_path) in p.read_text() for p in one.iterdir())


def test_node_packages_are_installed_and_need_no_registry_again(
    tmp_path: Path, registry: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = locked(tmp_path / "lock", kind="node")
    place = environments.ready(lock)
    assert required(place) == "first"
    asked = len(registry.asked)
    (place / "node_modules" / "tiny-thing" / "index.js").write_text("module.exports = 'else'\n")
    assert environments.ready(lock) == place
    assert required(place) == "first"
    assert len(registry.asked) == asked


def test_a_node_package_with_other_bytes_is_refused(tmp_path: Path, registry: Served) -> None:
    lock = locked(tmp_path / "lock", kind="node")
    publish(registry, tarball("tampered"))
    with pytest.raises(RecipeError) as caught:
        environments.ready(lock)
    assert caught.value.place == f"the node environment of {PACKAGE}"
    assert caught.value.fact.startswith("cannot be installed: ")
    assert "Integrity checksum failed" in caught.value.fact
    assert caught.value.remedy == node.REMEDY


def test_node_pins_that_cannot_be_had(tmp_path: Path, registry: Served) -> None:
    with pytest.raises(RecipeError) as caught:
        locked(tmp_path / "lock", "tiny-thing@2.0.0", kind="node")
    assert caught.value.place == "the node environment of tiny-thing@2.0.0"
    assert "cannot be resolved" in caught.value.fact
    assert "2.0.0" in caught.value.fact


RELEASES = sorted(path.name for path in web.LOCKS.iterdir())


@pytest.mark.parametrize("release", RELEASES)
def test_the_locks_that_are_kept_here_are_those_of_their_release(tmp_path: Path, release: str) -> None:
    asked = web.environment(release)
    lock = locked(
        tmp_path / "lock", *asked.pins, kind=asked.kind, **{r: Path(p) for r, p in asked.lock.items()}
    )
    for name in (node.MANIFEST, node.LOCK):
        assert (lock / name).read_bytes() == (web.LOCKS / release / name).read_bytes()
    packages = json.loads((lock / node.LOCK).read_text())["packages"]
    assert packages["node_modules/onnxruntime-web"]["version"] == release
    assert all(each["integrity"].startswith("sha512-") for name, each in packages.items() if name)
    assert not any("resolved" in each for each in packages.values())


def kept(tmp_path: Path, edit: str) -> Path:
    found = json.loads((web.LOCKS / web.VERSION / node.LOCK).read_text())
    package = found["packages"]["node_modules/onnxruntime-web"]
    if edit == "no integrity":
        del package["integrity"]
    elif edit == "with an address":
        found["name"] = found["packages"][""]["name"] = "some-folder"
        package["resolved"] = "https://registry.example/onnxruntime-web.tgz"
    (tmp_path / "given.json").write_text(json.dumps(found))
    return tmp_path / "given.json"


def test_a_lock_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"is not the lock of onnxruntime-web@1\.29\.0") as caught:
        locked(tmp_path / "lock", "onnxruntime-web@1.29.0", kind="node", lock=kept(tmp_path, ""))
    assert caught.value.place == node.LOCK


def test_a_lock_without_a_hash_is_refused(tmp_path: Path) -> None:
    pin, given = f"onnxruntime-web@{web.VERSION}", kept(tmp_path, "no integrity")
    with pytest.raises(RecipeError, match="no integrity hash for node_modules/onnxruntime-web"):
        locked(tmp_path / "lock", pin, kind="node", lock=given)


def test_addresses_and_the_name_of_the_folder_in_a_given_lock_are_left_out(tmp_path: Path) -> None:
    pin, given = f"onnxruntime-web@{web.VERSION}", kept(tmp_path, "with an address")
    text = (locked(tmp_path / "lock", pin, kind="node", lock=given) / node.LOCK).read_text()
    assert text == (web.LOCKS / web.VERSION / node.LOCK).read_text()


def test_a_machine_without_node_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodejs, "find", lambda: None)
    with pytest.raises(RecipeError, match=r"no Node on this machine\. pip install 'modelbuild\[browser\]'"):
        locked(tmp_path / "lock", kind="node")


def test_npm_finds_the_node_that_it_came_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = programs(tmp_path / "bin")
    (folder / "npm").write_text("#!/bin/sh\ncommand -v node\n")
    monkeypatch.setattr(nodejs, "find", lambda: folder / "node")
    assert node._npm(tmp_path, "ci").stdout.strip() == str(folder / "node")


def programs(folder: Path) -> Path:
    """A folder on PATH with a node and an npm that do nothing."""
    folder.mkdir()
    for name in ("node", "npm"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def test_the_node_of_the_python_package_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site" / nodejs.PACKAGE).mkdir(parents=True)
    (tmp_path / "site" / nodejs.PACKAGE / "__init__.py").touch()
    (tmp_path / "site" / nodejs.PACKAGE / "bin").mkdir()
    ours = tmp_path / "site" / nodejs.PACKAGE / "bin" / "node"
    ours.touch()
    monkeypatch.setenv("PATH", str(programs(tmp_path / "bin")))
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert nodejs.find() == ours
    script = ours.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    script.parent.mkdir(parents=True)
    script.touch()
    assert nodejs.npm(ours) == [str(ours), str(script)]
    ours.unlink()
    forget()
    assert nodejs.find() == tmp_path / "bin" / "node"


def test_without_the_python_package_it_is_the_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(programs(tmp_path / "bin")))
    found = nodejs.find()
    assert found == tmp_path / "bin" / "node"
    assert nodejs.npm(found) == [str(tmp_path / "bin" / "npm")]
    forget()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nodejs.find() is None
