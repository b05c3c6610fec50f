"""The student as one canonical ONNX file, from which every platform's artefact is made."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from onnx import ModelProto
from torch import Tensor, nn

from modelbuild import dataset, network
from modelbuild.callables import in_words
from modelbuild.dataset import DataSet
from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError
from modelbuild.quiet import quietly
from modelbuild.recipes import canonical, identity, opset, signature
from modelbuild.recipes.identity import Names
from modelbuild.recipes.signature import BATCH

OPSET = 18


@dataclass(frozen=True, slots=True)
class Settings:
    """The "export" part of a manifest: the opset, and the smallest and largest number of samples a call.

    A batch of equal bounds, or none at all (then 1), fixes the first axis.
    """

    opset: int
    smallest: int
    largest: int

    @classmethod
    def of(cls, export: Mapping[str, Any], place: str) -> Settings:
        """Read `export`; RecipeError for an axis other than "batch" and for bounds that are none."""
        dynamic = export.get("dynamic", {})
        other = [axis for axis in dynamic if axis != BATCH]
        if other:
            fact = f'export.dynamic names "{other[0]}"'
            raise RecipeError(place, fact, f'Only the axis "{BATCH}" can be dynamic.')
        smallest, largest = dynamic.get(BATCH, (1, 1))
        if not 1 <= smallest <= largest:
            raise RecipeError(place, f"export.dynamic.{BATCH} goes from {smallest} to {largest}")
        return cls(export.get("opset", OPSET), smallest, largest)

    @property
    def fixed(self) -> bool:
        return self.smallest == self.largest

    @property
    def example(self) -> int:
        """The batch to trace with: torch takes an axis of length 1 for one that is always 1."""
        return self.smallest if self.fixed else max(2, self.smallest)


class Exported(NamedTuple):
    """A canonical ONNX model, where its values come from, and the ExportedProgram that it is a translation of."""

    model: ModelProto
    names: Names
    program: Any


def export(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write model.onnx, model.json and names.json.

    Inputs are named as in the data set, outputs as in `network.named`. Raises RecipeError when the module
    cannot be exported, fixes the batch axis where an open one was asked for, or does not exist in that opset.
    """
    place = network.described(inputs["student"])["module"]
    settings, data = Settings.of(params["export"], place), dataset.read(inputs["evaluation"])
    with deterministic():
        module = network.restore(inputs["student"])
        made = exported(module, data, settings, place)
    write(out_dir, made.model, made.names)


def write(out_dir: Path, model: ModelProto, names: Names) -> None:
    """Write model.onnx, model.json (see `signature`) and names.json (see `identity`)."""
    canonical.write(out_dir / "model.onnx", model)
    dataset.write_json(out_dir / "model.json", signature.describe(model))
    identity.write(out_dir, names)


def to_onnx(module: nn.Module, data: DataSet, settings: Settings, place: str) -> ModelProto:
    """`module`, in evaluation mode, as a canonical ONNX model; `data` names and shapes the inputs."""
    return exported(module, data, settings, place).model


def exported(module: nn.Module, data: DataSet, settings: Settings, place: str) -> Exported:
    """`to_onnx`, with what is needed to follow a value from PyTorch into the file."""
    examples = _examples(data, settings.example)
    with torch.no_grad():
        names = list(network.run(module, examples))
    _check_distinct(list(data.inputs), names, place)
    program = _traced(module, examples, (list(data.inputs), names), settings, place)
    raw = program.model_proto
    _check_names(raw, (list(data.inputs), names), place)
    if not settings.fixed:
        _check_batch(raw, place)
    model = canonical.canonical(opset.at(raw, settings.opset, place), place)
    return Exported(model, identity.named(raw, program.exported_program).of(model), program.exported_program)


def _examples(data: DataSet, count: int) -> tuple[Tensor, ...]:
    rows = torch.arange(count) % data.samples
    return tuple(torch.tensor(array)[rows] for array in data.inputs.values())


def _check_distinct(inputs: list[str], outputs: list[str], place: str) -> None:
    both = [name for name in outputs if name in inputs]
    if both:
        fact = f'"{both[0]}" names both an input and an output, which ONNX does not allow'
        raise RecipeError(place, fact, "Rename the output.")


def _traced(
    module: nn.Module,
    examples: Sequence[Tensor],
    names: tuple[list[str], list[str]],
    settings: Settings,
    place: str,
) -> Any:
    axis = None if settings.fixed else torch.export.Dim(BATCH, min=settings.smallest, max=settings.largest)
    try:
        with quietly():
            program = torch.onnx.export(
                module,
                tuple(examples),
                dynamo=True,
                opset_version=settings.opset,
                input_names=names[0],
                output_names=names[1],
                dynamic_shapes=tuple({0: axis} if axis else {} for _ in examples),
                verbose=False,
            )
    except Exception as error:
        raise RecipeError(place, f"cannot be exported to ONNX: {in_words(error)}") from error
    if program is None or program.exported_program is None:
        raise RecipeError(place, "cannot be exported to ONNX: the exporter gave nothing")
    _clear_names(program.model.graph)
    return program


def _clear_names(graph: Any) -> None:
    """Rename inner values called as an output is: the exporter calls them after their operations, as "embedding"."""
    taken = {value.name for node in graph for value in node.outputs}
    for name in [value.name for value in graph.outputs]:
        inner = [v for node in graph for v in node.outputs if v.name == name and v not in graph.outputs]
        for value in inner:
            value.name = next(new for n in itertools.count(1) if (new := f"{name}_{n}") not in taken)
            taken.add(value.name)


def _check_names(model: ModelProto, asked: tuple[list[str], list[str]], place: str) -> None:
    found = ([port.name for port in model.graph.input], [port.name for port in model.graph.output])
    for kind, want, have in zip(("inputs", "outputs"), asked, found, strict=True):
        if want != have:
            fact = f"the ONNX model has the {kind} {', '.join(have)} where {', '.join(want)} was asked for"
            raise RecipeError(place, fact)


def _check_batch(model: ModelProto, place: str) -> None:
    for port in [*model.graph.input, *model.graph.output]:
        shape = signature.shape(port)
        if not shape or isinstance(shape[0], int):
            fact = f'"{port.name}" has shape {shape}: its first axis is fixed, or it has none'
            raise RecipeError(place, fact, "Write forward so that it takes any number of samples.")
