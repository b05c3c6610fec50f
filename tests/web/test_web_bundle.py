"""The delivered bundle in a real browser: it holds, and says so in red when anything of it is not as it should be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from opened_bundle import shown
from runtime_conformance import dense, dense_answer, dense_inputs, write_onnx

from modelbuild import nodejs
from modelbuild.errors import RecipeError
from modelbuild.golden import Golden, Limit
from modelbuild.runtimes import base
from modelbuild.runtimes.onnxruntime_web import PAGE, server
from modelbuild.runtimes.onnxruntime_web.hosts import Host

RUNTIME: Any = base.find("onnxruntime-web")
COUNT = 5
LIMIT = Limit(1e-5, "from the manifest")
Make = Callable[..., Path]


def samples() -> Golden:
    inputs = {name: array[:COUNT] for name, array in dense_inputs().items()}
    return Golden(inputs, dense_answer(inputs), {"logits": LIMIT, "hidden": LIMIT})


@pytest.fixture
def made(dist: Path, tmp_path: Path) -> Iterator[Make]:
    """Makes bundles, each with the files of the runtime; they are deleted after the test, for they are large."""
    folders: list[Path] = []

    def make(
        golden: Golden | None = None,
        backends: tuple[str, ...] = ("wasm",),
        model: onnx.ModelProto | None = None,
        environment: Path = dist.parents[2],
    ) -> Path:
        (tmp_path / "artifact").mkdir(exist_ok=True)
        targets = {"onnx": write_onnx(tmp_path / "onnx", model or dense())}
        RUNTIME.convert(targets, tmp_path / "artifact", {"options": {}})
        out = tmp_path / f"bundle{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        folders.append(out)
        params = {"options": {"backends": list(backends)}, "environment": str(environment)}
        RUNTIME.bundle(tmp_path / "artifact", out, golden or samples(), params)
        return out

    yield make
    for folder in folders:
        shutil.rmtree(folder)


def test_it_holds_in_the_browser(made: Make, chromium: Host) -> None:
    said = shown(made(), chromium.program)
    assert said == ("holds", f"holds: hidden,logits of {COUNT} samples, on wasm", True)


def test_it_holds_on_a_server_that_sends_no_headers_of_its_own(
    made: Make, chromium: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEADERS", {})
    said = shown(made(), chromium.program)
    assert (said.title, said.isolated) == ("holds", False)


def test_it_holds_on_webgpu(made: Make, chromium: Host) -> None:
    said = shown(made(backends=("wasm", "webgpu")), chromium.program, "backend=webgpu", webgpu=True)
    assert said[:2] == ("holds", f"holds: hidden,logits of {COUNT} samples, on webgpu")


def test_the_first_backend_is_the_usual_one(made: Make, chromium: Host) -> None:
    said = shown(made(backends=("webgpu", "wasm")), chromium.program, webgpu=True)
    assert said.text.endswith("on webgpu")


def test_without_webgpu_nothing_else_answers_in_its_name(made: Make, chromium: Host) -> None:
    said = shown(made(backends=("wasm", "webgpu")), chromium.program, "backend=webgpu")
    assert said.title == "RED"
    assert "webgpu" in said.text.lower()


def test_a_script_that_does_not_load_is_red(
    made: Make, chromium: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(server.TYPES, ".mjs")
    said = shown(made(), chromium.program)
    assert said[:2] == (
        "RED",
        "RED: check.mjs or golden/compare.mjs is not there, or not served as text/javascript",
    )


def sum_with_itself(dtype: str) -> onnx.ModelProto:
    """x [batch, 2] -> y = x + x."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ports = [helper.make_tensor_value_info(name, kind, ["batch", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "sum", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("dtype", ["int64", "float16", "float64"])
def test_arrays_of_other_kinds_are_compared_to_the_last_bit(made: Make, chromium: Host, dtype: str) -> None:
    x = np.array([[1, 3], [2**52, 5]] if dtype != "float16" else [[1, 3], [1000, 5]], dtype)
    golden = Golden({"x": x}, {"y": x + x}, {"y": Limit(0.0, "")})
    assert shown(made(golden, model=sum_with_itself(dtype)), chromium.program).title == "holds"
    off = (x + x).copy()
    off[1, 0] = np.nextafter(off[1, 0], np.dtype(dtype).type(np.inf)) if dtype != "int64" else off[1, 0] + 1
    said = shown(made(golden._replace(outputs={"y": off}), model=sum_with_itself(dtype)), chromium.program)
    assert said.title == "RED"
    assert "y[2] is" in said.text


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


def answer_not_a_number(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    weight = next(each for each in model.graph.initializer if each.name == "w2")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(np.nan), "w2"))
    onnx.save(model, folder / "model.onnx")


def no_samples(folder: Path) -> None:
    (folder / "golden" / "output-0.bin").write_bytes(b"")
    told(folder, lambda d: d["outputs"][0].update(shape=[0, 8]))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a weight": (change_a_weight, "within 0.00001"),
    "an output that is gone": (drop_an_output, "the outputs are logits, not hidden,logits"),
    "an output that nobody expects": (
        lambda folder: told(folder, lambda d: d["outputs"].pop()),
        "the outputs are hidden,logits, not hidden",
    ),
    "a shape": (
        lambda folder: told(folder, lambda d: d["outputs"][0].update(shape=[COUNT * 8, 1])),
        "hidden is float32[5,8], not float32[40,1]",
    ),
    "a dtype": (
        lambda folder: told(folder, lambda d: d["outputs"][0].update(dtype="int32")),
        "hidden is float32[5,8], not int32[5,8]",
    ),
    "a golden value that is not a number": (not_a_number, "not NaN within"),
    "an answer that is not a number": (answer_not_a_number, "is NaN, not"),
    "a limit that is not there": (
        lambda folder: told(folder, lambda d: d["outputs"][0].pop("limit")),
        "within undefined",
    ),
    "a golden file that is cut off": (cut, "output-0.bin is not all of hidden"),
    "no samples": (no_samples, "is not all of hidden"),
    "no golden samples at all": (
        lambda folder: (folder / "golden" / "golden.json").unlink(),
        "golden.json is not there (404)",
    ),
    "no golden folder": (lambda folder: shutil.rmtree(folder / "golden"), "golden/compare.mjs is not there"),
    "a file that is gone": (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is not there (404)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_red_and_says_why(made: Make, chromium: Host, fault: str) -> None:
    folder = made()
    spoil, words = FAULTS[fault]
    spoil(folder)
    said = shown(folder, chromium.program)
    assert said.title == "RED"
    assert words in said.text


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


OWN = {"model.onnx", "io.json", "index.html", "check.mjs"}
GOLDEN = {"golden/golden.json", "golden/input-0.bin", "golden/output-0.bin", "golden/output-1.bin"}
GOLDEN |= {f"golden/{name}" for name in ("check.py", "check.mjs", "compare.mjs")}
WASM = {
    f"ort/{name}" for name in ("ort.wasm.min.mjs", *map("ort-wasm-simd-threaded{}".format, (".mjs", ".wasm")))
}
WEBGPU = {"ort/ort.webgpu.min.mjs", *map("ort/ort-wasm-simd-threaded.asyncify{}".format, (".mjs", ".wasm"))}


@pytest.mark.parametrize(
    ("backends", "files"), [(("wasm",), WASM), (("webgpu",), WEBGPU), (("wasm", "webgpu"), WASM | WEBGPU)]
)
def test_the_same_bytes_twice_and_only_the_files_that_the_backends_need(
    made: Make, backends: tuple[str, ...], files: set[str]
) -> None:
    found = contents(made(backends=backends))
    assert set(found) == OWN | GOLDEN | files
    assert found == contents(made(backends=backends))


def test_golden_samples_are_plain_bytes(made: Make) -> None:
    folder = made(backends=("wasm", "webgpu"))
    about = json.loads((folder / "golden" / "golden.json").read_text())
    assert about["samples"] == COUNT
    assert about["backends"] == ["wasm", "webgpu"]
    (row,) = (each for each in about["outputs"] if each["name"] == "logits")
    stored = np.fromfile(folder / "golden" / row["file"], "<f4").reshape(row["shape"])
    assert np.array_equal(stored, samples().outputs["logits"])
    assert (row["limit"], row["limit_source"]) == LIMIT


def test_the_page_is_thirty_lines_to_start_from() -> None:
    script = (PAGE / "check.mjs").read_text().splitlines()
    assert len(script) <= 30
    assert max(map(len, script)) <= 130


def installed(folder: Path, dist: Path, *names: str) -> Path:
    """An environment with these files of onnxruntime-web."""
    there = folder / "node_modules" / "onnxruntime-web"
    (there / "dist").mkdir(parents=True)
    for name in names:
        shutil.copy(dist / name, there / "dist")
    return folder


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["ort.wasm.min.mjs"], "no ort-wasm-simd-threaded.mjs, ort-wasm-simd-threaded.wasm"),
        ([], "no ort.wasm.min.mjs"),
    ],
)
def test_a_version_without_the_files_is_named(
    made: Make, dist: Path, tmp_path: Path, names: list[str], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        made(environment=installed(tmp_path / "other", dist, *names))


def test_the_licence_goes_along_where_the_package_has_one(made: Make, dist: Path, tmp_path: Path) -> None:
    other = installed(tmp_path / "other", dist, *(name.removeprefix("ort/") for name in WASM))
    (other / "node_modules" / "onnxruntime-web" / "LICENSE").write_text("MIT")
    assert (made(environment=other) / "ort" / "LICENSE").read_text() == "MIT"


@pytest.mark.parametrize("options", [{}, {"threads": [2]}, {"hosts": ["chromium"], "backends": ["webgpu"]}])
def test_what_a_bundle_reads_does_not_hang_on_the_ways_of_running(options: dict[str, Any]) -> None:
    bundling = RUNTIME.bundling({**options, "versions": ["1.30.0", "1.24.3"]})
    assert bundling.environment.pins == ("onnxruntime-web@1.30.0",)
    assert bundling.options == {"backends": options.get("backends", ["wasm"])}
    assert set(bundling.files) == {"index.html", "check.mjs"}


def test_without_node_there_is_no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodejs, "find", lambda: None)
    assert RUNTIME.bundling({}) is None
