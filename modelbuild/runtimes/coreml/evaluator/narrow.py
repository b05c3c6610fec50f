"""Loop variables that travel in the type that the rounds compute in.

A converter to float16 leaves the variables of a loop in float32: every round then casts a whole buffer down first
and up again last, to change one row of it. Up and down again is nothing at all, so such a variable is cast once
before the first round and once after the last, and the bits are the same. Of a whole number they would not be: a
cast to one cuts in every round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from modelbuild.runtimes.coreml.evaluator.liveness import uses
from modelbuild.runtimes.coreml.evaluator.program import Block, Named, Operation, TensorType


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop's blocks; `inside`: number of a variable -> the dtype it has in the body, where that is another."""

    test: Block
    body: Block
    inside: Mapping[int, str]


def narrowed(operation: Operation, kept: frozenset[str]) -> Loop:
    """The loop `operation` with the variables narrowed that can be; names in `kept` are to be had as they are."""
    test, body = operation.blocks
    inside: dict[int, str] = {}
    for number, variable in enumerate(body.inputs):
        first, last = _first_cast(body, variable.name), _last_cast(body, body.outputs[number])
        if first is None or last is None or {variable.name, last.outputs[0].name} & kept:
            continue
        entered, left = first.outputs[0], str(last.inputs["x"][0])
        lossless = _dtype(variable) == "float32" and _dtype(entered) == _dtype_of(body, left) == "float16"
        if lossless and not _used(test, test.inputs[number].name):
            inside[number] = "float16"
            body = _without(body, number, entered, left, {id(first), id(last)})
    return Loop(test, body, inside)


def _first_cast(body: Block, name: str) -> Operation | None:
    """The cast that is all that `body` does with its input `name`."""
    users = [each for each in body.operations if name in uses(each)]
    return users[0] if len(users) == 1 and users[0].type == "cast" and name not in body.outputs else None


def _last_cast(body: Block, name: str) -> Operation | None:
    """The cast that makes `name`, which is left by `body` once and read by nothing in it."""
    made = [each for each in body.operations if each.outputs and each.outputs[0].name == name]
    alone = body.outputs.count(name) == 1 and not _used(replace(body, outputs=()), name)
    is_cast = len(made) == 1 and made[0].type == "cast" and isinstance(made[0].inputs["x"][0], str)
    return made[0] if is_cast and alone else None


def _used(block: Block, name: str) -> bool:
    return name in block.outputs or any(name in uses(each) for each in block.operations)


def _dtype(value: Named) -> str:
    return value.type.dtype if isinstance(value.type, TensorType) else ""


def _dtype_of(body: Block, name: str) -> str:
    """The dtype of a value that an operation of `body` makes."""
    found = (each for operation in body.operations for each in operation.outputs if each.name == name)
    return next(map(_dtype, found), "")


def _without(body: Block, number: int, entered: Named, left: str, casts: set[int]) -> Block:
    """`body` that takes `entered` in place of its input `number`, leaves `left`, and casts neither."""
    inputs, outputs = list(body.inputs), list(body.outputs)
    inputs[number], outputs[number] = entered, left
    operations = tuple(each for each in body.operations if id(each) not in casts)
    return Block(tuple(inputs), operations, tuple(outputs))
