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

import torch.nn.functional as F
from torch import Tensor

from modelbuild.errors import RecipeError, did_you_mean

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(output: Tensor, label: Tensor) -> Tensor:
    """-log softmax(output)[label], the mean over samples and positions.

    `output` has shape [n, classes, ...] and holds logits, `label` shape [n, ...] and holds class numbers.
    Raises RecipeError when the shapes do not belong together or a label is no class number.
    """
    if output.ndim < 2 or label.shape != output.shape[:1] + output.shape[2:]:
        fact = f"cross_entropy cannot compare logits {list(output.shape)} with labels {list(label.shape)}"
        raise RecipeError("loss", fact, "It takes logits [n, classes, ...] and class numbers [n, ...].")
    try:
        return F.cross_entropy(output, label)
    except (
        IndexError
    ) as error:  # torch's kernel looks at every label anyway; looking twice costs 4 % of a step
        fact = f"labels go up to {int(label.max())}, and the module has {output.shape[1]} classes, from 0"
        raise RecipeError("loss", fact) from error


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean of |output - target| over everything; equal shapes, else RecipeError."""
    _check_shapes("l1", output, target)
    return F.l1_loss(output, target)


def l2(output: Tensor, target: Tensor) -> Tensor:
    """Mean of (output - target)^2 over everything; equal shapes, else RecipeError."""
    _check_shapes("l2", output, target)
    return F.mse_loss(output, target)


def kl(output: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 * KL(p || q), p = softmax(teacher / T), q = softmax(output / T), mean over samples and positions.

    Both hold logits of shape [n, classes, ...]; RecipeError when they differ in shape.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section
    2: equation 1 is the softmax at temperature T; the gradient of the soft targets scales as 1/T^2 (equations
    2 to 4), hence the factor T^2, which keeps the weight between soft and hard loss when T changes.
    """
    _check_shapes("kl", output, teacher)
    student = F.log_softmax(output / temperature, dim=1)
    target = F.log_softmax(teacher / temperature, dim=1)
    rows = output.numel() // output.shape[1]
    divergence = F.kl_div(student, target, reduction="sum", log_target=True)
    return divergence * (temperature * temperature / rows)


def _check_shapes(kind: str, output: Tensor, target: Tensor) -> None:
    if output.shape != target.shape:
        fact = f"{kind} cannot compare an output {list(output.shape)} with a target {list(target.shape)}"
        raise RecipeError("loss", fact, "Broadcasting them would train on the wrong pairs.")


Kinds = Mapping[str, Callable[..., Tensor]]
TASK: Kinds = {"cross_entropy": cross_entropy, "l1": l1, "l2": l2}
SOFT: Kinds = {"kl": kl, "l1": l1, "l2": l2}


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
            raise RecipeError(place, f'loss "{kind}" has no option "{name}"', did_you_mean(name, allowed))
        _check_option(place, name, value)
    return partial(loss, **options)


def _check_option(place: str, name: str, value: object) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < float(str(value)) < math.inf:
        raise RecipeError(place, f"{name} is {value!r}, not a positive number")
