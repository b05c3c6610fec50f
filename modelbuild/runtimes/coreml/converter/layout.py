"""Which inputs and outputs the package gets: names, dtypes and shapes, from the data, the module and the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.runtimes.coreml.options import NAME, Options
from modelbuild.runtimes.coreml.ports import CORE_DTYPES, Array, Axis, Input, Output, batch_sizes

BATCH = "batch"


def inputs(data: Mapping[str, Array], options: Options, export: Mapping[str, Any]) -> tuple[Input, ...]:
    """The inputs, in the data's order.

    The number of samples a call may hold is that of `export` ({"dynamic": {"batch": [from, to]}}, else 1) and every
    other axis is fixed, unless the platform's "shapes" say otherwise. Raises RecipeError.
    """
    _known(options.shapes, data, "shapes")
    low, high = export.get("dynamic", {}).get(BATCH, (1, 1))
    batch = 1 if options.classes else _axis([low, high])
    found = tuple(_input(name, array, batch, options) for name, array in data.items())
    batch_sizes(found, data)
    return found


def _input(name: str, array: Array, batch: Axis, options: Options) -> Input:
    dtype = str(array.dtype)
    if dtype not in CORE_DTYPES:
        fact = f'input "{name}" is {dtype}, and Core ML takes {", ".join(CORE_DTYPES)}'
        raise RecipeError(NAME, fact, "Have the data loader give one of those")
    axes: tuple[Axis, ...] = (batch, *array.shape[1:])
    enumerated: tuple[tuple[int, ...], ...] = ()
    shape = options.shapes.get(name, {})
    if "axes" in shape:
        axes = tuple(_axis(axis) for axis in shape["axes"])
    if "enumerated" in shape:
        enumerated = tuple(tuple(each) for each in shape["enumerated"])
        axes = tuple(_span(lengths) for lengths in zip(*enumerated, strict=False))
    _check_shape(name, axes, enumerated, array.shape)
    if options.classes and axes[0] != 1:
        fact = f'a classifier takes one sample a call, and input "{name}" has {axes[0]} on its first axis'
        raise RecipeError(NAME, fact, 'Leave "classes" out, or give that axis the length 1')
    return Input(name, core_name(name, options), dtype, CORE_DTYPES[dtype], axes, enumerated)


def _axis(axis: Any) -> Axis:
    if isinstance(axis, int):
        return axis
    low, high = axis
    return low if low == high else (low, high)


def _span(lengths: Iterable[int]) -> Axis:
    found = sorted({*lengths})
    return found[0] if len(found) == 1 else (found[0], found[-1])


def _check_shape(
    name: str, axes: tuple[Axis, ...], enumerated: tuple[tuple[int, ...], ...], data: tuple[int, ...]
) -> None:
    ranks = {len(axes), *(len(each) for each in enumerated)}
    if ranks != {len(data)}:
        fact = f'the shapes of input "{name}" have {sorted(ranks)} axes, and its data have {len(data)}'
        raise RecipeError(NAME, fact, "The first axis is the samples")
    if enumerated and not any(each[1:] == data[1:] for each in enumerated):
        fact = (
            f'no shape of input "{name}" is that of the evaluation data, {list(data[1:])} after the samples'
        )
        raise RecipeError(NAME, fact, "What ships is checked on that data: let the shapes include theirs")
    for number, axis in enumerate(axes[1:], 1):
        low, high = (axis, axis) if isinstance(axis, int) else axis
        if not low <= data[number] <= high:
            fact = f'axis {number} of input "{name}" is to be {axis}, and the evaluation data have {data[number]}'
            raise RecipeError(NAME, fact, "What ships is checked on that data: let the shapes include theirs")


def outputs(found: Mapping[str, Tensor], options: Options, taken: Mapping[str, Tensor]) -> tuple[Output, ...]:
    """The outputs, in the module's order; `taken` are the inputs that they were computed from.

    Raises RecipeError for a name in the platform's options that is no input or output, for a name or a value that
    Core ML would find twice, and for classes that are not as many as the output has columns.
    """
    _known(options.names, [*taken, *found], "names")
    _refuse_twice([*taken, *found], options)
    _refuse_shared([*taken.items(), *found.items()], len(taken))
    labelled, labels = _labelled(found, options)
    dtypes = {name: str(value.dtype).removeprefix("torch.") for name, value in found.items()}
    return tuple(
        Output(name, core_name(name, options), dtype, labels if name == labelled else ())
        for name, dtype in dtypes.items()
    )


def _refuse_twice(names: Iterable[str], options: Options) -> None:
    ours: dict[str, str] = {}
    for name in names:
        theirs = core_name(name, options)
        if ours.get(theirs) == name:
            fact = f'"{name}" is an input and an output, and Core ML wants two names'
            raise RecipeError(NAME, fact, "Have the module call the output otherwise")
        if theirs in ours:
            fact = f'"{ours[theirs]}" and "{name}" would both be called "{theirs}" in Core ML'
            raise RecipeError(NAME, fact, 'Give one another name with "names"')
        ours[theirs] = name


def _refuse_shared(values: Sequence[tuple[str, Tensor]], inputs: int) -> None:
    """What comes in may go out, and one value under two names, in PyTorch and not in Core ML."""
    for number, (name, value) in enumerate(values[inputs:], inputs):
        for other, same in values[:number]:
            if value is same:
                fact = f'output "{name}" is nothing but "{other}", and Core ML has one name for a value'
                raise RecipeError(NAME, fact, "Leave that output out")


def _labelled(found: Mapping[str, Tensor], options: Options) -> tuple[str, tuple[str | int, ...]]:
    if options.classes is None:
        return "", ()
    name, labels = options.classes["output"], tuple(options.classes["labels"])
    _known([name], found, "classes/output")
    if len(found) != 1:
        fact = f"a classifier has one output, and the module has {', '.join(found)}"
        raise RecipeError(NAME, fact, 'Leave "classes" out, or give the module one output')
    shape = tuple(found[name].shape)
    if len(shape) != 2 or shape[1] != len(labels):
        fact = f'output "{name}" has shape {list(shape)}, and {len(labels)} classes are named'
        raise RecipeError(NAME, fact, "A classifier has one score a class: [samples, classes]")
    return name, labels


def _known(names: Iterable[str], known: Iterable[str], option: str) -> None:
    for name in names:
        if name not in known:
            fact = f'"{option}" names "{name}", which the model does not have'
            raise RecipeError(NAME, fact, did_you_mean(name, [*known]))


def core_name(name: str, options: Options) -> str:
    """What Core ML calls our `name`: as the manifest says, else the same in letters, digits and underscores."""
    return options.names.get(name, re.sub(r"\W", "_", name, flags=re.ASCII))
