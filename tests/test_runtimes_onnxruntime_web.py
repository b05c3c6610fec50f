from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from runtime_conformance import RuntimeConformance

from modelbuild import nodejs
from modelbuild.errors import ManifestError
from modelbuild.runtimes import base
from modelbuild.runtimes.onnxruntime_web import chromium
from modelbuild.runtimes.onnxruntime_web.options import LOCKS, NAME, VERSION, environment

RUNTIME = base.find(NAME)


class TestOnnxRuntimeWeb(RuntimeConformance):
    name = NAME
    options = {"backends": ["wasm", "webgpu"], "threads": [1, 2]}  # noqa: RUF012


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ({}, ["node-wasm", "chromium-wasm"]),
        ({"hosts": ["node"]}, ["node-wasm"]),
        ({"backends": ["webgpu"]}, ["chromium-webgpu"]),
        (
            {"backends": ["wasm", "webgpu"], "threads": [1, 2]},
            [
                "node-wasm",
                "node-wasm-2-threads",
                "chromium-wasm",
                "chromium-wasm-2-threads",
                "chromium-webgpu",
            ],
        ),
        (
            {"versions": ["1.24.3", "1.30.0"], "hosts": ["node"]},
            ["1.24.3-node-wasm", "1.30.0-node-wasm"],
        ),
    ],
)
def test_every_combination_of_host_backend_and_threads_is_a_way(
    options: dict[str, Any], ways: list[str]
) -> None:
    assert list(RUNTIME.runs(options)) == ways


def test_a_browser_that_is_not_there_is_said_with_the_line_that_installs_it() -> None:
    ways = RUNTIME.runs({"executable": "no-such-browser"})
    assert ways["node-wasm"].unavailable is None
    said = ways["chromium-wasm"].unavailable
    assert said is not None
    assert "no-such-browser" in said
    assert "apt-get install chromium" in said


def test_without_node_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodejs, "find", lambda: None)
    for way in RUNTIME.runs({}).values():
        assert "pip install 'modelbuild[browser]'" in str(way.unavailable)


def test_the_programs_that_run_it_are_part_of_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "chrome").write_bytes(b"a browser")
    (tmp_path / "chrome").chmod(0o755)
    ways = RUNTIME.runs({"executable": str(tmp_path / "chrome")})
    assert ways["chromium-wasm"].machine == {"chromium": str(tmp_path / "chrome")}
    assert ways["chromium-wasm"].options["executable"] == str(tmp_path / "chrome")
    assert ways["node-wasm"].machine == {"node": str(nodejs.find())}
    assert "executable" not in ways["node-wasm"].options


def test_our_own_programs_in_javascript_are_part_of_the_key() -> None:
    """Whatever the folder of the runtime has of them; Python is found by its imports."""
    from modelbuild.runtimes.onnxruntime_web.options import HERE, PROGRAMS

    there = {path.name for path in HERE.iterdir() if path.suffix in (".mjs", ".html")}
    assert there == {name for names in PROGRAMS.values() for name in names}
    way = RUNTIME.runs({})["node-wasm"]
    assert set(way.files) == {"answer.mjs", "node_host.mjs"}
    assert all(Path(path).is_file() for path in way.files.values())


def test_the_usual_browser_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/env" if name == "google-chrome" else None)
    assert chromium.find() == "/usr/bin/env"


def test_the_default_version_has_a_lock_and_another_is_locked_when_asked_for() -> None:
    assert (LOCKS / VERSION / "package-lock.json").is_file()
    assert set(environment(VERSION).lock) == {"manifest", "lock"}
    assert environment("1.20.0").lock == {}
    assert environment("1.20.0").pins == ("onnxruntime-web@1.20.0",)


def test_a_way_of_running_leaves_the_artefact_as_it_is() -> None:
    plain = RUNTIME.conversion({})
    assert plain == RUNTIME.conversion({"backends": ["webgpu"], "threads": [4], "versions": ["1.24.3"]})
    assert plain != RUNTIME.conversion({"batch": 3})


@pytest.mark.parametrize(
    ("options", "place", "words"),
    [
        ({"backend": ["wasm"]}, "backend", 'Did you mean "backends"'),
        ({"backends": ["wsm"]}, "backends", 'Did you mean "wasm"'),
        ({"backends": []}, "backends", "is empty"),
        ({"backends": "wasm"}, "backends", "is no list"),
        ({"hosts": ["firefox"]}, "hosts", "not one of node, chromium"),
        ({"hosts": ["node", "node"]}, "hosts", "stands there twice"),
        ({"threads": [0]}, "threads", "whole number"),
        ({"versions": ["latest"]}, "versions", "no version"),
        ({"optimisation": "al"}, "optimisation", 'Did you mean "all"'),
        ({"batch": 0}, "batch", "whole number"),
        ({"hosts": ["node"], "backends": ["webgpu"]}, "hosts", "nothing would be run"),
    ],
)
def test_options_are_refused_at_their_place(options: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        RUNTIME.conversion(options)
    assert caught.value.place == f"options/{place}"
