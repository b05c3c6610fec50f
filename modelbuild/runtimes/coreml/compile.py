"""Makes a function of an ML Program ready to run: every operation tied to its kernel, every constant read.

A value lives in a numbered slot of one list. What depends on constants alone (decompressed weights, shapes known
from the start) is computed here, once. A slot is emptied after its last use, so that memory holds what is alive;
a kernel that can take over an argument's memory (`scatter`) does so where the argument dies with it, which makes a
loop that fills a buffer step by step linear in the number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml import ops
from modelbuild.runtimes.coreml.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.constants import Constants
from modelbuild.runtimes.coreml.kernels import Call, Kernel, Setting, Tensors, bind
from modelbuild.runtimes.coreml.liveness import Lives, lives, owned_loop_inputs
from modelbuild.runtimes.coreml.program import Binding, Block, Function, Literal, Operation, operations
from modelbuild.runtimes.coreml.steps import Memory, Step, calling, check_of, checked, execute, results_of
from modelbuild.wording import quote

CONTROL = ("cond", "while_loop")
DAMAGED = "The file is damaged: convert it again"


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a value that is not known beforehand will be found."""

    index: int


@dataclass(frozen=True, slots=True)
class Known:
    """A value that is the same in every call."""

    value: Any


Place = Slot | Known
Scope = Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class Ready:
    """A function ready to run: fill the slots of `inputs`, execute `steps`, read `outputs` and `watched`."""

    place: str
    memory: Memory
    inputs: Mapping[str, int]
    steps: Sequence[Step]
    outputs: Mapping[str, int]
    watched: Mapping[str, int]


def refuse_unknown(function: Function, place: str) -> None:
    """Raises RecipeError that names every operation of `function` for which there is no kernel."""
    lacking = [
        f"{each.type} {quote(each.name)}"
        for each in operations(function.body)
        if each.type not in ops.KERNELS and each.type not in (*CONTROL, "const")
    ]
    if lacking:
        shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        fact = f'function "{function.name}" has operations that cannot be evaluated here: {shown}'
        raise RecipeError(place, fact, "Check this model on a Mac, where Core ML itself runs it")


class Compiler:
    """Compiles one function, once. `watch` names values to keep, wherever in the function they are."""

    def __init__(
        self, constants: Constants, arithmetic: Arithmetic, place: str, watch: Sequence[str] = ()
    ) -> None:
        self._constants, self._arithmetic, self._place = constants, arithmetic, place
        self._watch = frozenset(watch)
        self._memory: Memory = []
        self._watched: dict[str, int] = {}
        self._opset = 0

    def function(self, function: Function) -> Ready:
        """Tie every operation of `function`.

        Raises RecipeError for an operation or an argument that has no kernel, with its name and place.
        """
        refuse_unknown(function, self._place)
        self._opset = function.opset
        inputs = {each.name: Slot(self._new()) for each in function.inputs}
        for name, slot in inputs.items():
            self._note(name, slot)
        steps, outputs = self._block(function.body, inputs)
        return Ready(
            self._place,
            self._memory,
            {name: slot.index for name, slot in inputs.items()},
            steps,
            dict(zip(function.body.outputs, outputs, strict=True)),
            self._watched,
        )

    # -- places

    def _new(self, value: Any = None) -> int:
        self._memory.append(value)
        return len(self._memory) - 1

    def _index(self, place: Place) -> int:
        """The slot of `place`; a known value gets one that is never emptied."""
        return place.index if isinstance(place, Slot) else self._new(place.value)

    def _note(self, name: str, place: Place) -> None:
        if name in self._watch:
            self._watched[name] = self._index(place)

    def _bound(self, binding: Binding, scope: Scope, place: str) -> Place:
        if isinstance(binding, Literal):
            return Known(self._constants.read(binding.proto, place))
        if binding not in scope:
            fact = f"uses {quote(binding)}, which nothing before it gives"
            raise RecipeError(self._at(place), fact, DAMAGED)
        return scope[binding]

    def _at(self, place: str) -> str:
        return f"{self._place}: {place}"

    # -- blocks

    def _block(
        self, block: Block, scope: Scope, owned: frozenset[str] = frozenset()
    ) -> tuple[list[Step], list[int]]:
        """The steps of `block`, and the slots in which it leaves its outputs."""
        life = lives(block, self._watch, owned)
        inner, steps = dict(scope), []
        for number, operation in enumerate(block.operations):
            places, step = self._operation(number, operation, inner, life)
            for each, place in zip(operation.outputs, places, strict=True):
                inner[each.name] = place
                self._note(each.name, place)
            if step is not None:
                steps.append(step)
        return steps, [self._index(self._bound(name, inner, "the outputs")) for name in block.outputs]

    def _operation(
        self, number: int, operation: Operation, scope: Scope, life: Lives
    ) -> tuple[Sequence[Place], Step | None]:
        """Where the results of an operation are, and the step that puts them there unless they are known."""
        place = f"{operation.type} {quote(operation.name)}"
        if operation.type == "const":
            return [Known(self._constants.read(operation.attributes["val"].proto, operation.name))], None
        if operation.type in CONTROL:
            call, slots = self._control(operation, scope, place)
        else:
            kernel = ops.KERNELS[operation.type]
            known, open_ = self._arguments(operation, kernel, scope, place)
            owned = kernel.overwrites is not None and life.gives_up(kernel.overwrites, number, operation)
            setting = Setting(self._arithmetic, operation.outputs, self._opset)
            call = bind(kernel, known, list(open_), setting, self._at(place), owned)
            if not open_ and kernel.pure:
                return self._folded(operation, call, place), None
            call, slots = self._spread(call, kernel, open_)
        results = [Slot(self._new()) for _ in operation.outputs]
        dying = {each.name: result for each, result in zip(operation.outputs, results, strict=True)}
        dead = [{**scope, **dying}[name] for name in life.dying(number, operation)]
        step = Step(
            call,
            tuple(slots),
            tuple(each.index for each in results),
            tuple(check_of(each) for each in operation.outputs),
            tuple(each.index for each in dead if isinstance(each, Slot)),
            place,
        )
        return results, step

    def _folded(self, operation: Operation, call: Call, place: str) -> Sequence[Place]:
        checks = tuple(check_of(each) for each in operation.outputs)
        with calling(self._place, place), torch.inference_mode():
            values = results_of(call(), len(checks))
            return [Known(checked(value, check)) for value, check in zip(values, checks, strict=True)]

    # -- arguments

    def _arguments(
        self, operation: Operation, kernel: Kernel, scope: Scope, place: str
    ) -> tuple[dict[str, Any], dict[str, list[Place]]]:
        """Arguments that are known, by name, and the places of the others, in the kernel's order."""
        known = {
            name: self._constants.read(literal.proto, operation.name)
            for name, literal in operation.attributes.items()
            if name in kernel.forms
        }
        open_: dict[str, list[Place]] = {}
        for name in sorted(operation.inputs, key=[*kernel.forms, *sorted(operation.inputs)].index):
            places = [self._bound(each, scope, place) for each in operation.inputs[name]]
            values = [each.value for each in places if isinstance(each, Known)]
            if len(values) < len(places):
                open_[name] = places
            elif places:
                known[name] = tuple(values) if kernel.variadic(name) else values[0]
        return known, open_

    def _spread(self, call: Call, kernel: Kernel, open_: Mapping[str, list[Place]]) -> tuple[Call, list[int]]:
        """`call` as a function of single values, and the slots to take them from."""
        slots = [self._index(place) for places in open_.values() for place in places]
        if not any(kernel.variadic(name) for name in open_):
            return call, slots
        cuts, start = [], 0
        for name, places in open_.items():
            cuts.append(slice(start, start + len(places)) if kernel.variadic(name) else start)
            start += len(places)
        return lambda *values: call(*[values[cut] for cut in cuts]), slots

    # -- control flow

    def _control(self, operation: Operation, scope: Scope, place: str) -> tuple[Call, list[int]]:
        if operation.type == "cond":
            (condition,) = operation.inputs["pred"]
            return self._cond(operation, scope), [self._index(self._bound(condition, scope, place))]
        start = [self._bound(each, scope, place) for each in operation.inputs["loop_vars"]]
        return self._while(operation, scope), [self._index(each) for each in start]

    def _cond(self, operation: Operation, scope: Scope) -> Call:
        yes, no = (self._block(block, scope) for block in operation.blocks)

        def choose(condition: torch.Tensor) -> tuple[Any, ...]:
            steps, outputs = yes if bool(condition) else no
            execute(self._memory, steps, self._place)
            return tuple(self._memory[index] for index in outputs)

        return choose

    def _while(self, operation: Operation, scope: Scope) -> Call:
        test, body = operation.blocks
        asked, (asking, (answer,)) = self._loop_block(test, scope, frozenset())
        entered, (running, left) = self._loop_block(body, scope, owned_loop_inputs(body))
        memory, place = self._memory, self._place

        def loop(*values: Any) -> tuple[Any, ...]:
            values = tuple(v.clone() if isinstance(v, torch.Tensor) else v for v in values)
            while True:
                _store(memory, asked, values)
                execute(memory, asking, place)
                if not bool(memory[answer]):
                    return values
                _store(memory, entered, values)
                execute(memory, running, place)
                values = tuple([memory[index] for index in left])

        return loop

    def _loop_block(
        self, block: Block, scope: Scope, owned: frozenset[str]
    ) -> tuple[list[int], tuple[list[Step], list[int]]]:
        """The slots of the block's inputs, and the block."""
        inputs = {each.name: Slot(self._new()) for each in block.inputs}
        for name, slot in inputs.items():
            self._note(name, slot)
        return [slot.index for slot in inputs.values()], self._block(block, {**scope, **inputs}, owned)


def _store(memory: Memory, slots: Sequence[int], values: Tensors) -> None:
    for index, value in zip(slots, values, strict=True):
        memory[index] = value
