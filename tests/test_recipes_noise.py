"""The noise of a model, measured on real files: what counts, what does not, and what is said of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from nets import NETS, params, targets
from onnx import TensorProto, helper, numpy_helper

from modelbuild import dataset, tensors
from modelbuild.equivalence import noise as noises
from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.equivalence.metrics import METRICS, sums
from modelbuild.equivalence.noise import FP64, NUDGED, OPTIMISATION, THREADS, Noise, Spread
from modelbuild.equivalence.tolerance import tolerance
from modelbuild.recipes import export, noise, reference, rounded
from modelbuild.runtimes.onnxruntime import worker

torch.set_num_threads(1)
AUTO = RuntimeDemand()


class Made:
    """The targets that the noise of one of `NETS` is measured from, in folders."""

    def __init__(self, root: Path, name: str = "convnet", arithmetics: tuple[str, ...] = ()) -> None:
        net = NETS[name]
        self.root, self.module = root, net.module()
        self.inputs = targets(root, self.module, net.inputs(70))
        asked = params()
        for role in ("reference", "onnx", "noise", *arithmetics):
            (root / role).mkdir()
        reference.torch_outputs(self.inputs, asked, root / "reference")
        export.export(self.inputs, asked, root / "onnx")
        for each in arithmetics:
            rounded.outputs(self.inputs, {**asked, "rounds": each}, root / each)
            self.inputs[f"rounded.{each}"] = root / each
        self.inputs |= {"reference": root / "reference", "onnx": root / "onnx"}

    def measured(self) -> Noise:
        noise.measure(self.inputs, {}, self.root / "noise")
        return noises.read(self.root / "noise" / noises.FILE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"), arithmetics=("float16",))


def outputs(folder: Path, file: str = reference.OUTPUTS) -> Any:
    return tensors.load(folder / file)["logits"]


def run(made: Made, level: str, threads: int) -> Any:
    data = dataset.read(made.inputs["evaluation"]).inputs
    return worker.Session(str(made.root / "onnx" / "model.onnx"), level, threads).run(data)[0]


def spread(one: Any, other: Any) -> Any:
    s = sums(one, other)
    return pytest.approx((METRICS["max_abs"](s), METRICS["rmse"](s)), rel=1e-6)


def test_every_source_is_what_it_says(made: Made) -> None:
    found, truth, folder = (
        made.measured().of("logits"),
        outputs(made.root / "reference"),
        made.root / "reference",
    )
    assert set(found.sources) == {FP64, NUDGED, OPTIMISATION, THREADS} and not found.uncounted
    told = {kind: (each.max_abs, each.rmse) for kind, each in found.sources.items()}
    assert told[FP64] == spread(outputs(folder, reference.WIDE), truth)
    apart = [sums(outputs(folder, file), truth) for file in reference.NUDGED.values()]
    assert told[NUDGED] == pytest.approx(
        tuple(max(METRICS[m](s) for s in apart) for m in ("max_abs", "rmse"))
    )
    assert told[OPTIMISATION] == spread(run(made, "disabled", 1), run(made, "all", 1))
    assert told[OPTIMISATION][0] > 0
    assert told[THREADS] == spread(run(made, "all", 1), run(made, "all", 2))
    assert set(found.rounded) == {"float16"} and found.rounded["float16"].max_abs > 100 * told[FP64][0]
    assert (found.dtype, found.samples, found.values) == ("float32", *truth.shape[:1], truth.size)


class Broken(worker.Session):
    """An ONNX Runtime whose optimiser scales what the model gives."""

    def __init__(self, model: str, optimisation: str = "all", threads: int = 1) -> None:
        super().__init__(model, optimisation, threads)
        self.factor = np.float32(1.0 if optimisation == "disabled" else 1.001)

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        return [value * self.factor for value in super().run(feed)]


def test_a_broken_optimiser_does_not_widen_the_limit_that_catches_it(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = made.measured().of("logits")
    monkeypatch.setattr(worker, "Session", Broken)
    found = made.measured().of("logits")
    assert "rounding explains" in found.uncounted[OPTIMISATION]
    limit = tolerance("logits", found, AUTO).limits["max_abs"]
    assert limit <= tolerance("logits", honest, AUTO).limits["max_abs"]
    truth = outputs(made.root / "reference")
    assert METRICS["max_abs"](sums(truth, truth * np.float32(1.001))) > limit


class Reshaping(worker.Session):
    """An ONNX Runtime whose optimiser drops an axis, on the first call of two."""

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        found = super().run(feed)
        return [value[:, 0] if self.level == "all" and len(value) == 64 else value for value in found]

    def __init__(self, model: str, optimisation: str = "all", threads: int = 1) -> None:
        super().__init__(model, optimisation, threads)
        self.level = optimisation


def test_an_optimiser_that_changes_the_shape_does_not_count(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "Session", Reshaping)
    assert "inf" in made.measured().of("logits").uncounted[OPTIMISATION]


@pytest.mark.parametrize("fault", ["not loaded", "not run"])
def test_what_the_runtime_cannot_do_is_said(made: Made, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    class Refusing(worker.Session):
        def __init__(self, model: str, optimisation: str = "all", threads: int = 1) -> None:
            if fault == "not loaded" and optimisation == "all":
                raise RuntimeError("no fusion of that kind")
            super().__init__(model, optimisation, threads)

        def run(self, feed: Mapping[str, Any]) -> list[Any]:
            raise RuntimeError("no kernel")

    monkeypatch.setattr(worker, "Session", Refusing)
    found = made.measured().of("logits")
    assert set(found.sources) == {FP64, NUDGED} and set(found.uncounted) == {OPTIMISATION, THREADS}
    words = (
        "does not load the model, optimisations all: .*no fusion"
        if fault == "not loaded"
        else "does not run the model: .*no kernel"
    )
    assert all(re.search(words, each) for each in found.uncounted.values())


def test_a_model_without_a_float64_form_says_so(tmp_path: Path) -> None:
    """A quantised model: ONNX Runtime runs it, and nobody has it in float64."""
    for role in ("onnx", "reference", "noise", "evaluation"):
        (tmp_path / role).mkdir()
    onnx.save(quantised_model(), tmp_path / "onnx" / "model.onnx")
    x = np.random.default_rng(0).standard_normal((8, 4), dtype=np.float32)  # the last call is filled up
    dataset.write(tmp_path / "evaluation", dataset.DataSet({"x": x}, {}))
    inputs = {role: tmp_path / role for role in ("onnx", "evaluation")}
    reference.onnx_outputs(inputs, {}, tmp_path / "reference")
    noise.measure({**inputs, "reference": tmp_path / "reference"}, {}, tmp_path / "noise")
    found = noises.read(tmp_path / "noise" / noises.FILE).of("y")
    reason = json.loads((tmp_path / "reference" / reference.FILE).read_text())["reason"]
    assert reason and found.uncounted[FP64] == reason
    assert set(found.sources) == {NUDGED, OPTIMISATION, THREADS}


def quantised_model() -> onnx.ModelProto:
    """x quantised, [3 samples, 4], and back."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32), "w")
    ]
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2])]
    graph = helper.make_graph(nodes, "g", ports, results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def ragged_model() -> onnx.ModelProto:
    """x [n, 4] by weights where its sample, `length` [n], has not ended, and no number past that."""
    nodes = [
        helper.make_node("Unsqueeze", ["length", "one"], ["end"]),
        helper.make_node("Less", ["positions", "end"], ["inside"]),
        helper.make_node("MatMul", ["x", "w"], ["all"]),
        helper.make_node("Where", ["inside", "all", "nothing"], ["y"]),
        helper.make_node("Identity", ["length"], ["ends"]),
    ]
    rng = np.random.default_rng(1)
    constants = {
        "one": np.array([1]),
        "positions": np.arange(4),
        "w": rng.standard_normal((4, 4)).astype(np.float32),
        "nothing": np.float32("nan"),
    }
    real, whole = TensorProto.FLOAT, TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", real, ["n", 4]),
            helper.make_tensor_value_info("length", whole, ["n"]),
        ],
        [
            helper.make_tensor_value_info("y", real, ["n", 4]),
            helper.make_tensor_value_info("ends", whole, ["n"]),
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_past_a_samples_length_a_model_may_give_what_it_likes(tmp_path: Path) -> None:
    for role in ("onnx", "reference", "noise", "evaluation"):
        (tmp_path / role).mkdir()
    onnx.save(ragged_model(), tmp_path / "onnx" / "model.onnx")
    data = {
        "x": np.random.default_rng(0).standard_normal((70, 4), dtype=np.float32),
        "length": np.arange(70) % 4 + 1,
    }
    dataset.write(tmp_path / "evaluation", dataset.DataSet(data, {}))
    inputs = {role: tmp_path / role for role in ("onnx", "evaluation", "reference")}
    reference.onnx_outputs(inputs, {}, tmp_path / "reference")
    found = {}
    for said in ({}, {"outputs": {"y": {"lengths": "ends"}}}):
        noise.measure(inputs, said, tmp_path / "noise")
        found[bool(said)] = noises.read(tmp_path / "noise" / noises.FILE)
    assert set(found[False].outputs) == {"ends"} and set(found[True].outputs) == {"ends", "y"}
    y = found[True].of("y")
    assert set(y.sources) == {FP64, NUDGED, OPTIMISATION, THREADS} and not y.uncounted
    assert y.values == 280 and 0 < y.sources[FP64].rmse < y.sources[FP64].max_abs < 1e-5


def test_honest_runs_hold_and_a_planted_change_does_not(made: Made) -> None:
    found, truth = made.measured().of("logits"), outputs(made.root / "reference")
    limits = tolerance("logits", found, AUTO).limits
    for level in ("disabled", "basic", "extended", "all"):
        s = sums(truth, run(made, level, 2))
        assert all(METRICS[metric](s) <= limit for metric, limit in limits.items())
    s = sums(truth, truth * np.float32(1 + 1e-4))
    assert all(METRICS[metric](s) > limit for metric, limit in limits.items())


def test_the_same_is_written_every_time(made: Made) -> None:
    first = made.measured()
    text = (made.root / "noise" / noises.FILE).read_bytes()
    assert made.measured() == first and (made.root / "noise" / noises.FILE).read_bytes() == text
    assert isinstance(first.of("logits").sources[FP64], Spread)
