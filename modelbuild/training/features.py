"""Layer alignment: hidden states of the student are held to those of the teacher, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.training import layers, positions
from modelbuild.training.batch import HIDDEN, Batch
from modelbuild.training.layers import PLACE, Pair, Spec
from modelbuild.training.learner import NOTHING, Learner
from modelbuild.training.objective import WEIGHT, Term
from modelbuild.training.positions import Meeting, Shape
from modelbuild.training.weights import Weights

KIND = "l2"
UNEVEN = 1e-2  # by how much the probabilities of attention may miss 1, as float16 does


# -- the losses of two states [n, positions, width]


def l2(student: Tensor, teacher: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean of (student - teacher)^2 over the positions that are `counted` [n, positions], 0 or 1.

    The student's state has gone through a learnt regressor where it is of another width. Source: Romero et al.,
    "FitNets", arXiv:1412.6550, equation 3, of which this is the mean where that is half the sum: one weight then
    suits every width.
    """
    return _mean((student - teacher).square().mean(-1), counted)


def cosine(student: Tensor, teacher: Tensor, counted: Tensor | None = None) -> Tensor:
    """1 - s.t / (|s| |t|) of the vectors at each position, the mean over those `counted` [n, positions], 0 or 1.

    Source: Sanh et al., "DistilBERT", arXiv:1910.01108, section 2: the cosine embedding loss, which aligns the
    directions of the hidden state vectors.
    """
    return _mean(1 - F.cosine_similarity(student, teacher, dim=-1), counted)


def attention(student: Tensor, teacher: Tensor, counted: Tensor | None = None) -> Tensor:
    """|| q(student) - q(teacher) ||^2 / 2, the mean over samples, where q is a map over positions of length 1.

    The map sums the squares of the numbers at each position, and is 0 where a position is not `counted`. Source:
    Zagoruyko and Komodakis, "Paying More Attention to Attention", arXiv:1612.03928: equation 1, with squares, and
    equation 2, whose norm is squared, as in their code, so that it has a gradient where maps agree.
    """
    return _apart(*(_map(each.square().sum(-1), counted) for each in (student, teacher)))


def probabilities(student: Tensor, teacher: Tensor, counted: Tensor | None = None) -> Tensor:
    """The same of attention itself, [n, heads, positions, positions] or without heads, whose mean makes the map."""
    if student.ndim < 3 or student.shape[-2:] != teacher.shape[-2:]:
        fact = f"the attention {list(student.shape)} does not meet the teacher's {list(teacher.shape)}"
        raise RecipeError(PLACE, fact, "Both must look at the same positions.")
    averaged = (each.mean(1) if each.ndim > 3 else each for each in (student, teacher))
    return _apart(*(_map(each, counted) for each in averaged))


def _map(strengths: Tensor, counted: Tensor | None) -> Tensor:
    """[n, positions] or [n, positions, positions] as [n, numbers] of length 1."""
    if counted is not None:
        strengths = strengths * (counted if strengths.ndim == 2 else counted[:, :, None])
    return F.normalize(strengths.flatten(1), dim=1)


def _apart(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).square().sum(1).mean() / 2


def _mean(values: Tensor, counted: Tensor | None) -> Tensor:
    return values.mean() if counted is None else (values * counted).sum() / counted.sum().clamp(min=1)


Comparison = Callable[[Tensor, Tensor, Tensor | None], Tensor]
KINDS: Mapping[str, Comparison] = MappingProxyType({"l2": l2, "cosine": cosine, "attention": attention})


# -- what is trained for them


class Alignment(NamedTuple):
    """For the learner the student's layers to hook and what is learnt beside it, and the terms on both."""

    hooked: tuple[str, ...]
    projections: nn.Module
    terms: list[Term]


def alignment(
    spec: Spec,
    student: nn.Module,
    teacher: Sequence[str],
    batch: Batch,
    generator: torch.Generator,
    forced: Mapping[str, str] = NOTHING,
) -> Alignment:
    """What holds the student's layers to the teacher's as `spec`, the manifest's "distil.layers", asks.

    `teacher` are the teacher's layers in order, `batch` has some samples with their targets "hidden.PATH" (and what
    is `forced`, as in the learner): the student is run on them once, as in training, and left as it was. `generator`
    draws the first weights of the projections. Every pair counts with the weight; 0 gives none. Raises RecipeError
    for a layer that is not there, and where states cannot be compared.
    """
    weight, kind, mask = spec.get("weight", WEIGHT), spec.get("kind", KIND), spec.get("mask")
    if kind not in KINDS:
        raise RecipeError(PLACE, f'there is no kind "{kind}"', did_you_mean(kind, list(KINDS)))
    if not weight:
        return Alignment((), nn.ModuleList(), [])
    found = layers.pairs(spec, student, teacher)
    seen = _states(student, [pair.student for pair in found], batch, forced)
    projections, terms = nn.ModuleList(), list[Term]()
    for pair in found:
        states = _Two(pair, seen[pair.student], _kept(pair.teacher, batch))
        compared, made = _compared(kind, states, batch, mask, generator)
        projections.append(made)
        terms.append(_term(weight, pair, compared, mask))
    return Alignment(tuple(dict.fromkeys(pair.student for pair in found)), projections, terms)


def _states(
    student: nn.Module, paths: Sequence[str], batch: Batch, forced: Mapping[str, str]
) -> dict[str, Tensor]:
    """What the layers at `paths` give while training; weights, statistics and torch's draws stay as they were."""
    weights, training, learner = Weights(student), student.training, Learner(student, paths, forced=forced)
    before = weights.copy()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = learner.train()(batch)
    finally:
        weights.put(before)
        learner.close()
        student.train(training)
    return {path: outputs[HIDDEN + path] for path in paths}


def _kept(path: str, batch: Batch) -> Tensor:
    if HIDDEN + path not in batch.targets:
        there = [name.removeprefix(HIDDEN) for name in batch.targets if name.startswith(HIDDEN)]
        fact = f'no hidden states of the teacher\'s layer "{path}" were kept'
        raise RecipeError(PLACE, fact, did_you_mean(path, there))
    return batch.targets[HIDDEN + path]


class _Two(NamedTuple):
    """A pair of layers and what they give on the same samples."""

    pair: Pair
    student: Tensor
    teacher: Tensor

    @property
    def shapes(self) -> tuple[Shape, Shape]:
        return tuple(self.student.shape), tuple(self.teacher.shape)


def _compared(
    kind: str, two: _Two, batch: Batch, mask: str | None, generator: torch.Generator
) -> tuple[Comparison, nn.Module]:
    """How the states of a pair become a loss, and the module with what is learnt for it."""
    _check(kind, two, batch)
    if kind == "attention" and _are_probabilities(two.teacher):
        _check_mask(mask, batch, [two.teacher.shape[-1]])
        probabilities(two.student[: len(two.teacher)], two.teacher.to(two.student.dtype))
        return probabilities, nn.Identity()
    meeting = Meeting(*two.shapes, _axes(kind, two, batch, mask), kind != "attention", generator)

    def compared(student: Tensor, teacher: Tensor, counted: Tensor | None) -> Tensor:
        a, b = meeting(student, teacher)
        return KINDS[kind](a, b, counted)

    return compared, meeting


def _axes(kind: str, two: _Two, batch: Batch, mask: str | None) -> tuple[int, int]:
    """The axis of the width in each state. A mean over everything is the same whichever it is."""
    student, teacher = two.shapes
    if kind == "l2" and mask is None and student[1:] == teacher[1:]:
        return len(student) - 1, len(teacher) - 1
    inputs = {name: tuple(each.shape) for name, each in batch.inputs.items() if mask in (None, name)}
    axes = positions.axes(two.pair, student, teacher, inputs)
    lengths = [positions.lengths(shape, axis) for shape, axis in zip(two.shapes, axes, strict=True)]
    _check_mask(mask, batch, [each[0] if len(each) == 1 else 0 for each in lengths])
    return axes


def _check(kind: str, two: _Two, batch: Batch) -> None:
    state, count = two.student, len(next(iter(batch.inputs.values())))
    if not state.is_floating_point() or state.ndim < 2 or len(state) != count:
        given = f"{str(state.dtype).removeprefix('torch.')}{list(state.shape)}"
        fact = f'the student\'s "{two.pair.student}" gives {given} for {count} samples'
        raise RecipeError(
            PLACE, fact, "Name a layer that gives real numbers [n, width] or more, samples first."
        )
    if kind == "attention" and state.ndim < 3:
        fact = f'attention is a map over positions, and "{two.pair.student}" gives [n, width]'
        raise RecipeError(PLACE, fact, 'Use the kind "l2" or "cosine".')


def _check_mask(mask: str | None, batch: Batch, lengths: Sequence[int]) -> None:
    """`lengths` are the positions of both states, 0 for a state that has them along several axes or none."""
    if mask is None:
        return
    place = f"{PLACE}.mask"
    if mask not in batch.inputs:
        raise RecipeError(place, f'there is no input "{mask}"', did_you_mean(mask, list(batch.inputs)))
    given = list(batch.inputs[mask].shape[1:])
    if any(given != [length] for length in lengths):
        told = " and ".join(str(length) if length else "no row of" for length in dict.fromkeys(lengths))
        fact = f'the input "{mask}" is {["n", *given]}, and the layers give {told} positions'.replace("'", "")
        raise RecipeError(place, fact, "Name an input [n, positions], of as many as both layers give.")


def _are_probabilities(state: Tensor) -> bool:
    if state.ndim < 3 or state.shape[-1] != state.shape[-2] or state.min() < 0:
        return False
    return bool((state.float().sum(-1) - 1).abs().max() < UNEVEN)


def _term(weight: float, pair: Pair, compared: Comparison, mask: str | None) -> Term:
    student, teacher = HIDDEN + pair.student, HIDDEN + pair.teacher

    def value(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        wanted = batch.targets[teacher]
        got = outputs[student][: len(wanted)]
        got = got.float() if got.dtype in (torch.float16, torch.bfloat16) else got
        counted = None if mask is None else (batch.inputs[mask][: len(wanted)] != 0).to(got.dtype)
        return compared(got, wanted.to(got.dtype), counted)

    return Term(f"layers.{pair.student}", weight, value, teacher)
