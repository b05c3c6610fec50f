"""What training minimises: a weighted sum of losses, each between one output and one target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.recipes.losses import Loss


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of some samples and their targets by name.

    Samples with ground truth come first: a target shorter than the batch belongs to its first samples.
    """

    inputs: Sequence[Tensor]
    targets: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Term:
    """`weight * loss(outputs[output], targets[target])`; no output named means the module's first."""

    output: str | None
    target: str
    weight: float
    loss: Loss


def total(terms: Sequence[Term], outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """The sum of all terms; RecipeError when a term names an output that the module does not have."""
    parts = [_value(term, outputs, batch.targets[term.target]) for term in terms]
    return sum(parts[1:], parts[0])


def _value(term: Term, outputs: Mapping[str, Tensor], target: Tensor) -> Tensor:
    name = next(iter(outputs)) if term.output is None else term.output
    if name not in outputs:
        raise RecipeError("loss", f'the module has no output "{name}"', did_you_mean(name, list(outputs)))
    output = outputs[name]
    return term.weight * term.loss(output if len(output) == len(target) else output[: len(target)], target)
