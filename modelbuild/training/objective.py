"""What training minimises: a weighted sum of terms, each a function of the network's outputs and the batch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from modelbuild import callables
from modelbuild.dataset import LABEL, Array
from modelbuild.errors import ModelbuildError, RecipeError, did_you_mean
from modelbuild.training import losses
from modelbuild.training.batch import HIDDEN, TEACHER, Batch
from modelbuild.training.losses import Loss

SOFT = "kl"
WEIGHT = 0.5  # of the task loss and of the soft loss of a student, where the manifest says none
UNEVEN = 1e-3  # by how much the probabilities of a soft label may miss 1, as float16 does
Prefix = Literal["label", "teacher."]
Value = Callable[[Mapping[str, Tensor], Batch], Tensor]


@dataclass(frozen=True, slots=True)
class Term:
    """`weight * value(outputs, batch)`, where `value` gives one number.

    `reads` is the target that it reads, or what the names of those begin with; "" stands for any.
    """

    name: str
    weight: float
    value: Value
    reads: str = ""


def total(terms: Sequence[Term], outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """The weighted sum of all terms, a scalar; raises RecipeError as they do."""
    parts = [term.weight * term.value(outputs, batch) for term in terms]
    return sum(parts[1:], parts[0])


def read_by(terms: Sequence[Term], targets: Iterable[str]) -> list[str]:
    """Those of `targets` that `terms` read: a batch needs no others."""
    return [name for name in targets if any(_reads(term.reads, name) for term in terms)]


def _reads(reads: str, name: str) -> bool:
    return not reads or name == reads or name.startswith(f"{reads.removesuffix('.')}.")


def on_output(
    name: str, weight: float, output: str | None, target: str, loss: Loss, remedy: str = ""
) -> Term:
    """`loss(outputs[output], targets[target])`; no output named means the network's first.

    Numbers of half precision are widened to float32 first. The term raises RecipeError, with `remedy`, for an
    output that the network or a target that the batch does not have.
    """

    def value(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        key = next(iter(outputs)) if output is None else output
        try:
            got, wanted = outputs[key], batch.targets[target]
        except KeyError:
            raise _missing(name, key, outputs, target, batch, remedy) from None
        if not got.is_floating_point():
            fact = f'the network\'s output "{key}" is {str(got.dtype).removeprefix("torch.")}: it cannot be trained'
            raise RecipeError(f"loss {name}", fact, remedy)
        return loss(_wide(_first(got, len(wanted))), _wide(wanted))

    return Term(name, weight, value, target)


def _missing(
    name: str, output: str, outputs: Mapping[str, Tensor], target: str, batch: Batch, remedy: str
) -> RecipeError:
    fact, wanted, there = f'the batch has no target "{target}"', target, list(batch.targets)
    if output not in outputs:
        fact, wanted, there = f'the network has no output "{output}"', output, _plain(outputs)
    return RecipeError(f"loss {name}", fact, f"{did_you_mean(wanted, there)} {remedy}".strip())


def _plain(outputs: Mapping[str, Tensor]) -> list[str]:
    return [name for name in outputs if not name.startswith(HIDDEN)]


def _wide(value: Tensor) -> Tensor:
    # A softmax in bfloat16 has three digits, and the squares of a float16 overflow.
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def of_callable(name: str, weight: float, path: str, prefix: Prefix, args: Mapping[str, Any]) -> Term:
    """The project's `fn(outputs, targets, inputs, **args)`, three mappings name -> tensor, samples first.

    With prefix "label" the targets are the truths, "label" and "label.NAME", and all three hold the samples with
    ground truth alone; with "teacher." they are the teacher's outputs by their own names, of all samples. Numbers
    of half precision are widened. Raises RecipeError when `path` names no such function; the term does when the
    function fails or gives anything but one real number that carries gradient.
    """
    function = _taking(path, args)

    def value(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        found = {key: each for key, each in batch.targets.items() if _reads(prefix, key)}
        if not found:
            raise RecipeError(path, f'the batch has no target "{prefix}", and the loss "{name}" is on them')
        count = len(next(iter(found.values())))
        targets = {key.removeprefix(TEACHER): _wide(each) for key, each in found.items()}
        given = {key: _wide(_first(outputs[key], count)) for key in _plain(outputs)}
        inputs = {key: _first(each, count) for key, each in batch.inputs.items()}
        return _called(path, function, given, targets, inputs, args)

    return Term(name, weight, value, prefix)


def _first(value: Tensor, count: int) -> Tensor:
    return value if len(value) == count else value[:count]


def _taking(path: str, args: Mapping[str, Any]) -> Callable[..., Any]:
    function = callables.resolve(path)
    if not callable(function):
        raise RecipeError(path, f"is {type(function).__name__}, not a function", "Name a function.")
    try:
        inspect.signature(function).bind({}, {}, {}, **args)
    except TypeError as error:
        fact = f"does not take (outputs, targets, inputs{''.join(f', {name}=' for name in args)}): {error}"
        raise RecipeError(path, fact, 'Its further arguments are those of "args".') from None
    except ValueError:  # a builtin may not say what it takes; the call will
        pass
    return function  # type: ignore[no-any-return]


def _called(path: str, function: Callable[..., Any], *mappings: Any) -> Tensor:
    *positional, args = mappings
    try:
        result = function(*positional, **args)
    except ModelbuildError:
        raise
    except Exception as error:
        given = "; ".join(_shapes(each) for each in positional)
        raise RecipeError(path, f"failed on ({given}): {callables.in_words(error)}") from error
    return _one_number(path, result)


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(each.shape)}" for name, each in tensors.items())


def _one_number(path: str, result: object) -> Tensor:
    if not isinstance(result, Tensor):
        fact = f"gave {type(result).__name__}, not a tensor"
        raise RecipeError(path, fact, "Compute the loss with torch, on the outputs.")
    if result.ndim or not result.is_floating_point():
        kind = str(result.dtype).removeprefix("torch.")
        fact = f"gave {kind}{list(result.shape)}, not one real number"
        raise RecipeError(path, fact, "Take the mean over samples.")
    if torch.is_grad_enabled() and not result.requires_grad:
        fact = "gave a number that does not depend on the outputs: nothing could be learnt from it"
        raise RecipeError(path, fact, "Compute it from the outputs with torch, without detach or .item().")
    return result


class _Asked(NamedTuple):
    """One entry of the manifest's "task" or "soft"; `options` is what is neither weight, kind nor output."""

    weight: float
    kind: str
    output: Any
    options: dict[str, Any]

    @classmethod
    def of(cls, entry: Mapping[str, Any], output: str, default: tuple[float, str], place: str) -> _Asked:
        rest = dict(entry)
        weight = rest.pop("weight", default[0])
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            fact = f"the weight of a loss is {weight!r}, not a number from 0 up"
            raise RecipeError(place, fact, "0 leaves the loss out.")
        return cls(float(weight), rest.pop("kind", default[1]), rest.pop(output, None), rest)

    def callable_term(self, name: str, prefix: Prefix, place: str) -> Term:
        """The term of a kind "package.module:function", which sees every output."""
        named = [each for each in self.options if each != "args"]
        if named or self.output is not None:
            fact = f'{name} says "{named[0]}"' if named else f"{name} names outputs"
            fact = f'{fact}, which its kind "{self.kind}", a callable given all outputs, never sees'
            raise RecipeError(place, fact, f'Say it in the "args" of {name}.')
        return of_callable(name, self.weight, self.kind, prefix, self.options.get("args", {}))


def task_terms(
    spec: float | Mapping[str, Any], truths: Mapping[str, Array], place: str, *, weight: float = 1.0
) -> list[Term]:
    """The terms that hold outputs to ground truth: `spec` is a weight or {"weight", "kind", "output", "args"}.

    `truths` are "label" and "label.NAME" of the data. "label" trains the output that "output" names, else the first
    and only the first, however many there are; every "label.NAME" trains output NAME. Each counts with the weight,
    which is `weight` where `spec` says none; 0 gives no term. Without a kind, class numbers mean cross_entropy and
    real numbers l2. A kind "package.module:function" is one term on all truths (see `of_callable`).
    Raises RecipeError for a kind or option that is not known, and for truths that are missing or contradict.
    """
    entry = spec if isinstance(spec, Mapping) else {"weight": spec}
    asked = _Asked.of(entry, "output", (weight, ""), place)
    if not asked.weight:
        return []
    _check_truths(truths, asked.output, place)
    if ":" in asked.kind:
        return [asked.callable_term("task", "label", place)]
    return [_task(name, array, asked, place) for name, array in truths.items()]


def _task(name: str, array: Array, asked: _Asked, place: str) -> Term:
    kind = asked.kind or ("l2" if array.dtype.kind == "f" else "cross_entropy")
    loss = losses.named(place, losses.TASK, kind, asked.options)
    if kind == "cross_entropy" and array.dtype.kind == "f":
        _check_probabilities(name, array, place)
    if name == LABEL:
        return on_output("task", asked.weight, asked.output, name, loss, "Name it in distil.task.output.")
    output = name.removeprefix(f"{LABEL}.")
    return on_output(f"task.{output}", asked.weight, output, name, loss, f'The loader calls it "{name}".')


def _check_probabilities(name: str, array: Array, place: str) -> None:
    if array.ndim < 2 or array.min() < 0 or abs(array.sum(axis=1) - 1).max() > UNEVEN:
        fact = f'"{name}" holds real numbers that are no probabilities, and the loss is cross_entropy'
        remedy = "Soft labels [n, classes, ...] add up to 1 along axis 1, none negative; class numbers are integers."
        raise RecipeError(place, fact, remedy)


def _check_truths(truths: Mapping[str, Array], output: str | None, place: str) -> None:
    if not truths:
        fact = f'the training data has no "{LABEL}", and the task loss needs it'
        remedy = "Let the loader give one, or set distil.task to 0 to learn from the teacher alone."
        raise RecipeError(place, fact, remedy)
    if output is not None and LABEL not in truths:
        fact = f'task.output says which output "{LABEL}" is on, and the data has only {", ".join(truths)}'
        raise RecipeError(place, fact, "Leave task.output out: every label.NAME trains output NAME.")
    if f"{LABEL}.{output}" in truths:
        fact = f'"{LABEL}" and "{LABEL}.{output}" are both ground truth of the output "{output}"'
        raise RecipeError(place, fact, "Name another in task.output, or let the loader give one of them.")


def truth(array: Array) -> Tensor:
    """Ground truth as the losses want it: class numbers int64, real numbers float32.

    Raises RecipeError for a negative class number, which torch would pass over in silence when it is -100.
    """
    if array.dtype.kind == "i" and array.min() < 0:
        fact = f"the smallest class number is {array.min()}"
        raise RecipeError(LABEL, fact, "Classes count from 0; numbers that are no classes are floats.")
    return torch.tensor(array, dtype=torch.float32 if array.dtype.kind == "f" else torch.int64)


def soft_terms(
    spec: Mapping[str, Any] | Sequence[Mapping[str, Any]], teacher: Mapping[str, bool], place: str
) -> list[Term]:
    """The terms that hold outputs to the teacher's: `spec` is one entry or several, {"kind", "weight", "outputs"}.

    `teacher` says of every output of the teacher whether it holds real numbers. An entry is kl with weight 0.5
    where it says neither; "outputs" are the teacher's that the student's of the same names learn from, all of real
    numbers where it lists none. Each counts with the weight; 0 gives no term. What else an entry says are options
    of its kind, with a kind "package.module:function" its "args" (see `of_callable`). Raises RecipeError for a kind
    or option that is not known and for an output that the teacher does not have or that holds no real numbers.
    """
    if isinstance(spec, Mapping):
        return _soft("soft", spec, teacher, place)
    return [term for i, entry in enumerate(spec) for term in _soft(f"soft.{i}", entry, teacher, place)]


def _soft(name: str, entry: Mapping[str, Any], teacher: Mapping[str, bool], place: str) -> list[Term]:
    asked = _Asked.of(entry, "outputs", (WEIGHT, SOFT), place)
    if not asked.weight:
        return []
    if ":" in asked.kind:
        return [asked.callable_term(name, "teacher.", place)]
    loss = losses.named(place, losses.SOFT, asked.kind, asked.options)
    remedy = f"List in distil.{name}.outputs what the student learns from."
    return [
        on_output(f"{name}.{output}", asked.weight, output, TEACHER + output, loss, remedy)
        for output in _taught(name, asked.output, teacher, place)
    ]


def _taught(name: str, asked: Sequence[str] | None, teacher: Mapping[str, bool], place: str) -> list[str]:
    outputs = [each for each, real in teacher.items() if real] if asked is None else list(asked)
    if not outputs:
        fact = f"no output of the teacher holds real numbers for distil.{name} to learn from"
        raise RecipeError(place, fact, f"It gives {', '.join(teacher) or 'nothing'}. Set the weight to 0.")
    for output in outputs:
        if output not in teacher:
            raise RecipeError(
                place, f'the teacher has no output "{output}"', did_you_mean(output, list(teacher))
            )
        if not teacher[output]:
            fact = f'the teacher\'s output "{output}" holds no real numbers, and the soft loss needs them'
            raise RecipeError(place, fact, f"Leave it out of distil.{name}.outputs.")
    return outputs
