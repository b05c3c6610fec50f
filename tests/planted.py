"""Faults planted inside an artefact, as a converter might make them, and the pipeline that meets them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from nets import NETS, targets
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from runtime_conformance import installed

from modelbuild import dataset, environments
from modelbuild.dataset import DataSet
from modelbuild.recipes import export, localise, noise, platform, reference, rounded, source, verdicts
from modelbuild.runtimes import base
from modelbuild.zoo import digits as digits_data

EXPORT = {"opset": 18, "dynamic": {"batch": [1, 64]}}
GATE = {"tolerance": "auto", "decision_flips": 0}
Fault = Callable[[ModelProto, str], None]

OTHER_OPERATORS = {"Relu": "LeakyRelu", "Sigmoid": "HardSigmoid", "Neg": "Abs", "Sqrt": "Abs"}

# -- in ONNX: each takes a model and the name of a node, and spoils that node


def _node(model: ModelProto, name: str) -> NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def _weights(model: ModelProto, name: str, change: Callable[[Any], Any]) -> str:
    (tensor,) = (each for each in model.graph.initializer if each.name == name)
    changed = np.ascontiguousarray(change(numpy_helper.to_array(tensor).copy()))
    own = f"{name} (planted)"  # others may read it too
    model.graph.initializer.append(numpy_helper.from_array(changed, own))
    return own


def _replace_input(model: ModelProto, name: str, position: int, change: Callable[[Any], Any]) -> None:
    node = _node(model, name)
    node.input[position] = _weights(model, node.input[position], change)


def scaled_weight(model: ModelProto, name: str) -> None:
    _replace_input(model, name, 1, lambda w: w * np.float32(1.02))


def swapped_channels(model: ModelProto, name: str) -> None:
    _replace_input(model, name, 1, lambda w: w[[1, 0, *range(2, len(w))]])


def changed_bias(model: ModelProto, name: str) -> None:
    _replace_input(model, name, 2, lambda b: b + np.float32(0.05))


def dropped_bias(model: ModelProto, name: str) -> None:
    del _node(model, name).input[2]


def wrong_attribute(model: ModelProto, name: str) -> None:
    """Pads moved by one: the shape stays."""
    (pads,) = (each.ints for each in _node(model, name).attribute if each.name == "pads")
    half = len(pads) // 2
    pads[0], pads[half] = pads[0] + 1, pads[half] - 1


def replaced_operator(model: ModelProto, name: str) -> None:
    node = _node(model, name)
    other = {
        "Relu": "LeakyRelu",
        "Sigmoid": "HardSigmoid",
        "Neg": "Abs",
        "Sqrt": "Abs",
        "MaxPool": "AveragePool",
    }
    node.op_type = other[node.op_type]
    kept = [each for each in node.attribute if each.name not in ("storage_order", "dilations")]
    del node.attribute[:]
    node.attribute.extend(kept)
    if node.op_type == "LeakyRelu":
        node.attribute.append(helper.make_attribute("alpha", 0.05))


def half_precision(model: ModelProto, name: str) -> None:
    """What the node gives goes through float16 on its way: a pair of casts called `NAME (down)` and `NAME (up)`."""
    node = _node(model, name)
    value, raw, half = node.output[0], f"{node.output[0]} (raw)", f"{node.output[0]} (half)"
    node.output[0] = raw
    at = list(model.graph.node).index(node) + 1
    casts = [
        helper.make_node("Cast", [raw], [half], name=f"{name} (down)", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [value], name=f"{name} (up)", to=TensorProto.FLOAT),
    ]
    for offset, cast in enumerate(casts):
        model.graph.node.insert(at + offset, cast)


ONNX_FAULTS: Mapping[str, Fault] = {
    each.__name__: each
    for each in (
        scaled_weight,
        swapped_channels,
        changed_bias,
        dropped_bias,
        wrong_attribute,
        replaced_operator,
        half_precision,
    )
}


def in_onnx(fault: Fault, name: str) -> Callable[[Path], None]:
    """Spoil the model.onnx in a folder."""

    def plant(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        fault(model, name)
        onnx.checker.check_model(model)
        onnx.save(model, folder / "model.onnx")

    return plant


# -- in Core ML


def in_core_ml(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """Change the operations of the program in a folder."""

    def plant(folder: Path) -> None:
        from coremltools.proto import Model_pb2

        path = folder / "model.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
        spec = Model_pb2.Model()
        spec.ParseFromString(path.read_bytes())
        (function,) = spec.mlProgram.functions.values()
        (block,) = function.block_specializations.values()
        change(Program(block.operations, folder / "model.mlpackage"))
        path.write_bytes(spec.SerializeToString(deterministic=True))

    return plant


@dataclass
class Program:
    """The operations of an ML Program, found by the name of what they give."""

    operations: Any
    package: Path

    def giving(self, value: str) -> Any:
        return next(each for each in self.operations if each.outputs[0].name == value)

    def argument(self, value: str, name: str) -> Any:
        """The constant that the operation giving `value` takes as `name`."""
        return self.giving(self.giving(value).inputs[name].arguments[0].name)

    def array(self, constant: Any) -> Any:
        from modelbuild.runtimes.coreml.evaluator import mlpackage
        from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator

        name = constant.outputs[0].name
        evaluator = Evaluator(mlpackage.read(self.package), watch=(name,))
        evaluator({"image": np.zeros((1, 1, 8, 8), np.float32)})
        return np.asarray(evaluator.watched[name])

    def rewrite(self, constant: Any, array: Any) -> None:
        literal = constant.attributes["val"]
        assert str(array.dtype) == "float16"
        literal.immediateValue.tensor.bytes.values = np.ascontiguousarray(array).tobytes()


def core_ml_scaled(value: str) -> Callable[[Any], None]:
    def change(program: Program) -> None:
        weight = program.argument(value, "weight")
        program.rewrite(weight, (program.array(weight) * 1.1).astype(np.float16))

    return change


def core_ml_swapped(value: str) -> Callable[[Any], None]:
    def change(program: Program) -> None:
        weight = program.argument(value, "weight")
        array = program.array(weight)
        program.rewrite(weight, array[[1, 0, *range(2, len(array))]])

    return change


def core_ml_dropped_bias(value: str) -> Callable[[Any], None]:
    def change(program: Program) -> None:
        del program.giving(value).inputs["bias"]

    return change


def core_ml_pads(value: str) -> Callable[[Any], None]:
    def change(program: Program) -> None:
        ints = program.argument(value, "pad").attributes["val"].immediateValue.tensor.ints.values
        ints[0], ints[1] = ints[0] + 1, ints[1] - 1

    return change


def core_ml_replaced(value: str) -> Callable[[Any], None]:
    def change(program: Program) -> None:
        program.giving(value).type = {"relu": "softplus"}[program.giving(value).type]

    return change


# -- the pipeline


@dataclass
class Made:
    """A model as far as its canonical file, its reference and its noise; `params` describe its network."""

    root: Path
    inputs: dict[str, Path]
    params: dict[str, Any]
    rounds: dict[str, Path] = field(default_factory=dict)

    def rounded(self, arithmetic: str) -> Path:
        if arithmetic not in self.rounds:
            folder = _fresh(self.root / arithmetic)
            roles = {role: self.inputs[role] for role in ("student", "evaluation")}
            rounded.outputs(roles, {**self.params, "rounds": arithmetic}, folder)
            self.rounds[arithmetic] = folder
        return self.rounds[arithmetic]


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def digits(root: Path, samples: int = 48) -> Made:
    """A seeded ConvNet on images of handwritten digits."""
    arrays = digits_data.load("test")
    module = NETS["convnet"].module()
    params = {"export": EXPORT}
    inputs = targets(root, module, {"image": arrays["image"][:samples]})
    labels = arrays["label"][:samples]
    dataset.write(inputs["evaluation"], DataSet({"image": arrays["image"][:samples]}, {"label": labels}))
    inputs |= {role: _fresh(root / role) for role in ("onnx", "reference", "noise")}
    export.export(inputs, params, inputs["onnx"])
    reference.torch_outputs(inputs, params, inputs["reference"])
    return Made(root, inputs, params)


def third_party(root: Path, file: Path, data: Mapping[str, Any]) -> Made:
    """A finished ONNX file as the canonical one."""
    inputs = {role: _fresh(root / role) for role in ("onnx", "evaluation", "reference", "noise")}
    dataset.write(inputs["evaluation"], DataSet(dict(data), {}))
    source.onnx({"model": file}, {"export": {}}, inputs["onnx"])
    reference.onnx_outputs(inputs, {}, inputs["reference"])
    return Made(root, inputs, {})


def found(
    made: Made,
    folder: Path,
    runtime: str,
    options: Mapping[str, Any],
    plant: Callable[[Path], None] | None = None,
    before: Callable[[Path], None] | None = None,
    ways: tuple[str, ...] = ("",),
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """verdicts.json and the findings of an artefact that `plant` spoilt, or made from a file that `before` spoilt."""
    artifact = _fresh(folder / "artifact")
    _convert(made, folder, artifact, runtime, options, before)
    if plant is not None:
        plant(artifact)
    each = base.find(runtime)
    chosen = {"p" + (f".{way}" if way else ""): each.runs(options)[way] for way in ways}
    runs = {run: _run(made, folder, artifact, runtime, run, way) for run, way in chosen.items()}
    rounds = {
        run: way.rounds for run, way in chosen.items() if way.rounds is not None and "student" in made.inputs
    }
    roles = {**made.inputs, **{f"run.{run}": path for run, path in runs.items()}}
    roles |= {f"rounded.{each}": made.rounded(each) for each in rounds.values()}
    noise.measure(roles, {}, made.inputs["noise"])
    told = {"p": {"runtime": runtime, "required": True, "unavailable": None}}
    params = {"gate": GATE, "model": "m", "platforms": told, "rounds": rounds}
    verdicts.runtime(roles, params, _fresh(folder / "verdict"))
    roles |= {"verdict": folder / "verdict", "artifact.p": artifact}
    for run, way in chosen.items():
        if way.environment is not None:
            roles[f"environment.{run}"] = _locked(way.environment, folder / f"environment.{run}")
    described = {
        run: {
            "runtime": runtime,
            "options": dict(way.options),
            "rounds": rounds.get(run),
            "gate": GATE,
            "place": "gates/runtime",
        }
        for run, way in chosen.items()
    }
    localise.localise(roles, {**made.params, "runs": described}, _fresh(folder / "repro"))
    judged = json.loads((folder / "verdict" / "verdicts.json").read_text())
    return judged, json.loads((folder / "repro" / "findings.json").read_text())["findings"]


def _convert(
    made: Made,
    folder: Path,
    artifact: Path,
    runtime: str,
    options: Mapping[str, Any],
    before: Callable[[Path], None] | None,
) -> None:
    conversion = base.find(runtime).conversion(options)
    roles = dict(made.inputs)
    if before is not None:
        shutil.copytree(made.inputs["onnx"], folder / "spoilt")
        before(folder / "spoilt")
        roles["onnx"] = folder / "spoilt"
    params = {"runtime": runtime, "options": dict(conversion.options), **made.params}
    params |= installed(conversion.environment)
    base.find(runtime).convert({role: roles[role] for role in conversion.needs}, artifact, params)


def _run(made: Made, folder: Path, artifact: Path, runtime: str, run: str, way: base.Way) -> Path:
    roles = {"artifact": artifact, "evaluation": made.inputs["evaluation"]}
    if way.environment is not None:
        roles["environment"] = _locked(way.environment, folder / f"environment.{run}.run")
    out = _fresh(folder / f"run.{run}")
    platform.run(roles, {"runtime": runtime, "options": dict(way.options)}, out)
    return out


def _locked(environment: base.Environment, folder: Path) -> Path:
    if not folder.exists():
        lock = {role: Path(path) for role, path in environment.lock.items()}
        environments.lock(environment.kind, environment.pins, lock, _fresh(folder))
    return folder
