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
from modelbuild.limits import LIMITS
from modelbuild.runtimes.coreml.evaluator import ops, soundness
from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.constants import HELD_AS, Constants
from modelbuild.runtimes.coreml.evaluator.kernels import Call, Kernel, Setting, bind
from modelbuild.runtimes.coreml.evaluator.liveness import Lives, lives, owned_loop_inputs
from modelbuild.runtimes.coreml.evaluator.narrow import narrowed
from modelbuild.runtimes.coreml.evaluator.ops.randomness import RANDOM, REMEDY
from modelbuild.runtimes.coreml.evaluator.program import (
    Binding,
    Block,
    Function,
    Literal,
    Operation,
    operations,
)
from modelbuild.runtimes.coreml.evaluator.steps import (
    Memory,
    Step,
    calling,
    check_of,
    checked,
    empty,
    execute,
    fetching,
    repeating,
    results_of,
)
from modelbuild.wording import quote

CONTROL = ("cond", "while_loop")


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
    drawing = [f"{each.type} {quote(each.name)}" for each in operations(function.body) if each.type in RANDOM]
    if drawing:
        fact = (
            f'function "{function.name}" draws random numbers, which differ from run to run: {_few(drawing)}'
        )
        raise RecipeError(place, fact, REMEDY)
    lacking = [
        f"{each.type} {quote(each.name)}"
        for each in operations(function.body)
        if each.type not in ops.KERNELS and each.type not in (*CONTROL, "const")
    ]
    if lacking:
        fact = f'function "{function.name}" has operations that cannot be evaluated here: {_few(lacking)}'
        raise RecipeError(place, fact, "Check this model on a Mac, where Core ML itself runs it")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


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
        soundness.check(function, self._place)
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
            raise RecipeError(self._at(place), fact, soundness.DAMAGED)
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
            # What is known beforehand is there for the next call too, so it is never taken over.
            over = kernel.overwrites
            owned = over is not None and over in open_ and life.gives_up(over, number, operation)
            setting = Setting(self._arithmetic, operation.outputs, self._opset)
            with calling(self._place, place):
                call = bind(kernel, known, list(open_), setting, self._at(place), owned)
            if not open_ and kernel.pure:
                return self._folded(operation, call, place), None
            call, slots = self._spread(call, kernel, open_)
        results = [Slot(self._new()) for _ in operation.outputs]
        made = {each.name: result for each, result in zip(operation.outputs, results, strict=True)}
        dead = [made[name] if name in made else scope[name] for name in life.dying(number, operation)]
        step = Step(
            call,
            fetching(slots),
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
            if len(places) > 1 and not kernel.variadic(name):
                fact = f'has {len(places)} values for the argument "{name}", which takes one'
                raise RecipeError(self._at(place), fact, soundness.DAMAGED)
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
        argument = "pred" if operation.type == "cond" else "loop_vars"
        slots = [self._index(self._bound(each, scope, place)) for each in operation.inputs[argument]]
        call = self._cond(operation, scope) if operation.type == "cond" else self._while(operation, scope)
        return (call if len(operation.outputs) != 1 else lambda *values: call(*values)[0]), slots

    def _cond(self, operation: Operation, scope: Scope) -> Call:
        yes, no = (self._block(block, scope) for block in operation.blocks)

        def choose(condition: torch.Tensor) -> tuple[Any, ...]:
            steps, outputs = yes if bool(condition) else no
            execute(self._memory, steps, self._place)
            return tuple(self._memory[index] for index in outputs)

        return choose

    def _while(self, operation: Operation, scope: Scope) -> Call:
        shape = narrowed(operation, self._watch)
        asked, (asking, (answer,)) = self._loop_block(shape.test, scope, frozenset())
        owned = owned_loop_inputs(shape.test, shape.body)
        copied = [each.name in owned for each in shape.body.inputs]
        entered, (running, left) = self._loop_block(shape.body, scope, owned)
        memory, place, leave = self._memory, self._place, fetching(left)
        ask, run = repeating(memory, asking, place), repeating(memory, running, place)

        def loop(*given: Any) -> Sequence[Any]:
            inside = _cast(given, {number: HELD_AS[dtype] for number, dtype in shape.inside.items()})
            values: Sequence[Any] = [v.clone() if copy else v for v, copy in zip(inside, copied, strict=True)]
            for number in range(LIMITS.loop_rounds):
                _store(memory, asked, values)
                ask() if number else execute(memory, asking, place)
                if not memory[answer]:
                    empty(memory, [*asking, *running])
                    return _cast(values, {k: given[k].dtype for k in shape.inside}) if number else given
                _store(memory, entered, values)
                run() if number else execute(memory, running, place)
                values = leave(memory)
            raise RecipeError(
                place, f"a loop goes on after {LIMITS.loop_rounds} rounds", "Is the file whole?"
            )

        return loop

    def _loop_block(
        self, block: Block, scope: Scope, owned: frozenset[str]
    ) -> tuple[list[int], tuple[list[Step], list[int]]]:
        """The slots of the block's inputs, and the block."""
        inputs = {each.name: Slot(self._new()) for each in block.inputs}
        for name, slot in inputs.items():
            self._note(name, slot)
        return [slot.index for slot in inputs.values()], self._block(block, {**scope, **inputs}, owned)


def _cast(values: Sequence[Any], dtypes: Mapping[int, torch.dtype]) -> Sequence[Any]:
    return (
        [each.to(dtypes[n]) if n in dtypes else each for n, each in enumerate(values)] if dtypes else values
    )


def _store(memory: Memory, slots: Sequence[int], values: Sequence[Any]) -> None:
    for index, value in zip(slots, values, strict=True):
        memory[index] = value
