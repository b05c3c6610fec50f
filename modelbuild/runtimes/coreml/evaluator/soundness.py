"""Refuses a program that is not put together as MIL says, in words, before anything is made of it.

Only what compiling takes for granted is looked at: parts that must be there, and parts that must fit each other.
"""

from __future__ import annotations

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.constants import HELD_AS
from modelbuild.runtimes.coreml.evaluator.program import Function, Named, Operation, TensorType, operations
from modelbuild.wording import quote

DAMAGED = "The file is damaged: convert it again"


def check(function: Function, place: str) -> None:
    """Raises RecipeError, placed at the operation, for the first thing that does not fit."""
    for port in function.inputs:
        _known_type(port, place)
    for operation in operations(function.body):
        fault = _fault(operation)
        if fault:
            raise RecipeError(f"{place}: {operation.type} {quote(operation.name)}", fault, DAMAGED)
        for result in operation.outputs:
            _known_type(result, place)


def _known_type(value: Named, place: str) -> None:
    kind = value.type
    if isinstance(kind, TensorType) and kind.dtype not in (*HELD_AS, "string"):
        raise RecipeError(
            f"{place}: {quote(value.name)}", f"is of the type {kind.dtype}, which is not supported here"
        )


def _fault(operation: Operation) -> str:
    """What is wrong with an operation by itself; nothing where all is well."""
    if operation.type == "const":
        return _const_fault(operation)
    if operation.type == "cond":
        return _cond_fault(operation)
    if operation.type == "while_loop":
        return _while_fault(operation)
    return "has blocks, which only cond and while_loop have" if operation.blocks else ""


def _const_fault(operation: Operation) -> str:
    if "val" not in operation.attributes:
        return "has no value"
    return "" if len(operation.outputs) == 1 else f"gives {len(operation.outputs)} results instead of one"


def _cond_fault(operation: Operation) -> str:
    if len(operation.inputs.get("pred", ())) != 1:
        return 'has no argument "pred"'
    if len(operation.blocks) != 2:
        return f"has {len(operation.blocks)} blocks instead of two"
    for block in operation.blocks:
        if block.inputs or len(block.outputs) != len(operation.outputs):
            return f"gives {len(operation.outputs)} results, and a block of it {len(block.outputs)}"
    return ""


def _while_fault(operation: Operation) -> str:
    count = len(operation.inputs.get("loop_vars", ()))
    if not count or len(operation.outputs) != count:
        return f"has {count} loop variables and {len(operation.outputs)} results"
    if len(operation.blocks) != 2:
        return f"has {len(operation.blocks)} blocks instead of two"
    test, body = operation.blocks
    if len(test.inputs) != count or len(test.outputs) != 1:
        return f"has a condition of {len(test.inputs)} inputs and {len(test.outputs)} results"
    if len(body.inputs) != count or len(body.outputs) != count:
        return f"has a body of {len(body.inputs)} inputs and {len(body.outputs)} results"
    return ""
