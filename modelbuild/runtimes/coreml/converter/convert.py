"""Makes the package that ships, and what is needed to check it: model.mlpackage; io, modules and identity.json."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelbuild import dataset, network
from modelbuild.callables import in_words
from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.quiet import quietly
from modelbuild.runtimes.coreml.converter import compress, identity, layout, trace
from modelbuild.runtimes.coreml.converter.decompose import translated
from modelbuild.runtimes.coreml.converter.modules import module_of, module_paths
from modelbuild.runtimes.coreml.converter.trace import Traced
from modelbuild.runtimes.coreml.converter.write import write
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.options import NAME, Options, parse
from modelbuild.runtimes.coreml.ports import PACKAGE, Axis, Input, Output, Ports

MODULES = "modules.json"
LACKING = "Unsupported fx node"  # how coremltools says that it cannot translate an operation


def convert(model: Mapping[str, Path], out: Path, params: Mapping[str, Any]) -> None:
    """Write the artefact of the student in `model["student"]`, shaped after the data in `model["evaluation"]`.

    `model["onnx"]` is read for the names of values alone, and may be missing.

    Raises RecipeError when the module, an input or an option cannot be expressed in Core ML.
    """
    options, data = parse(params.get("options", {})), dataset.read(model["evaluation"]).inputs
    inputs = layout.inputs(data, options, params.get("export", {}))
    with deterministic():
        module = network.restore(model["student"])
        example = trace.examples(inputs, data)
        with torch.no_grad():
            found = network.run(module, example)
            for extreme in trace.extremes(inputs, data):
                network.run(module, extreme)
        outputs = layout.outputs(found, options, dict(zip(data, example, strict=True)))
        traced, package = _converted(module, inputs, outputs, example, options)
        paths = module_paths(package, _named(traced, outputs))
        same = identity.identities(
            _uncompressed(package), traced, inputs, outputs, example, model.get("onnx")
        )
        package = compress.compressed(package, options.compression)
    spec = _described(package.get_spec(), options)
    ports = Ports(inputs, _settled(spec, outputs), traced.frontend, options.compute_units)
    _check_names(spec, ports)
    write(spec, Path(package.weights_dir) if package.weights_dir else None, out / PACKAGE)
    ports.write(out)
    identity.write(out, same)
    (out / MODULES).write_text(json.dumps(paths, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _uncompressed(package: Any) -> Package:
    """The coremltools MLModel as the evaluator takes it, weights where coremltools keeps them."""
    weights = Path(package.weights_dir) if package.weights_dir else Path()
    return Package(weights.parent, package.get_spec(), weights.parent)


def _converted(
    module: nn.Module,
    inputs: Sequence[Input],
    outputs: Sequence[Output],
    example: tuple[torch.Tensor, ...],
    options: Options,
) -> tuple[Traced, Any]:
    """The module as a coremltools MLModel: from torch.export, or where it lacks an operation, from a trace."""
    lacking = _untranslated_layers(module)
    if not lacking:
        with quietly():
            traced = trace.exported(module, inputs, example)
        try:
            return _translated(traced, inputs, outputs, options)
        except RecipeError as error:
            if LACKING not in error.fact:
                raise
            lacking = error.fact
    print(f"{trace.EXPORT}: {lacking}; converting from {trace.TRACE} instead")
    with quietly():
        traced = trace.traced(module, example)
    return _translated(traced, inputs, outputs, options)


def _untranslated_layers(module: nn.Module) -> str:
    """In words, recurrent layers that would be exported, step by step, only to be refused by coremltools."""
    with quietly():
        modes = {each.mode.lower() for each in module.modules() if isinstance(each, nn.RNNBase)}
        lacking = sorted(mode for mode in modes if not translated(f"aten::{mode}.input"))
    return f"coremltools has no translation of {' and '.join(lacking)}" if lacking else ""


def _named(traced: Traced, outputs: Sequence[Output]) -> dict[str, str]:
    """Value name -> module path; coremltools gives what comes out the name of the output."""
    found = dict(traced.modules)
    for result, port in zip(traced.results, outputs, strict=False):
        if result in traced.modules:
            found[port.core_name] = traced.modules[result]
    return found


def _translated(
    traced: Traced, inputs: Sequence[Input], outputs: Sequence[Output], options: Options
) -> tuple[Traced, Any]:
    with quietly():
        import coremltools as ct

        precision = _Precision(options.keep_float32, traced.modules)
        try:
            made = ct.convert(
                traced.program,
                convert_to="mlprogram",
                inputs=_input_types(inputs),
                outputs=[_output_type(port) for port in outputs],
                classifier_config=_classifier(outputs),
                compute_precision=precision.setting(options.precision),
                minimum_deployment_target=getattr(ct.target, options.deployment_target),
                skip_model_load=True,
            )
        except Exception as error:
            _let_go(error)
            fact = f"coremltools does not convert the module: {in_words(error).rstrip('.')}"
            raise RecipeError(NAME, fact, "Write that part of the module in other operations.") from error
    precision.refuse_unused()
    return replace(traced, called=precision.called), made


def _let_go(error: BaseException | None) -> None:
    """Empty the frames of `error`: they hold a temporary folder of coremltools' that complains when it is dropped."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class _Precision:
    """The choice of operations that stay in float32, and which of those asked for there are."""

    def __init__(self, keep: Sequence[str], modules: Mapping[str, str]) -> None:
        self._keep, self._modules = frozenset(keep), modules
        self._seen, self._found = set[str](), set[str]()
        self.called: dict[str, str] = {}

    def setting(self, precision: str) -> Any:
        import coremltools as ct

        if precision == "float32":
            return ct.precision.FLOAT32
        return ct.transform.FP16ComputePrecision(op_selector=self._halves)

    def _halves(self, operation: Any) -> bool:
        path = module_of(operation, self._modules) or ""
        parts = path.split(".") if path else []
        above = {".".join(parts[: n + 1]) for n in range(len(parts))}
        if operation.op_type != "const":
            self._seen |= {operation.op_type, *above}
        kept = {operation.op_type, operation.name, *above} & self._keep
        self._found |= kept
        if not kept and operation.op_type != "const" and len(operation.outputs) == 1:
            self.called[operation.name] = operation.outputs[0].name
        return not kept

    def refuse_unused(self) -> None:
        """Raises RecipeError for what is to stay in float32 and is not in the program."""
        for name in sorted(self._keep - self._found):
            fact = f'"keep_float32" names "{name}", and the program has no operation of that type, name or module'
            raise RecipeError(NAME, fact, did_you_mean(name, sorted(self._seen)))


def _input_types(inputs: Sequence[Input]) -> list[Any]:
    import coremltools as ct
    import numpy as np

    spans: dict[tuple[int, Axis], Any] = {}  # axes of one number and range are one length, in all inputs

    def size(number: int, axis: Axis) -> Any:
        if isinstance(axis, int):
            return axis
        if (number, axis) not in spans:
            spans[number, axis] = ct.RangeDim(axis[0], axis[1], default=axis[0])
        return spans[number, axis]

    return [
        ct.TensorType(
            name=port.core_name,
            dtype=np.dtype(port.core_dtype).type,
            shape=ct.EnumeratedShapes([list(shape) for shape in port.enumerated])
            if port.enumerated
            else tuple(size(number, axis) for number, axis in enumerate(port.axes)),
        )
        for port in inputs
    ]


def _output_type(port: Output) -> Any:
    import coremltools as ct
    import numpy as np

    return ct.TensorType(name=port.core_name, dtype=np.float32 if port.dtype.startswith("float") else None)


def _classifier(outputs: Sequence[Output]) -> Any:
    import coremltools as ct

    for port in outputs:
        if port.classes:
            return ct.ClassifierConfig([*port.classes], predicted_probabilities_output=port.core_name)
    return None


def _described(spec: Any, options: Options) -> Any:
    about, said = spec.description.metadata, options.metadata
    about.author, about.license = said.get("author", ""), said.get("license", "")
    about.versionString, about.shortDescription = said.get("version", ""), said.get("description", "")
    return spec


def _settled(spec: Any, outputs: Sequence[Output]) -> tuple[Output, ...]:
    """`outputs`, that with classes under the name that coremltools gave its dictionary."""
    name = spec.description.predictedProbabilitiesName
    return tuple(replace(port, core_name=name) if port.classes else port for port in outputs)


def _check_names(spec: Any, ports: Ports) -> None:
    """Raises RecipeError where the package's ports are not those that were asked for."""
    extra = spec.description.predictedFeatureName
    for kind, found, asked in (
        ("inputs", spec.description.input, ports.inputs),
        ("outputs", spec.description.output, ports.outputs),
    ):
        have = sorted({port.name for port in found} - {extra})
        want = sorted(port.core_name for port in asked)
        if have != want:
            fact = f"the package has the {kind} {', '.join(have)} where {', '.join(want)} was asked for"
            raise RecipeError(NAME, fact, 'Give them other names with "names"')
