"""The delivered bundle in a real browser: it holds, and says so in red when anything of it is not as it should be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from runtime_conformance import dense, dense_answer, dense_inputs, write_onnx

from modelbuild.errors import RecipeError
from modelbuild.golden import Golden
from modelbuild.runtimes import base
from modelbuild.runtimes.onnxruntime_web import bundle, chromium
from modelbuild.runtimes.onnxruntime_web.hosts import Host
from modelbuild.runtimes.onnxruntime_web.server import Site

RUNTIME: Any = base.find("onnxruntime-web")
COUNT = 5
# The page itself tells nobody: this one opens it as a part of itself and passes on what it shows.
WATCHER = b"""<!doctype html><iframe src="index.html?SEARCH"></iframe><script type="module">
const frame = document.querySelector("iframe");
for (;;) {
  await new Promise((resume) => setTimeout(resume, 50));
  const page = frame.contentDocument;
  if (!page || page.readyState !== "complete" || !["holds", "RED"].includes(page.title)) continue;
  const said = { title: page.title, text: page.querySelector("#result").textContent };
  await fetch("answer", { method: "POST", body: JSON.stringify(said) + "\\n" });
  break;
}
</script>"""

Make = Callable[..., Path]


def samples() -> Golden:
    inputs = {name: array[:COUNT] for name, array in dense_inputs().items()}
    return Golden(inputs, dense_answer(inputs), {"logits": 1e-5, "hidden": 1e-5})


@pytest.fixture
def made(dist: Path, tmp_path: Path) -> Make:
    def make(golden: Golden | None = None, backends: tuple[str, ...] = ("wasm", "webgpu")) -> Path:
        (tmp_path / "artifact").mkdir(exist_ok=True)
        targets = {"onnx": write_onnx(tmp_path / "onnx", dense())}
        RUNTIME.convert(targets, tmp_path / "artifact", {"options": {}})
        out = tmp_path / f"bundle{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        params = {"options": {"backends": list(backends)}, "environment": str(dist.parents[2])}
        RUNTIME.bundle(tmp_path / "artifact", out, golden or samples(), params)
        return out

    return make


def shown(folder: Path, host: Host, search: str = "") -> tuple[str, str]:
    """What the page shows: its title and its text."""
    files: dict[str, Path | bytes] = {
        p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()
    }
    files["watch.html"] = WATCHER.replace(b"SEARCH", search.encode())
    with (
        Site(files) as site,
        chromium.page(host.program, f"{site.url}watch.html", "webgpu" in search) as browser,
    ):
        said = site.wait(60, browser.check).about
    return said["title"], said["text"]


def test_it_holds_in_the_browser(made: Make, chromium: Host) -> None:
    assert shown(made(), chromium) == ("holds", f"holds: hidden,logits of {COUNT} samples, on wasm")


def test_it_holds_on_webgpu(made: Make, chromium: Host) -> None:
    title, text = shown(made(), chromium, "backend=webgpu")
    assert (title, text.rpartition(" ")[2]) == ("holds", "webgpu")


def change_a_weight(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    weight = next(each for each in model.graph.initializer if each.name == "w2")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(0.01), "w2"))
    onnx.save(model, folder / "model.onnx")


def drop_an_output(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    del model.graph.output[1]
    onnx.save(model, folder / "model.onnx")


def told(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    place = folder / "golden" / "golden.json"
    document = json.loads(place.read_text())
    change(document)
    place.write_text(json.dumps(document))


def not_a_number(folder: Path) -> None:
    place = folder / "golden" / "output-0.bin"
    values = np.fromfile(place, np.float32)
    values[3] = np.nan
    values.tofile(place)


def cut(folder: Path) -> None:
    place = folder / "golden" / "output-0.bin"
    place.write_bytes(place.read_bytes()[:-4])


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a weight": (change_a_weight, "within 0.00001"),
    "an output that is gone": (drop_an_output, "the outputs are logits"),
    "an output that nobody expects": (
        lambda folder: told(folder, lambda d: d["outputs"].pop()),
        "the outputs are",
    ),
    "a shape": (
        lambda folder: told(folder, lambda d: d["outputs"][0].update(shape=[COUNT * 8, 1])),
        "hidden is float32[5,8]",
    ),
    "not a number": (not_a_number, "not NaN within"),
    "a golden file that is cut off": (cut, "is not all of hidden"),
    "no samples": (
        lambda folder: (
            (folder / "golden" / "output-0.bin").write_bytes(b""),
            told(folder, lambda d: d["outputs"][0].update(shape=[0, 8])),
        ),
        "is not all of hidden",
    ),
    "a file that is gone": (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is not there (404)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_red_and_says_why(made: Make, chromium: Host, fault: str) -> None:
    folder = made(backends=("wasm",))
    spoil, words = FAULTS[fault]
    spoil(folder)
    title, text = shown(folder, chromium)
    assert title == "RED"
    assert words in text


def test_the_same_bytes_twice_and_only_the_files_that_the_backends_need(made: Make) -> None:
    one, two = made(), made()
    found = {p.relative_to(one).as_posix(): p.read_bytes() for p in one.rglob("*") if p.is_file()}
    assert found == {p.relative_to(two).as_posix(): p.read_bytes() for p in two.rglob("*") if p.is_file()}
    alone = made(backends=("wasm",))
    assert sorted(p.name for p in (alone / "ort").iterdir()) == [
        "ort-wasm-simd-threaded.mjs",
        "ort-wasm-simd-threaded.wasm",
        "ort.wasm.min.mjs",
    ]
    assert {name for name in found if "asyncify" in name or "webgpu" in name}


def test_golden_samples_are_plain_bytes(made: Make) -> None:
    folder = made()
    about = json.loads((folder / "golden" / "golden.json").read_text())
    assert about["samples"] == COUNT
    assert about["backends"] == ["wasm", "webgpu"]
    (row,) = (each for each in about["outputs"] if each["name"] == "logits")
    stored = np.fromfile(folder / "golden" / row["file"], "<f4").reshape(row["shape"])
    assert np.array_equal(stored, samples().outputs["logits"])
    assert row["limit"] == 1e-5


def test_the_page_is_short_enough_to_start_from() -> None:
    script = (bundle.PAGE / "check.mjs").read_text().splitlines()
    assert len([line for line in script if line.strip()]) <= 45


def test_float16_is_refused(made: Make) -> None:
    golden = samples()
    halves = {name: array.astype(np.float16) for name, array in golden.outputs.items()}
    with pytest.raises(RecipeError, match="float16"):
        made(golden._replace(outputs=halves))


def test_a_version_without_the_backend_is_named(made: Make, dist: Path, tmp_path: Path) -> None:
    other = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    other.mkdir(parents=True)
    shutil.copy(dist / "ort.wasm.min.mjs", other)
    with pytest.raises(RecipeError, match=r"no ort\.webgpu\.min\.mjs"):
        bundle.write(tmp_path, tmp_path / "out", samples(), {
            "options": {"backends": ["webgpu"]}, "environment": str(tmp_path),
        })  # fmt: skip
