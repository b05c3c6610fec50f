"""When a value of a block is used for the last time, and whether its memory may then be taken over.

Memory is taken over only where one name holds it. Two names can hold the same memory in these ways alone: an
operation that is not fresh gives a view of an argument (`squeeze`), hands it on (`cond`, `while_loop`) or keeps it
(`write_state`, `list_write`); one operation gives several results that overlap; a loop is given, or goes on with,
one value under two names; a value is a constant of the program, computed once for all calls. Whatever may be held
so is left alone: a copy too many costs time, one too few is a wrong result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modelbuild.runtimes.coreml.evaluator.kernels import KERNELS
from modelbuild.runtimes.coreml.evaluator.program import Block, Operation


def uses(operation: Operation) -> Iterator[str]:
    """Every name that an operation reads, those that its inner blocks read from outside included."""
    for bindings in operation.inputs.values():
        yield from (each for each in bindings if isinstance(each, str))
    for block in operation.blocks:
        own = {each.name for each in block.inputs} | _made(block).keys()
        inner = (name for each in block.operations for name in uses(each))
        yield from (name for name in [*inner, *block.outputs] if name not in own)


def _made(block: Block) -> dict[str, Operation]:
    return {each.name: operation for operation in block.operations for each in operation.outputs}


def is_fresh(operation: Operation) -> bool:
    """Whether the results of an operation share no memory with its arguments, or with anything else before it."""
    return operation.type in KERNELS and KERNELS[operation.type].fresh


def _makes_own(operation: Operation) -> bool:
    """Whether the result has memory of its own: fresh, and not one of several that may overlap."""
    return is_fresh(operation) and len(operation.outputs) == 1


def _held_elsewhere(block: Block) -> set[str]:
    """The names that something other than the name may hold after an operation of `block` has used them."""
    return {name for operation in block.operations if not is_fresh(operation) for name in uses(operation)}


@dataclass(frozen=True, slots=True)
class Lives:
    """`last`: name -> number of the operation that uses it last; only names of the block that die in it.

    `owned`: names whose memory nothing but the name itself holds.
    """

    last: dict[str, int]
    owned: frozenset[str]

    def dying(self, number: int, operation: Operation) -> set[str]:
        """The names that nothing after operation `number` needs."""
        unused = {
            each.name for each in operation.outputs if each.name in self.last and self.last[each.name] < 0
        }
        return {name for name in uses(operation) if self.last.get(name) == number} | unused

    def gives_up(self, argument: str, number: int, operation: Operation) -> bool:
        """Whether operation `number` may write its result over `argument`, unless that is a constant."""
        bindings = operation.inputs.get(argument, ())
        name = bindings[0] if len(bindings) == 1 and isinstance(bindings[0], str) else ""
        once = sum(each == name for each in uses(operation)) == 1
        return once and name in self.owned and self.last.get(name) == number


def lives(block: Block, kept: frozenset[str], owned_inputs: frozenset[str] = frozenset()) -> Lives:
    """The lives of the names of `block`; those in `kept` outlive it, as do its outputs.

    `owned_inputs` are inputs of the block that nobody else holds.
    """
    made = _made(block)
    local = ({each.name for each in block.inputs} | made.keys()) - set(block.outputs) - kept
    last = dict.fromkeys(local, -1)
    for number, operation in enumerate(block.operations):
        last |= {name: number for name in uses(operation) if name in last}
    own = {name for name, operation in made.items() if _makes_own(operation)} | owned_inputs
    return Lives(last, frozenset(own - _held_elsewhere(block)))


def owned_loop_inputs(test: Block, body: Block) -> frozenset[str]:
    """The inputs of a loop's body that nobody else holds, if the loop starts from copies for them.

    In every further round an input is what the body left at its place. Nobody else holds that if an operation of the
    body made it anew in that round (what does not depend on an input may be a constant) and neither the body nor the
    test hands it on, be it to another place.
    """
    made, held, varying = _made(body), _held_elsewhere(body), _varying(body)
    asked = _held_elsewhere(test)
    return frozenset(
        entered.name
        for entered, tested, left in zip(body.inputs, test.inputs, body.outputs, strict=True)
        if left in made
        and _makes_own(made[left])
        and left in varying - held
        and body.outputs.count(left) == 1
        and tested.name not in asked
    )


def _varying(body: Block) -> set[str]:
    """The names that depend on an input of `body`."""
    found = {each.name for each in body.inputs}
    for operation in body.operations:
        if not found.isdisjoint(uses(operation)):
            found |= {each.name for each in operation.outputs}
    return found
