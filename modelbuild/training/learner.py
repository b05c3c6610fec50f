"""What is trained: a student and the learnt projections beside it, which see its hidden states and never ship."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from modelbuild import network
from modelbuild.callables import in_words
from modelbuild.errors import ModelbuildError, RecipeError, did_you_mean
from modelbuild.training.batch import HIDDEN, TEACHER, Batch

NOTHING: Mapping[str, str] = MappingProxyType({})


class Learner(nn.Module):
    """`student`, of which alone the weights ship, and `projections`, which terms apply to its hidden states.

    The modules of the student at the paths `hooked` show what they give; one that is called several times, what it
    gave last. `forced` maps keywords of the student's `forward` to outputs of the teacher: while training, and only
    then, it is given what the teacher said under that keyword (teacher forcing). Raises RecipeError for a path that
    the student does not have, and for a keyword that its `forward` does not take or cannot do without.
    """

    def __init__(
        self,
        student: nn.Module,
        hooked: Sequence[str] = (),
        projections: nn.Module | None = None,
        forced: Mapping[str, str] = NOTHING,
    ) -> None:
        super().__init__()
        _check_forced(student, forced)
        self.student, self.projections = student, projections
        self._forced = {keyword: TEACHER + output for keyword, output in forced.items()}
        self._hooked, self._seen = tuple(dict.fromkeys(hooked)), dict[str, Tensor]()
        layers = [at(student, path) for path in self._hooked]
        self._hooks = [
            layer.register_forward_hook(partial(_keep, self._seen, path))
            for path, layer in zip(self._hooked, layers, strict=True)
        ]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The student's outputs by name, then the hidden states as "hidden.PATH"; all of them samples first.

        Raises RecipeError when `forward` fails, when it does not come by a hooked module or that gives no tensor,
        and for a batch without what is forced.
        """
        if self._forced and self.training:
            outputs = self._run_forced(batch)
        else:
            outputs = network.run(self.student, tuple(batch.inputs.values()))
        return self._with_hidden(outputs) if self._hooked else outputs

    def close(self) -> None:
        """Take the hooks off the student, which from then on shows no hidden states."""
        for hook in self._hooks:
            hook.remove()
        self._hooked, self._hooks = (), []

    def _with_hidden(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen = {HIDDEN + path: self._seen[path] for path in self._hooked if path in self._seen}
        self._seen.clear()  # the next step must not find what this one saw
        if len(seen) < len(self._hooked):
            path = next(path for path in self._hooked if HIDDEN + path not in seen)
            fact = f'forward does not come by the layer "{path}"'
            raise RecipeError(_name(self.student), fact, "Name a module that forward calls.")
        return {**outputs, **seen}

    def _run_forced(self, batch: Batch) -> dict[str, Tensor]:
        for keyword, target in self._forced.items():
            if target not in batch.targets:
                fact = f'teacher_forcing of "{keyword}": the batch has no target "{target}"'
                raise RecipeError(_name(self.student), fact, did_you_mean(target, list(batch.targets)))
        keywords = {keyword: batch.targets[target] for keyword, target in self._forced.items()}
        try:
            result = self.student(*batch.inputs.values(), **keywords)
        except ModelbuildError:
            raise
        except Exception as error:
            given = {**batch.inputs, **keywords}
            passed = ", ".join(f"{name} {_shape(each)}" for name, each in given.items())
            raise RecipeError(
                _name(self.student), f"forward failed on ({passed}): {in_words(error)}"
            ) from error
        return network.named(self.student, result)


def at(module: nn.Module, path: str) -> nn.Module:
    """The module inside `module` at `path`, as "encoder.layer.2". Raises RecipeError where there is none."""
    known: dict[str, nn.Module] = dict(module.named_modules(remove_duplicate=False))
    del known[""]
    if path not in known:
        raise RecipeError(_name(module), f'it has no layer "{path}"', did_you_mean(path, list(known)))
    return known[path]


def _keep(seen: dict[str, Tensor], path: str, layer: nn.Module, given: Any, result: Any) -> None:
    """What `layer` gave, by its path: the tensor, or the first of several."""
    value = result[0] if isinstance(result, (tuple, list)) and result else result
    if not isinstance(value, Tensor):
        fact = f'the layer "{path}" gives {type(value).__name__}, not a tensor'
        raise RecipeError(
            _name(layer), fact, "Name a layer that gives a tensor, or a tuple that begins with one."
        )
    seen[path] = value.clone()  # what comes after it may change it in place


def _check_forced(student: nn.Module, forced: Mapping[str, str]) -> None:
    taken = inspect.signature(student.forward).parameters if forced else {}
    any_keyword = any(each.kind is each.VAR_KEYWORD for each in taken.values())
    for keyword in forced:
        if keyword in taken and taken[keyword].default is inspect.Parameter.empty:
            fact = f'teacher_forcing gives "{keyword}" in training only, and forward cannot do without it'
            raise RecipeError(_name(student), fact, f'Let forward take "{keyword}: Tensor | None = None".')
        if keyword not in taken and not any_keyword:
            fact = f'teacher_forcing names "{keyword}", which forward does not take'
            raise RecipeError(_name(student), fact, did_you_mean(keyword, list(taken)))


def _name(module: nn.Module) -> str:
    return type(module).__name__


def _shape(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
