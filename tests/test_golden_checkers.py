"""The checkers that travel with an artefact, as the tests of an app run them: a process, its exit code, its words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from runtime_conformance import dense, dense_answer, dense_inputs

from modelbuild import golden, nodejs
from modelbuild.golden import Golden, Limit

COUNT = 5
Arrays = dict[str, Any]
NODE = nodejs.find()


def samples(**more: Any) -> Golden:
    inputs = {name: array[:COUNT] for name, array in dense_inputs().items()}
    limits = {"logits": Limit(1e-5, ""), "hidden": Limit(1e-5, "")}
    return Golden(inputs, dense_answer(inputs), limits, **more)


def other_kinds() -> Golden:
    x = {"x": np.zeros((2, 1), np.float32)}
    outputs = {
        "half": np.array([[1.5, -0.0], [65504, 6e-8]], np.float16),
        "double": np.array([[0.1], [1e300]]),
        "whole": np.array([[2**53 + 1], [-(2**62)]], np.int64),
        "big": np.array([[2**64 - 1], [0]], np.uint64),
        "byte": np.array([[255], [0]], np.uint8),
        "truth": np.array([[True], [False]]),
    }
    return Golden(x, outputs, {name: Limit(0.0, "") for name in outputs})


@pytest.fixture
def delivered(tmp_path: Path) -> Path:
    """A platform's folder: model.onnx, and golden/ beside it."""
    put(tmp_path / "phone", samples())
    return tmp_path / "phone"


def put(folder: Path, given: Golden, artefact: str | None = "model.onnx") -> None:
    golden.write(folder / "golden", given, {"artefact": artefact, "runtime": "onnxruntime"})
    onnx.save(dense("n"), folder / "model.onnx")


def python(folder: Path, *args: object, **more: Any) -> tuple[int, str]:
    return _said([sys.executable, folder / "golden" / "check.py", *args], **more)


def node(folder: Path, *args: object, **more: Any) -> tuple[int, str]:
    return _said([NODE, folder / "golden" / "check.mjs", *args], **more)


def _said(command: list[object], **more: Any) -> tuple[int, str]:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=120, check=False, **more
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert bool(done.stdout) == (done.returncode == 0)
    return done.returncode, (done.stdout + done.stderr).strip()


Check = Callable[..., tuple[int, str]]
needs_node = pytest.mark.skipif(NODE is None, reason=nodejs.REMEDY)
BOTH = pytest.mark.parametrize(
    "check", [python, pytest.param(node, marks=needs_node)], ids=["python", "javascript"]
)


def npy(folder: Path, arrays: Arrays) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def raw(folder: Path, arrays: Arrays) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        array.tofile(folder / f"{name}.bin")
    return folder


# -- green


@BOTH
@pytest.mark.parametrize("write", [npy, raw])
def test_what_an_app_wrote_holds(check: Check, write: Any, delivered: Path, tmp_path: Path) -> None:
    near = {name: array + np.float32(3e-6) for name, array in samples().outputs.items()}
    code, said = check(delivered, write(tmp_path / "app", near))
    assert code == 0, said
    assert said.startswith(f"holds: {COUNT} samples, hidden off by ")
    assert "limit 0.00001" in said or "limit 1e-05" in said


@BOTH
@pytest.mark.parametrize("write", [npy, raw])
def test_arrays_of_every_kind_are_compared_to_the_last_bit(check: Check, write: Any, tmp_path: Path) -> None:
    put(tmp_path, other_kinds())
    assert check(tmp_path, write(tmp_path / "app", dict(other_kinds().outputs)))[0] == 0
    for name, array in other_kinds().outputs.items():
        spoilt = {**other_kinds().outputs, name: next_to(array)}
        code, said = check(tmp_path, write(tmp_path / "app", spoilt))
        assert (code, name in said) == (1, True), (name, said)


def next_to(array: Any) -> Any:
    """`array` with the next value that its type has in place of the last one."""
    off = array.copy()
    value = off[1, 0]
    if off.dtype.kind == "b":
        off[1, 0] = ~value
    else:
        off[1, 0] = value + 1 if off.dtype.kind in "iu" else np.nextafter(value, off.dtype.type(0))
    return off


@needs_node
def test_an_old_node_reads_half_precision_too(tmp_path: Path) -> None:
    """Node 18 to 22 has no array of that kind."""
    put(tmp_path, other_kinds())
    without = {"NODE_OPTIONS": "--import data:text/javascript,delete%20globalThis.Float16Array"}
    assert node(tmp_path, npy(tmp_path / "app", dict(other_kinds().outputs)), env=without)[0] == 0
    for bad, shown in ((np.nan, "NaN"), (-np.inf, "-Infinity"), (1.4990234375, "1.4990234375")):
        off = changed(
            dict(other_kinds().outputs), "half", lambda x, bad=bad: np.where(x == 1.5, np.float16(bad), x)
        )
        code, said = node(tmp_path, npy(tmp_path / "app", off), env=without)
        assert (code, f"half[0] is {shown}, not 1.5 within 0" in said) == (1, True), said


@BOTH
def test_the_names_of_the_golden_files_do_as_well(check: Check, delivered: Path, tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    for row in json.loads((delivered / "golden" / "golden.json").read_text())["outputs"]:
        shutil.copy(delivered / "golden" / row["file"], app)
    (app / "notes.txt").write_text("not an output")
    assert check(delivered, app)[0] == 0


def test_an_npz_file_holds_and_its_arrays_are_all_looked_at(delivered: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "app.npz", **samples().outputs)
    assert python(delivered, tmp_path / "app.npz")[0] == 0
    np.savez_compressed(tmp_path / "app.npz", **samples().outputs, extra=np.zeros(2))
    assert python(delivered, tmp_path / "app.npz") == (
        1,
        "RED: the outputs are extra, hidden, logits, not hidden, logits",
    )


# -- red


def changed(arrays: Arrays, name: str, change: Callable[[Any], Any]) -> Arrays:
    return {**arrays, name: change(arrays[name].copy())}


def put_in(value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[3, 1] = value
        return array

    return change


def swapped(arrays: Arrays) -> Arrays:
    return {**arrays, "logits": arrays["logits"][[1, 0, 2, 3, 4]]}


FAULTS: dict[str, tuple[Callable[[Arrays], Arrays], tuple[str, ...]]] = {
    "a value": (lambda a: changed(a, "logits", put_in(9.0)), ("logits", "sample 3", "1e-05|0.00001")),
    "a little too much": (
        lambda a: changed(a, "hidden", lambda x: x + np.float32(2e-5)),
        ("hidden", "sample"),
    ),
    "NaN": (lambda a: changed(a, "logits", put_in(np.nan)), ("logits", "sample 3", "nan|NaN")),
    "infinity": (lambda a: changed(a, "logits", put_in(np.inf)), ("logits", "sample 3", "inf|Infinity")),
    "a missing output": (lambda a: {"logits": a["logits"]}, ("the outputs are logits, not hidden",)),
    "an extra output": (lambda a: {**a, "more": a["logits"]}, ("nobody expects the output more",)),
    "another name": (
        lambda a: {"logit": a["logits"], "hidden": a["hidden"]},
        ("nobody expects the output logit.",),
    ),
    "a dropped sample": (lambda a: changed(a, "logits", lambda x: x[:-1]), ("logits",)),
    "samples in another order": (swapped, ("logits", "sample")),
    "an output scaled": (lambda a: changed(a, "logits", lambda x: x * np.float32(1.01)), ("logits",)),
    "all the same": (lambda a: changed(a, "logits", lambda x: x * 0), ("logits",)),
    "one sample repeated": (lambda a: changed(a, "hidden", lambda x: x[:1].repeat(COUNT, 0)), ("hidden",)),
    "no values": (lambda a: changed(a, "logits", lambda x: x[:0]), ("logits",)),
}
OF_ARRAYS = {
    "a dtype": (lambda a: changed(a, "logits", lambda x: x.astype(np.float64)), ("is float64",)),
    "a shape": (lambda a: changed(a, "logits", lambda x: x.T.copy()), ("[3, 5]|[3,5]",)),
    "an axis more": (lambda a: changed(a, "logits", lambda x: x[None]), ("logits",)),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("fault", [*FAULTS, *OF_ARRAYS])
def test_a_fault_is_red_and_named(check: Check, fault: str, delivered: Path, tmp_path: Path) -> None:
    spoil, words = {**FAULTS, **OF_ARRAYS}[fault]
    code, said = check(delivered, npy(tmp_path / "app", spoil(dict(samples().outputs))))
    assert code == 1, said
    assert said.startswith("RED: ")
    for each in words:
        assert any(word in said for word in each.split("|")), said


@BOTH
@pytest.mark.parametrize("fault", [*FAULTS, "a dtype"])
def test_a_fault_in_raw_values_is_red(check: Check, fault: str, delivered: Path, tmp_path: Path) -> None:
    spoil, _ = {**FAULTS, **OF_ARRAYS}[fault]
    code, said = check(delivered, raw(tmp_path / "app", spoil(dict(samples().outputs))))
    assert (code, said[:5]) == (1, "RED: "), said
    if fault in ("a dropped sample", "no values", "a dtype"):
        assert "logits.bin is not all of logits" in said or "logits.bin has " in said


@BOTH
def test_an_output_in_two_files_is_red(check: Check, delivered: Path, tmp_path: Path) -> None:
    both = npy(raw(tmp_path / "app", dict(samples().outputs)), {"logits": samples().outputs["logits"]})
    code, said = check(delivered, both)
    assert (code, "logits" in said, "written twice" in said) == (1, True, True)


# -- cannot be checked


@BOTH
def test_what_cannot_be_checked_is_neither_green_nor_red(
    check: Check, delivered: Path, tmp_path: Path
) -> None:
    for args, words in (
        ([tmp_path / "nowhere"], "nowhere is no folder"),
        ([delivered / "golden"], "holds the golden samples themselves"),
        (["--model", tmp_path / "gone.onnx"], "gone.onnx is not there"),
        (["--model", delivered / "golden" / "check.py"], "check.py does not run here"),
    ):
        code, said = check(delivered, *args)
        assert (code, words in said) == (2, True), said
        assert said.startswith("cannot be checked: ")


def told(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    place = folder / "golden" / "golden.json"
    document = json.loads(place.read_text())
    change(document)
    place.write_text(json.dumps(document))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no golden.json": lambda f: (f / "golden" / "golden.json").unlink(),
    "no JSON": lambda f: (f / "golden" / "golden.json").write_text("{"),
    "a golden file cut off": lambda f: (f / "golden" / "output-0.bin").write_bytes(b"1234"),
    "a golden file gone": lambda f: (f / "golden" / "output-1.bin").unlink(),
    "an input gone": lambda f: (f / "golden" / "input-0.bin").unlink(),
    "no limit": lambda f: told(f, lambda d: d["outputs"][0].pop("limit")),
    "an endless limit": lambda f: (f / "golden" / "golden.json").write_text(
        (f / "golden" / "golden.json").read_text().replace('"limit": 1e-05', '"limit": 1e999')
    ),
    "no outputs": lambda f: told(f, lambda d: d["outputs"].clear()),
    "a golden NaN": lambda f: np.full((COUNT, 8), np.nan, np.float32).tofile(f / "golden" / "output-0.bin"),
}


@BOTH
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_golden_samples_never_hold(
    check: Check, damage: str, delivered: Path, tmp_path: Path
) -> None:
    app = npy(tmp_path / "app", dict(samples().outputs))
    assert check(delivered, app)[0] == 0
    DAMAGE[damage](delivered)
    assert check(delivered, app)[0] in (1, 2)


@BOTH
def test_where_no_artefact_can_be_run_outputs_are_asked_for(check: Check, tmp_path: Path) -> None:
    put(tmp_path, samples(), artefact=None)
    code, said = check(tmp_path)
    assert (code, "golden.json names no artefact" in said) == (2, True)


# -- the model itself


def spoil(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    weight = next(each for each in model.graph.initializer if each.name == "w2")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(0.01), "w2"))
    onnx.save(model, folder / "model.onnx")


def test_python_runs_the_model_beside_it_and_a_changed_one_is_red(delivered: Path) -> None:
    code, said = python(delivered)
    assert (code, said.startswith("holds: 5 samples")) == (0, True)
    spoil(delivered)
    code, said = python(delivered)
    assert code == 1
    assert 'RED: output "hidden"' in said or 'RED: output "logits"' in said


def test_python_refuses_an_output_that_the_model_has_too_many(delivered: Path) -> None:
    told(delivered, lambda d: d["outputs"].pop())
    assert python(delivered) == (1, "RED: the outputs are hidden, logits, not hidden")


def test_without_the_runtime_python_says_what_to_do(delivered: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "onnxruntime.py").write_text("raise ImportError('No module named onnxruntime')")
    code, said = python(delivered, env={"PYTHONPATH": str(tmp_path / "none")})
    assert code == 2
    assert "No module named onnxruntime: install it, or name the outputs that your app gives" in said


def test_a_model_that_does_not_load_cannot_be_checked(delivered: Path) -> None:
    (delivered / "model.onnx").write_bytes(b"no model")
    code, said = python(delivered)
    assert (code, said.startswith("cannot be checked: the model does not run")) == (2, True)


CORE_ML = """
import numpy as np
from types import SimpleNamespace


class MLModel:
    def __init__(self, path):
        assert path.endswith("model.mlpackage"), path

    def predict(self, feeds):
        (x,) = feeds.values()
        assert [*feeds] == ["x_1"] and x.dtype == np.int32, feeds
        return {"var_9": {"b": float(x[0, 0]), "a": 0.25}, "count": x.astype(np.int32) * 2}


models = SimpleNamespace(MLModel=MLModel)
"""


@pytest.mark.parametrize(("classes", "code"), [(["a", "b"], 0), (["b", "a"], 1), (["a", "c"], 1)])
def test_core_ml_is_fed_and_read_in_its_own_names(tmp_path: Path, classes: list[str], code: int) -> None:
    """On a Mac it is coremltools that answers; here a module of that name does, and only that is put in its place."""
    x = np.array([[7]], np.int64)
    outputs = {"scores": np.array([[0.25, 7]], np.float32), "count": x * 2}
    ports = {
        "x": {"core_name": "x_1", "core_dtype": "int32"},
        "scores": {"core_name": "var_9", "classes": classes},
        "count": {"core_name": "count"},
    }
    given = Golden({"x": x}, outputs, {name: Limit(0.0, "") for name in outputs}, ports)
    golden.write(tmp_path / "golden", given, {"artefact": "model.mlpackage"})
    (tmp_path / "model.mlpackage").mkdir()
    (tmp_path / "mac").mkdir()
    (tmp_path / "mac" / "coremltools.py").write_text(CORE_ML)
    found, said = python(tmp_path, env={"PYTHONPATH": str(tmp_path / "mac")})
    assert found == code, said


@needs_node
def test_node_runs_the_model_where_a_runtime_can_be_imported(delivered: Path, tmp_path: Path) -> None:
    """The runtime is a package of the app: here one that answers as onnxruntime-node would."""
    code, said = node(delivered, cwd=tmp_path)
    assert (code, "neither onnxruntime-node nor onnxruntime-web can be imported" in said) == (2, True)
    package = tmp_path / "node_modules" / "onnxruntime-node"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "onnxruntime-node", "main": "index.js"}')
    rows = json.loads((delivered / "golden" / "golden.json").read_text())["outputs"]
    answer = {
        r["name"]: [np.fromfile(delivered / "golden" / r["file"], "<f4").tolist(), r["shape"]] for r in rows
    }
    script = """
exports.Tensor = class { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } };
const answer = ANSWER;
exports.InferenceSession = { create: async (bytes) => ({ run: async (feeds) => {
  if (!bytes.length || feeds.x.type !== "float32" || `${feeds.x.dims}` !== "5,6") throw new Error("not so fed");
  return Object.fromEntries(Object.entries(answer).map(([name, [values, dims]]) =>
    [name, new exports.Tensor("float32", Float32Array.from(values), dims)]));
} }) };
"""
    (package / "index.js").write_text(script.replace("ANSWER", json.dumps(answer)))
    code, said = node(delivered, cwd=tmp_path)
    assert (code, said.startswith("holds: 5 samples")) == (0, True), said
    answer["logits"][0][4] += 1
    (package / "index.js").write_text(script.replace("ANSWER", json.dumps(answer)))
    code, said = node(delivered, cwd=tmp_path)
    assert code == 1
    assert "RED: logits[4]" in said
    assert "(sample 1, off by 1" in said


# -- outputs with lengths


@BOTH
def test_past_the_length_of_a_sample_nothing_is_compared(check: Check, tmp_path: Path) -> None:
    y = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    outputs = {"y": y, "n": np.array([2, 4], np.int64)}
    ports = {"y": {"lengths": "n"}}
    given = Golden({"x": y[:, :1, 0]}, outputs, {"y": Limit(0.0, ""), "n": Limit(0.0, "")}, ports)
    put(tmp_path, given)
    for place, code in (((0, 2, 0), 0), ((0, 3, 2), 0), ((0, 1, 2), 1), ((1, 3, 2), 1)):
        off = y.copy()
        off[place] = np.nan
        found, said = check(tmp_path, npy(tmp_path / "app", {**outputs, "y": off}))
        assert found == code, said
    other = {**outputs, "n": np.array([1, 4], np.int64)}
    assert check(tmp_path, npy(tmp_path / "app", other))[0] == 1


def test_what_travels_is_in_the_key_of_what_carries_it() -> None:
    assert {Path(path).name for path in golden.checkers().values()} == {
        "check.py",
        "check.mjs",
        "compare.mjs",
    }
    assert all(Path(path).is_file() for path in golden.checkers().values())
