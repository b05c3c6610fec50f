"""The optimisers that a manifest can name, and their state as tensors by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from modelbuild.errors import RecipeError
from modelbuild.training.schedule import Point
from modelbuild.training.settings import Settings

FUSED = ("cpu", "cuda")  # where torch has one kernel for a whole step
BETA2 = 0.999


def build(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """The optimiser of all weights of `module` that take a gradient.

    "adamw": Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv:1711.05101, algorithm 2;
    "sgd": with momentum as Sutskever et al. (ICML 2013) write it, save that the rate multiplies the whole step.
    Raises RecipeError when there is no such weight.
    """
    weights = [each for each in module.parameters() if each.requires_grad]
    if not weights:
        raise RecipeError(
            "training", "the network has no weight that takes a gradient", "Nothing can be learnt."
        )
    fused = all(each.device.type in FUSED for each in weights)
    rate, decay, momentum = settings.lr, settings.weight_decay, settings.momentum
    if settings.optimiser == "sgd":
        return torch.optim.SGD(weights, lr=rate, momentum=momentum, weight_decay=decay, fused=fused)
    betas = (momentum, BETA2)
    return torch.optim.AdamW(weights, lr=rate, betas=betas, weight_decay=decay, fused=fused)


def steer(optimiser: torch.optim.Optimizer, point: Point) -> None:
    """Let the next step be taken with the rate, and the momentum if any, of `point`."""
    group = optimiser.param_groups[0]
    group["lr"] = point.lr
    if point.momentum is not None:
        if "betas" in group:
            group["betas"] = (point.momentum, BETA2)
        else:
            group["momentum"] = point.momentum


def forget_gradients(optimiser: torch.optim.Optimizer) -> None:
    """Let the next gradient be that of the next loss alone; `zero_grad` without what it does for a profiler."""
    for each in weights(optimiser):
        each.grad = None


def weights(optimiser: torch.optim.Optimizer) -> Iterable[Tensor]:
    """What the optimiser trains."""
    found: list[Tensor] = optimiser.param_groups[0]["params"]
    return found


def tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything that the optimiser remembers, by "number of the weight.name"; all of it is tensors."""
    state = optimiser.state_dict()["state"]
    return {
        f"{number}.{name}": each
        for number, slots in state.items()
        for name, each in slots.items()
        if each is not None
    }


def put(optimiser: torch.optim.Optimizer, values: Mapping[str, Tensor]) -> None:
    """Let the optimiser remember what `tensors` gave of one that was built alike."""
    state: dict[int, dict[str, Tensor]] = {}
    trained = list(weights(optimiser))
    for path, each in values.items():
        number, _, name = path.partition(".")
        state.setdefault(int(number), {})[name] = _laid_out_as(trained[int(number)], each)
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _laid_out_as(weight: Tensor, value: Tensor) -> Tensor:
    """`value` with the strides of `weight`, as the optimiser makes its own: a fused kernel walks over both alike."""
    if value.shape != weight.shape:
        return value
    return torch.empty_like(weight, dtype=value.dtype, requires_grad=False).copy_(value)


def fitting(optimiser: torch.optim.Optimizer, values: Mapping[str, Tensor]) -> bool:
    """Whether each of `values` belongs to a weight of the optimiser: a figure, or shaped as the weight is."""
    shapes = {str(number): each.shape for number, each in enumerate(weights(optimiser))}
    owners = [(shapes.get(path.partition(".")[0]), each) for path, each in values.items()]
    return all(shape is not None and (not each.ndim or each.shape == shape) for shape, each in owners)
