"""When a value of a block is used for the last time, and whether its memory may then be taken over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from modelbuild.runtimes.coreml.kernels import KERNELS
from modelbuild.runtimes.coreml.program import Block, Operation


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
    """Whether the results of an operation share no memory with anything else."""
    return operation.type in KERNELS and KERNELS[operation.type].fresh


@dataclass(frozen=True, slots=True)
class Lives:
    """`last`: name -> number of the operation that uses it last; only names of the block that die in it.

    `owned`: names whose memory nothing but the name itself holds.
    """

    last: dict[str, int]
    owned: frozenset[str]

    def dying(self, number: int, operation: Operation) -> set[str]:
        """The names that nothing after operation `number` needs."""
        unused = {each.name for each in operation.outputs if each.name in self.last and self.last[each.name] < 0}
        return {name for name in uses(operation) if self.last.get(name) == number} | unused

    def gives_up(self, argument: str, number: int, operation: Operation) -> bool:
        """Whether operation `number` may write its result over `argument`."""
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
    shared = set[str]()
    for number, operation in enumerate(block.operations):
        for name in uses(operation):
            if name in last:
                last[name] = number
            if not is_fresh(operation):
                shared.add(name)
    own = {name for name, operation in made.items() if is_fresh(operation)} | owned_inputs
    return Lives(last, frozenset(own - shared))


def owned_loop_inputs(body: Block) -> frozenset[str]:
    """The inputs of a loop's body that nobody else holds: all or none.

    All, where every output is made anew in the body and none is given twice: what goes round is then held by the
    loop alone (which copies what it starts from).
    """
    made = _made(body)
    fresh = all(name in made and is_fresh(made[name]) for name in body.outputs)
    distinct = len(set(body.outputs)) == len(body.outputs)
    return frozenset(each.name for each in body.inputs) if fresh and distinct else frozenset()
