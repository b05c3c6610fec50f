"""Evaluates an ML Program on any machine: the outputs of one call, with the dtypes that the program states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.runtimes.coreml.evaluator.arithmetic import Accumulation, Arithmetic
from modelbuild.runtimes.coreml.evaluator.compile import Compiler
from modelbuild.runtimes.coreml.evaluator.constants import HELD_AS, Constants
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.evaluator.ops.lists import TensorList
from modelbuild.runtimes.coreml.evaluator.program import Function, Named, StateType, TensorType, operations
from modelbuild.runtimes.coreml.evaluator.state import Cell, State
from modelbuild.runtimes.coreml.evaluator.steps import check_of, checked, execute, stated

Array = NDArray[Any]


class Evaluator:
    """One function of a package, compiled once and called as often as wanted (by one thread at a time).

    `accumulation` says how float16 sums are rounded (see `arithmetic`). `watch` names values inside the program:
    `watched` then holds them as the last call left them; of a value inside a loop, that of the last round.
    """

    def __init__(
        self,
        package: Package,
        accumulation: Accumulation = "float32",
        watch: Sequence[str] = (),
        function: str = "",
    ) -> None:
        self._place = package.path.name
        self.function = chosen(package, function)
        refuse_unwatchable(self.function, watch, self._place)
        compiler = Compiler(Constants(package), Arithmetic(accumulation), self._place, watch)
        self._ready = compiler.function(self.function)
        self.watched: dict[str, Any] = {}

    def fresh_state(self) -> State:
        """State as a new app finds it: zeros."""
        kept = [each for each in self.function.inputs if isinstance(each.type, StateType)]
        return {each.name: _zeros(each.type.content) for each in kept if isinstance(each.type, StateType)}

    def __call__(self, inputs: Mapping[str, Array], state: State | None = None) -> dict[str, Any]:
        """Outputs by name: arrays, and for a classifier the class or a list of class -> probability.

        `state` (see `fresh_state`) is read and changed; without it the call starts from zeros. Raises RecipeError
        for inputs that are not the program's in name, dtype and shape, and when an operation cannot be computed.
        """
        memory = self._ready.memory
        state = self.fresh_state() if state is None else state
        given = self.accepted(inputs)
        for each in self.function.inputs:
            value = Cell(state, each.name) if isinstance(each.type, StateType) else given[each.name]
            memory[self._ready.inputs[each.name]] = value
        with torch.inference_mode():
            execute(memory, self._ready.steps, self._place)
        self.watched = {name: _array(memory[index]) for name, index in self._ready.watched.items()}
        return {name: _array(memory[index]) for name, index in self._ready.outputs.items()}

    def accepted(self, inputs: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        """`inputs` as tensors. Raises RecipeError for any that is not the program's in name, dtype and shape."""
        self._check_names(inputs)
        ports = [each for each in self.function.inputs if not isinstance(each.type, StateType)]
        return {each.name: self._input(each, inputs[each.name]) for each in ports}

    def _check_names(self, inputs: Mapping[str, Array]) -> None:
        wanted = [each.name for each in self.function.inputs if not isinstance(each.type, StateType)]
        for name in inputs:
            if name not in wanted:
                raise RecipeError(self._place, f'the model has no input "{name}"', did_you_mean(name, wanted))
        missing = [name for name in wanted if name not in inputs]
        if missing:
            fact = f'input "{missing[0]}" is missing; given: {", ".join(sorted(inputs)) or "nothing"}'
            raise RecipeError(self._place, fact, "Names are matched exactly")

    def _input(self, port: Named, array: Array) -> torch.Tensor:
        own = np.array(array, order="C")
        try:
            value: torch.Tensor = checked(torch.from_numpy(own), check_of(port))
        except (ValueError, TypeError) as error:
            fact = f'input "{port.name}" is {own.dtype}{list(own.shape)}, the program takes {stated(check_of(port))}'
            raise RecipeError(self._place, fact, "Nothing is cast or reshaped silently") from error
        return value


def chosen(package: Package, name: str) -> Function:
    """The function called `name`, or the default one for "". Raises RecipeError for a name that is none."""
    functions = package.functions
    wanted = name or package.spec.description.defaultFunctionName or "main"
    if wanted not in functions:
        raise RecipeError(
            package.path.name, f'has no function "{wanted}"', did_you_mean(wanted, list(functions))
        )
    return functions[wanted]


def refuse_unwatchable(function: Function, watch: Sequence[str], place: str) -> None:
    """Raises RecipeError for a name in `watch` that `function` has no value of."""
    inside = {each.name for operation in operations(function.body) for each in operation.outputs}
    inside |= {each.name for each in function.inputs}
    for name in watch:
        if name not in inside:
            raise RecipeError(place, f'no operation gives "{name}"', did_you_mean(name, sorted(inside)))


def _zeros(stated: TensorType) -> torch.Tensor:
    return torch.zeros([axis or 0 for axis in stated.shape], dtype=HELD_AS[stated.dtype])


def _array(value: Any) -> Any:
    """`value` as the caller's own: nothing done to it is seen by a later call."""
    if isinstance(value, torch.Tensor):
        return value.numpy().copy()
    if isinstance(value, Cell):
        return _array(value.state[value.name])
    return [_array(each) for each in value.shown()] if isinstance(value, TensorList) else value
