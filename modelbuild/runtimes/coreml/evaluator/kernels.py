"""The table of operations, and how one of a program is tied to the function that computes it.

A kernel is a function whose parameters have MIL's argument names. Their annotations say in which form it wants each:
`Tensor`, `Tensors` (a variadic argument), `int`, `float`, `bool`, `str`, `Ints`, `Bools` or `Strings`; a constant is
brought into that form once, when the program is made ready. `Arithmetic`, `Outputs` (the types that the program
states for the results) and `Opset` are filled in where they are asked for. A parameter without a default must be
bound, and an argument that no parameter takes is refused: an operation is computed as stated or not at all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, NewType, get_type_hints

from torch import Tensor

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.program import Named

Tensors = tuple[Tensor, ...]
Ints = tuple[int, ...]
Bools = tuple[bool, ...]
Strings = tuple[str, ...]
Outputs = tuple[Named, ...]
Opset = NewType("Opset", int)
Function = Callable[..., Any]
Call = Callable[..., Any]


def _listed(value: Any) -> Any:
    return tuple(value.reshape(-1).tolist())


# annotation -> the form that a value is brought into; the others are taken as they come
FORMS: Mapping[Any, Callable[[Any], Any]] = {
    int: lambda value: int(value.item()),
    float: lambda value: float(value.item()),
    bool: lambda value: bool(value.item()),
    str: str,
    Ints: _listed,
    Bools: _listed,
    Strings: lambda value: (value,) if isinstance(value, str) else tuple(value),
}
FILLED_IN = (Arithmetic, Outputs, Opset)


class Kernel(NamedTuple):
    """A function and the form of each of its parameters.

    `fresh`: its results share no memory with an argument. `overwrites` names the argument whose memory the result
    may take where nothing else needs it; the function is then called with `owned=True`. `pure`: the same arguments
    give the same results, so that it need not be called again for arguments that are constants. `widens` names
    arguments that it takes in float32 beside float16 ones: constants are brought there once.
    """

    function: Function
    forms: Mapping[str, Any]
    required: frozenset[str]
    fresh: bool = False
    overwrites: str | None = None
    pure: bool = True
    widens: tuple[str, ...] = ()

    def variadic(self, name: str) -> bool:
        """Whether argument `name` takes any number of values."""
        return self.forms.get(name) == Tensors


KERNELS: dict[str, Kernel] = {}


def kernel(
    *names: str,
    fresh: bool = False,
    overwrites: str | None = None,
    pure: bool = True,
    widens: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Register a function as the kernel of the operations called `names`."""

    def register(function: Function) -> Function:
        hints = get_type_hints(function)
        parameters = inspect.signature(function).parameters
        forms = {name: _plain(hints[name]) for name in parameters if name != "owned"}
        required = {
            n for n, p in parameters.items() if p.default is p.empty and forms.get(n) not in FILLED_IN
        }
        for name in names:
            KERNELS[name] = Kernel(function, forms, frozenset(required), fresh, overwrites, pure, widens)
        return function

    return register


def unary(table: Mapping[str, Function]) -> None:
    """Register functions of one tensor `x`, which give new memory, under their names in `table`."""
    for name, function in table.items():
        KERNELS[name] = Kernel(_of_x(function), {"x": Tensor}, frozenset(("x",)), fresh=True)


def binary(table: Mapping[str, Function]) -> None:
    """Register functions of two tensors `x` and `y`, which give new memory, under their names in `table`."""
    for name, function in table.items():
        KERNELS[name] = Kernel(_of_x_and_y(function), {"x": Tensor, "y": Tensor}, frozenset("xy"), fresh=True)


def _of_x(function: Function) -> Function:
    return lambda x: function(x)


def _of_x_and_y(function: Function) -> Function:
    return lambda x, y: function(x, y)


def _plain(annotation: Any) -> Any:
    """`T` of an annotation `T | None`."""
    options = [each for each in getattr(annotation, "__args__", ()) if each is not type(None)]
    union = type(None) in getattr(annotation, "__args__", ())
    return options[0] if union else annotation


@dataclass(frozen=True, slots=True)
class Setting:
    """What a kernel may ask to have filled in."""

    arithmetic: Arithmetic
    outputs: Outputs
    opset: int

    def fill(self, form: Any) -> Any:
        return {Arithmetic: self.arithmetic, Outputs: self.outputs, Opset: self.opset}[form]


def bind(
    kernel: Kernel,
    constants: Mapping[str, Any],
    open_: Iterable[str],
    setting: Setting,
    place: str,
    owned: bool = False,
) -> Call:
    """A function of the arguments named `open_`, in that order, with everything else fixed.

    Raises RecipeError for an argument that the kernel does not know or does not get.
    """
    names = list(open_)
    given = {*constants, *names}
    unknown = sorted(given - kernel.forms.keys())
    if unknown:
        raise RecipeError(place, f'has an argument "{unknown[0]}", which is not supported here')
    missing = sorted(kernel.required - given)
    if missing:
        raise RecipeError(place, f'has no argument "{missing[0]}"', "The file is damaged: convert it again")
    fixed = {name: FORMS.get(kernel.forms[name], _same)(value) for name, value in constants.items()}
    fixed |= {n: setting.arithmetic.wide(fixed[n]) for n in kernel.widens if isinstance(fixed.get(n), Tensor)}
    fixed |= {name: setting.fill(form) for name, form in kernel.forms.items() if form in FILLED_IN}
    if owned:
        fixed["owned"] = True
    return _call(kernel, names, fixed)


def _same(value: Any) -> Any:
    return value


def _call(kernel: Kernel, names: list[str], fixed: Mapping[str, Any]) -> Call:
    forms = [FORMS.get(kernel.forms[name]) for name in names]
    order = list(kernel.forms)
    start = order.index(names[0]) if names else 0
    together = names == order[start : start + len(names)] and all(name in fixed for name in order[:start])
    if together and not any(forms):  # the values go straight to the function, by place
        first = [fixed[name] for name in order[:start]]
        rest = {name: value for name, value in fixed.items() if name not in order[:start]}
        return partial(kernel.function, *first, **rest) if fixed else kernel.function

    def call(*values: Any) -> Any:
        arguments = {n: form(v) if form else v for n, form, v in zip(names, forms, values, strict=True)}
        return kernel.function(**arguments, **fixed)

    return call
