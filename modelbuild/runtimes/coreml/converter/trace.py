"""The student on its way into Core ML: by torch.export, or by torch.jit.trace where that has an operation more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelbuild import network
from modelbuild.callables import in_words
from modelbuild.errors import RecipeError
from modelbuild.limits import LIMITS
from modelbuild.provenance import module_of
from modelbuild.runtimes.coreml.converter.decompose import table
from modelbuild.runtimes.coreml.options import NAME
from modelbuild.runtimes.coreml.ports import Array, Input

EXPORT, TRACE = "torch.export", "torch.jit.trace"
WRAPPED = "module"  # what `Flat` calls the module inside it


class Flat(nn.Module):
    """A module whose outputs are a tuple, in the order of their names: what both frontends take."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(network.named(self.module, self.module(*inputs)).values())


@dataclass(frozen=True, slots=True)
class Traced:
    """A program of PyTorch's, how it was had, and value name -> path of the module that computes it.

    `results`: the names that the outputs have in it, in their order, as far as that is known. `called`: name of an
    operation that became one of float16 -> that of its value before, which is the node's.
    """

    program: Any
    frontend: str
    modules: Mapping[str, str]
    results: tuple[str, ...] = ()
    called: Mapping[str, str] = field(default_factory=dict)


def examples(ports: Sequence[Input], data: Mapping[str, Array]) -> tuple[Tensor, ...]:
    """Samples to trace with, in shapes that show which axes are open (torch takes a length of 1 for fixed)."""
    return tuple(_example(port, data[port.name]) for port in ports)


def extremes(ports: Sequence[Input], data: Mapping[str, Array]) -> Iterator[tuple[Tensor, ...]]:
    """Samples in every enumerated shape, and with every open axis but the samples' at its least and its most.

    What the package lets in, the module must be able to compute. Raises RecipeError for a shape too large to try.
    """
    for pick in range(max(2, *(len(port.enumerated) for port in ports))):
        shapes = [_extreme(port, pick) for port in ports]
        for port, shape in zip(ports, shapes, strict=True):
            if math.prod(shape) > LIMITS.tried_numbers:
                fact = f'input "{port.name}" may have the shape {list(shape)}, which is too large to be tried'
                raise RecipeError(NAME, fact, "Let its axes be shorter at most")
        yield tuple(_filled(data[port.name], shape) for port, shape in zip(ports, shapes, strict=True))


def _extreme(port: Input, pick: int) -> tuple[int, ...]:
    if port.enumerated:
        return port.enumerated[pick % len(port.enumerated)]
    first, *rest = port.axes
    return (
        first if isinstance(first, int) else first[0],
        *(axis if isinstance(axis, int) else axis[pick % 2] for axis in rest),
    )


def _example(port: Input, array: Array) -> Tensor:
    if port.enumerated:
        shape = max(port.enumerated)
    else:
        shape = tuple(_length(axis, 2 if n == 0 else array.shape[n]) for n, axis in enumerate(port.axes))
    return _filled(array, shape)


def _filled(array: Array, shape: tuple[int, ...]) -> Tensor:
    """`array` cut or repeated along each axis to `shape`."""
    picked = array
    for axis, size in enumerate(shape):
        picked = np.take(picked, np.arange(size) % picked.shape[axis], axis=axis)
    return torch.tensor(np.ascontiguousarray(picked))


def _length(axis: int | tuple[int, int], wanted: int) -> int:
    return axis if isinstance(axis, int) else min(max(axis[0], wanted, 2), axis[1])


def exported(module: nn.Module, ports: Sequence[Input], example: tuple[Tensor, ...]) -> Traced:
    """By torch.export. Raises RecipeError when the module cannot be exported."""
    axes = tuple(tuple(_dimension(port, n) for n in range(len(port.axes))) for port in ports)
    try:
        program = torch.export.export(Flat(module).eval(), example, dynamic_shapes=(axes,), strict=False)
        decomposed = program.run_decompositions({**table()})
    except Exception as error:
        raise RecipeError(NAME, f"the module cannot be exported by torch: {in_words(error)}") from error
    results = tuple(str(each.arg.name) for each in decomposed.graph_signature.output_specs)
    return Traced(decomposed, EXPORT, _modules(decomposed), results)


def _dimension(port: Input, axis: int) -> Any:
    lengths = {shape[axis] for shape in port.enumerated}
    is_open = len(lengths) > 1 if lengths else not isinstance(port.axes[axis], int)
    return torch.export.Dim.AUTO if is_open else torch.export.Dim.STATIC


def traced(module: nn.Module, example: tuple[Tensor, ...]) -> Traced:
    """By torch.jit.trace. Raises RecipeError when the module cannot be traced."""
    try:
        with torch.no_grad():
            program = torch.jit.trace(Flat(module).eval(), example, check_trace=False)
    except Exception as error:
        raise RecipeError(NAME, f"the module cannot be traced by torch: {in_words(error)}") from error
    return Traced(program, TRACE, {})


def _modules(program: Any) -> dict[str, str]:
    found = {}
    for node in program.graph.nodes:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        if node.op == "call_function" and stack:
            found[node.name] = module_of(node, WRAPPED)
    return found
