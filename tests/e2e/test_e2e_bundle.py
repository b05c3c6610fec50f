"""The bundle of a browser's platform: built with the rest, delivered in place of the bare artefact, and opened."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from opened_bundle import shown
from project_dir import ProjectDir

from modelbuild import nodejs
from modelbuild.runtimes.onnxruntime_web import chromium

BUNDLE = "tiny:web.bundle"
SIZES = {"golden/input-0.bin": 8 * 4 * 4, "golden/output-0.bin": 8 * 3 * 4}  # 8 samples of float32


@pytest.fixture
def web(project: ProjectDir) -> ProjectDir:
    """The built project with a browser's platform more, of its own tolerance."""
    if nodejs.find() is None:
        pytest.skip(f"there is no Node: {nodejs.REMEDY}")
    # Two threads and no one: what is bundled does not hang on how it is run.
    platform = {
        "runtime": "onnxruntime-web",
        "hosts": ["node"],
        "threads": [2],
        "tolerance": {"max_abs": 0.001},
    }
    project.manifest(lambda m: m["platforms"].update(web=platform))
    result = project.doit()
    assert result.code == 0, result.text
    assert BUNDLE in result.of("built")
    return project


def params(project: ProjectDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dict(project.record_of(BUNDLE).parts)["params"])
    return found


def opened(folder: Path) -> tuple[str, str]:
    """What the page shows in the usual browser; MODELBUILD_TEST_REQUIRE=chromium refuses to go without."""
    program = chromium.find()
    if program is None:
        if "chromium" in os.environ.get("MODELBUILD_TEST_REQUIRE", ""):
            pytest.fail(chromium.missing(), pytrace=False)
        pytest.skip(chromium.missing())
    return shown(folder, program)[:2]


def test_what_is_delivered_holds_in_the_browser_and_a_changed_model_does_not(web: ProjectDir) -> None:
    assert web.doit("deliver", "--to", "shipped").code == 0
    there = web.path("shipped") / "tiny"
    files = {
        p.relative_to(there / "web").as_posix(): p.stat().st_size
        for p in (there / "web").rglob("*")
        if p.is_file()
    }
    assert {
        "index.html",
        "check.mjs",
        "model.onnx",
        "io.json",
        "golden/golden.json",
        "ort/ort.wasm.min.mjs",
    } <= set(files)
    assert SIZES.items() <= files.items()
    assert {p.name for p in (there / "phone").iterdir()} == {
        "model.onnx",
        "io.json",
        "golden",
    }  # makes no bundle
    assert opened(there / "web") == ("holds", "holds: scores of 8 samples, on wasm")
    model = there / "web" / "model.onnx"
    weight = b"\0\0\x80\x3f"  # 1.0, the second of the matrix
    assert weight in model.read_bytes()
    model.write_bytes(model.read_bytes().replace(weight, b"\0\0\x81\x3f", 1))
    title, text = opened(there / "web")
    assert title == "RED"
    assert "within 0.001" in text


def test_a_bundle_is_made_again_for_another_limit_and_for_nothing_else(web: ProjectDir) -> None:
    assert set(web.doit().states.values()) == {"up to date"}
    before = web.contents(".cache/out/tiny/web.bundle")
    assert params(web)["place"] == "platforms/web"
    web.manifest(lambda m: m["platforms"]["web"].pop("tolerance"))
    result = web.doit()
    assert result.code == 0, result.text
    limited = {"tiny:web.golden", "tiny:web.steps", BUNDLE, "tiny:verdict.runtime", "tiny:repro"}
    assert result.of("built") == limited
    assert params(web)["place"] == "gates/runtime"
    after = web.contents(".cache/out/tiny/web.bundle")
    assert {name for name in before if before[name] != after[name]} == {"golden/golden.json"}
    (row,) = json.loads(after["golden/golden.json"])["outputs"]
    assert "noise floor" in row["limit_source"]


def test_the_page_is_part_of_the_key(web: ProjectDir) -> None:
    assert {"file check.mjs", "file index.html"} <= set(dict(web.record_of(BUNDLE).parts))
