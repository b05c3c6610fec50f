"""ONNX Runtime Web in a real headless Chromium, with WebAssembly and with WebGPU; and browsers that do not answer."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import web_models
from runtime_conformance import CASES, dense

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime_web import chromium as browser
from modelbuild.runtimes.onnxruntime_web import hosts, server
from modelbuild.runtimes.onnxruntime_web.hosts import Host, Settings, answer

Write = Callable[[onnx.ModelProto], Path]


@pytest.mark.parametrize("threads", [1, 2])
def test_webassembly_gives_the_bits_that_it_gives_in_node(
    threads: int, chromium: Host, node: Host, dist: Path, written: Write
) -> None:
    path, inputs, settings = written(dense("n")), CASES["dense"].inputs(), Settings(threads=threads)
    found = answer(chromium, dist, path, inputs, settings)
    other = answer(node, dist, path, inputs, settings)
    for name, array in CASES["dense"].answer(inputs).items():
        np.testing.assert_allclose(found.outputs[name], array, rtol=0, atol=1e-5)
        assert found.outputs[name].tobytes() == other.outputs[name].tobytes()
    assert (found.version, found.placement) == (other.version, other.placement)
    start = "wasm in Chromium " if threads == 1 else "wasm, 2 threads, in Chromium "
    assert found.backend.startswith(start)
    assert found.backend.removeprefix(start)[0].isdecimal()
    assert found.facts["isolated"] is True
    assert found.facts["threads"] == threads
    assert "Chrome/" in found.facts["userAgent"]


def test_every_bit_of_every_dtype_comes_back(chromium: Host, dist: Path, written: Write) -> None:
    inputs = web_models.any_bits()
    found = answer(chromium, dist, written(web_models.copies()), inputs, Settings(batch=2))
    for name in web_models.DTYPES:
        assert found.outputs[f"out {name}"].dtype == name
        assert found.outputs[f"out {name}"].tobytes() == inputs[f"in {name}"].tobytes()


def test_webgpu_says_which_nodes_it_ran(chromium: Host, dist: Path, written: Write) -> None:
    inputs = web_models.squares()
    found = answer(chromium, dist, written(web_models.in_two_places()), inputs, Settings("webgpu"))
    np.testing.assert_array_equal(found.outputs["positive"], np.maximum(inputs["x"], 0))
    np.testing.assert_allclose(found.outputs["det"], np.linalg.det(inputs["x"]), rtol=0, atol=1e-5)
    assert found.placement["relu (first)"] == "WebGpuExecutionProvider"
    assert found.placement["det"] == "CPUExecutionProvider"
    assert found.backend.startswith("webgpu in Chromium ")
    assert found.facts["adapter"]["vendor"]
    assert isinstance(found.facts["adapter"]["fallback"], bool)


def test_webgpu_computes_a_whole_network(chromium: Host, dist: Path, written: Write) -> None:
    inputs = CASES["dense"].inputs()
    found = answer(chromium, dist, written(dense(8)), inputs, Settings("webgpu"))
    for name, array in CASES["dense"].answer(inputs).items():
        np.testing.assert_allclose(found.outputs[name], array, rtol=0, atol=1e-5)
    assert set(found.placement.values()) == {"WebGpuExecutionProvider"}


def test_webgpu_on_which_nothing_ran_is_no_answer(chromium: Host, dist: Path, written: Write) -> None:
    with pytest.raises(RecipeError, match="nothing ran on WebGPU: the processor ran all 1 nodes"):
        answer(chromium, dist, written(web_models.determinant()), web_models.squares(), Settings("webgpu"))


def test_a_browser_without_webgpu_is_told(
    chromium: Host, dist: Path, written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "WEBGPU_FLAGS", ("--disable-features=WebGPU,WebGPUService", "--disable-gpu"))
    with pytest.raises(RecipeError, match=r'no WebGPU adapter\. Take "webgpu" out of'):
        answer(chromium, dist, written(dense("n")), CASES["dense"].inputs(), Settings("webgpu"))


def test_threads_need_an_isolated_page(
    chromium: Host, dist: Path, written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEADERS", {})
    with pytest.raises(RecipeError, match="not cross-origin isolated, so there are no 2 threads"):
        answer(chromium, dist, written(dense("n")), CASES["dense"].inputs(), Settings(threads=2))


def test_a_file_that_is_no_model_is_refused(chromium: Host, dist: Path, written: Write) -> None:
    path = written(dense("n"))
    path.write_bytes(b"no model")
    with pytest.raises(RecipeError, match=r"version [\d.]+ does not load the model: .*protobuf"):
        answer(chromium, dist, path, CASES["dense"].inputs(), Settings())


def test_leaves_nothing_behind(
    chromium: Host, dist: Path, written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither our temporary folders nor its own; their path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        assert answer(chromium, dist, written(dense("n")), CASES["dense"].inputs(), Settings()).outputs
        assert list(Path(folder).iterdir()) == []
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)]
        assert not [line for line in lines if folder.encode() in line]


def test_answers_where_the_path_of_a_temporary_file_is_long(
    chromium: Host, dist: Path, written: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Too long for the socket that it would make in its profile."""
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert answer(chromium, dist, written(dense("n")), CASES["dense"].inputs(), Settings()).outputs
    assert list(long.iterdir()) == []


def readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def script(path: Path, code: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def in_vain(program: Path, written: Write) -> str:
    """What is said about a browser that does not answer."""
    empty = program.parent / "dist"
    empty.mkdir()
    host = Host("chromium", str(program))
    with pytest.raises(RecipeError) as error:
        answer(host, empty, written(dense("n")), CASES["dense"].inputs(), Settings())
    return str(error.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "echo first >&2; echo no display >&2; exit 3",
            "ended with exit code 3 before it answered: first no",
        ),
        ("kill -9 $$", "was killed by signal 9"),
    ],
)
def test_a_browser_that_dies_is_told_with_its_last_words(
    code: str, words: str, written: Write, tmp_path: Path
) -> None:
    assert words in in_vain(script(tmp_path / "browser", code), written)


def test_a_browser_that_is_silent_is_ended_with_all_that_it_started(
    written: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hosts.SECONDS, "wasm", 2)
    monkeypatch.setattr(browser, "PATIENCE", 0.2)
    stubborn = f"(trap '' TERM; echo busy >&2; sleep 60 & echo $! > {tmp_path}/child; wait) & wait"
    said = in_vain(script(tmp_path / "browser", stubborn), written)
    assert "Chromium: no answer within 2 seconds: busy" in said
    with pytest.raises(ProcessLookupError):
        alive(int((tmp_path / "child").read_text()))


def alive(pid: int) -> None:
    """Raise ProcessLookupError unless that process runs; one that waits to be taken away does not."""
    os.kill(pid, 0)
    if Path(f"/proc/{pid}/stat").is_file() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
        raise ProcessLookupError


def test_a_file_that_is_no_program_is_told(written: Write, tmp_path: Path) -> None:
    (tmp_path / "browser").write_text("text")
    assert "cannot be run" in in_vain(tmp_path / "browser", written)


def test_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "APPLICATIONS", (tmp_path / "App" / "Chrome",))
    assert browser.find() is None
    application = script(tmp_path / "App" / "Chrome", "")
    assert browser.find() == str(application)
    second = script(tmp_path / "google-chrome", "")
    assert browser.find() == str(second)
    first = script(tmp_path / "chromium", "")
    assert browser.find() == str(first)


def test_the_one_that_is_named_is_taken_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    script(tmp_path / "chromium", "")
    other = script(tmp_path / "mine" / "browser", "")
    assert browser.find(str(other)) == str(other)
    assert browser.find(str(tmp_path / "absent")) is None
    assert browser.find("absent") is None
    assert "looked for absent" in browser.missing("absent")
    assert "apt-get install chromium" in browser.missing()


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF")
    return path


@pytest.mark.parametrize(
    ("start", "behind"),
    [
        ("usr/bin/chromium", "usr/lib/chromium/chromium"),
        ("usr/bin/chromium-browser", "usr/lib64/chromium-browser/chromium-browser"),
        ("opt/google/chrome/google-chrome", "opt/google/chrome/chrome"),
    ],
)
def test_the_browser_is_what_its_script_starts(start: str, behind: str, tmp_path: Path) -> None:
    wrapper, real = script(tmp_path / start, "exec it"), program(tmp_path / behind)
    if start.startswith("usr/bin"):
        script(tmp_path / "usr/bin/chrome", "another script")
    (tmp_path / "link").symlink_to(wrapper)
    assert browser.binary(str(wrapper)) == str(real)
    assert browser.binary(str(tmp_path / "link")) == str(real)


def test_the_browser_behind_a_link_of_snap(tmp_path: Path) -> None:
    snap = program(tmp_path / "usr/bin/snap")
    real = program(tmp_path / "snap/chromium/current/usr/lib/chromium-browser/chrome")
    (tmp_path / "snap/bin").mkdir()
    (tmp_path / "snap/bin/chromium").symlink_to(snap)
    assert browser.binary(str(tmp_path / "snap/bin/chromium")) == str(real)


def test_a_program_is_the_browser_itself_and_so_is_a_script_of_unknown_kind(tmp_path: Path) -> None:
    real = program(tmp_path / "bin" / "chrome")
    (tmp_path / "link").symlink_to(real)
    assert browser.binary(str(tmp_path / "link")) == str(real)
    unknown = script(tmp_path / "elsewhere" / "chromium", "exec something")
    assert browser.binary(str(unknown)) == str(unknown)
