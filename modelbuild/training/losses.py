"""The losses a manifest can name, each a function of (student's output, target) that gives one number.

A kind is added by writing the function and naming it in TASK or SOFT; its keyword arguments are its options
in the manifest.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modelbuild.errors import RecipeError, did_you_mean

Loss = Callable[[Tensor, Tensor], Tensor]

# A logit this low leaves its class no probability; unlike -inf it has a gradient, 0.
GONE = -1e9
# Probabilities that vary less than this have no correlation, for its gradient would grow without bound.
NO_SPREAD = 1e-6


def cross_entropy(output: Tensor, label: Tensor) -> Tensor:
    """-sum of p log softmax(output), p the label, the mean over samples and positions.

    `output` has shape [n, classes, ...] and holds logits. `label` has shape [n, ...] and holds class numbers (then p
    is 1 there and 0 elsewhere), or shape [n, classes, ...] and holds the probabilities p themselves: soft labels.
    Raises RecipeError when the shapes do not belong together or a label is no class number.
    """
    soft = label.is_floating_point()
    if output.ndim < 2 or label.shape != (output.shape if soft else output.shape[:1] + output.shape[2:]):
        given = f"{'probabilities' if soft else 'labels'} {list(label.shape)}"
        fact = f"cross_entropy cannot compare logits {list(output.shape)} with {given}"
        remedy = (
            "It takes logits [n, classes, ...] and class numbers [n, ...] or probabilities [n, classes, ...]."
        )
        raise RecipeError("loss", fact, remedy)
    try:
        return F.cross_entropy(output, label)
    except IndexError as error:
        # torch's kernel looks at every label anyway; looking twice costs 4 % of a step
        fact = f"labels go up to {int(label.max())}, and the module has {output.shape[1]} classes, from 0"
        raise RecipeError("loss", fact, "Give the module more classes, or the data other labels.") from error


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean of |output - target| over everything; equal shapes, else RecipeError."""
    return F.l1_loss(output, _matched("l1", output, target))


def l2(output: Tensor, target: Tensor) -> Tensor:
    """Mean of (output - target)^2 over everything; equal shapes, else RecipeError."""
    return F.mse_loss(output, _matched("l2", output, target))


def cosine(output: Tensor, target: Tensor) -> Tensor:
    """1 - u.v / (|u| |v|) for the vectors u and v along the last axis, the mean over samples and positions.

    Equal shapes [n, ..., features]; RecipeError for others, and for single numbers, which have no direction.
    """
    target = _matched("cosine", output, target)
    if output.ndim < 2 or output.shape[-1] < 2:
        fact = f"cosine needs vectors along the last axis, and the output is {list(output.shape)}"
        raise RecipeError("loss", fact, "Use l1 or l2 for single numbers.")
    return 1 - F.cosine_similarity(output, target, dim=-1).mean()


def kl(output: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 * KL(p || q), p = softmax(teacher / T), q = softmax(output / T), mean over samples and positions.

    Both hold logits of shape [n, classes, ...]; RecipeError when they differ in shape or have a single class.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section
    2: equation 1 is the softmax at temperature T; the gradient of the soft targets scales as 1/T^2 (equations
    2 to 4), hence the factor T^2, which keeps the weight between soft and hard loss when T changes.
    """
    teacher = _logits("kl", output, teacher)
    rows = output.numel() // output.shape[1]
    return _divergence(output / temperature, teacher / temperature) * (temperature * temperature / rows)


def decoupled(
    output: Tensor, teacher: Tensor, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0
) -> Tensor:
    """T^2 * (alpha * TCKD + beta * NCKD), the mean over samples and positions.

    With p = softmax(teacher / T), q = softmax(output / T) and c the target class: TCKD = KL of (p_c, 1 - p_c)
    against (q_c, 1 - q_c); NCKD = KL between the softmaxes over the classes other than c. Both hold logits of shape
    [n, classes, ...]; RecipeError when they differ in shape or have a single class.

    The target class is the teacher's own, the largest of its logits. In the paper it is the label, which a teacher
    gives on nearly all samples that it was trained on. Where it does not, the largest probability would be left among
    the others and carry its error into the student with the weight beta; and without a label there is no other class.
    So the term means the same on labelled and unlabelled samples, and the label stays the task loss's.

    Source: Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation", CVPR 2022, arXiv:2203.08679, section 3:
    KL(p || q) = TCKD + (1 - p_c) * NCKD for any class c; equation 7 sets the factors free. beta = 8 and T = 4 are
    those of its experiments on CIFAR-100, with the factor T^2 of their code.
    """
    teacher = _logits("decoupled", output, teacher) / temperature
    output = output / temperature
    target = teacher.argmax(dim=1, keepdim=True)
    binary = _divergence(_against_rest(output, target), _against_rest(teacher, target))
    others = _divergence(output.scatter(1, target, GONE), teacher.scatter(1, target, GONE))
    rows = output.numel() // output.shape[1]
    return (alpha * binary + beta * others) * (temperature * temperature / rows)


def dist(
    output: Tensor, teacher: Tensor, *, beta: float = 1.0, gamma: float = 1.0, temperature: float = 4.0
) -> Tensor:
    """T^2 * (beta * inter + gamma * intra), correlations of the softened probabilities.

    With p = softmax(teacher / T), q = softmax(output / T) and r(u, v) = Pearson's correlation: inter is the mean of
    1 - r over samples and positions, of their rows of p and q; intra that over classes, of their columns. Both hold
    logits of shape [n, classes, ...]; RecipeError when they differ in shape, have one class, or are one row.

    Source: Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
    arXiv:2205.10536: Pearson's distance 1 - r in place of KL, the inter-class and the intra-class loss, and their
    weights beta and gamma (2 each in its experiments, 1 each in its code, from which the factor T^2 is).
    """
    teacher = _logits("dist", output, teacher)
    p, q = (_rows((each / temperature).softmax(dim=1)) for each in (teacher, output))
    if len(q) < 2:
        fact = "dist correlates the samples of a class, and the batch has a single one"
        raise RecipeError("loss", fact, "Raise train.batch.")
    correlations = beta * (1 - _correlation(q, p, 1).mean()) + gamma * (1 - _correlation(q, p, 0).mean())
    return correlations * (temperature * temperature)


def _divergence(output: Tensor, teacher: Tensor) -> Tensor:
    """The sum of KL(softmax(teacher) || softmax(output)) over axis 1 and all rows."""
    student, target = F.log_softmax(output, dim=1), F.log_softmax(teacher, dim=1)
    return F.kl_div(student, target, reduction="sum", log_target=True)


def _against_rest(logits: Tensor, target: Tensor) -> Tensor:
    """[n, 2, ...]: logits of the class `target` and of all others together."""
    rest = logits.scatter(1, target, GONE).logsumexp(dim=1, keepdim=True)
    return torch.cat((logits.gather(1, target), rest), dim=1)


def _rows(values: Tensor) -> Tensor:
    """[n, classes, ...] as [samples and positions, classes]."""
    return values if values.ndim == 2 else values.movedim(1, -1).flatten(0, -2)


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    a, b = (each - each.mean(dim, keepdim=True) for each in (a, b))
    return F.cosine_similarity(a, b, dim=dim, eps=NO_SPREAD)


def _logits(kind: str, output: Tensor, teacher: Tensor) -> Tensor:
    """`teacher` in the type of `output`, once both are logits of the same classes."""
    teacher = _matched(kind, output, teacher)
    if output.ndim < 2 or output.shape[1] < 2:
        fact = f"{kind} compares the probabilities of classes along axis 1, and the output is {list(output.shape)}"
        raise RecipeError("loss", fact, "Use l1, l2 or cosine for numbers that are no logits.")
    return teacher


def _matched(kind: str, output: Tensor, target: Tensor) -> Tensor:
    if output.shape != target.shape:
        fact = f"{kind} cannot compare an output {list(output.shape)} with a target {list(target.shape)}"
        raise RecipeError("loss", fact, "Broadcasting them would train on the wrong pairs.")
    return target.to(output.dtype)


Kinds = Mapping[str, Callable[..., Tensor]]
TASK: Kinds = {"cross_entropy": cross_entropy, "l1": l1, "l2": l2, "cosine": cosine}
SOFT: Kinds = {"kl": kl, "decoupled": decoupled, "dist": dist, "l1": l1, "l2": l2, "cosine": cosine}


def named(
    place: str, known: Mapping[str, Callable[..., Tensor]], kind: str, options: Mapping[str, Any]
) -> Loss:
    """The loss `kind` of `known` with its `options` (positive numbers) filled in.

    Raises RecipeError for a kind or an option that is not known, and for an option that is not positive.
    """
    if kind not in known:
        listed = ", ".join(sorted(known))
        raise RecipeError(
            place, f'loss kind "{kind}" is not one of {listed}', did_you_mean(kind, list(known))
        )
    loss = known[kind]
    allowed = [
        name for name, each in inspect.signature(loss).parameters.items() if each.kind is each.KEYWORD_ONLY
    ]
    for name, value in options.items():
        if name not in allowed:
            remedy = did_you_mean(name, allowed) or "It has none."
            raise RecipeError(place, f'loss "{kind}" has no option "{name}"', remedy)
        _check_option(place, name, value)
    return partial(loss, **options)


def _check_option(place: str, name: str, value: object) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < float(str(value)) < math.inf:
        raise RecipeError(
            place, f"{name} is {value!r}, not a positive number", f"Give {name} a number above 0."
        )
