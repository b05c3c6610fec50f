"""A torch module as the graph sees it: built from its description, outputs by name, weights as safetensors.

A folder with a network describes itself: `network.json` says which class with which arguments, so that whoever comes
after need not know whether a manifest named them, a capacity target solved for them or a search found them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from modelbuild import callables, dataset
from modelbuild.errors import ModelbuildError, RecipeError

AGAIN = "Build it again"


def build(params: Mapping[str, Any]) -> nn.Module:
    """`Class(**args)` for the manifest's "module" and "args".

    Raises RecipeError when it cannot be built or is no torch module.
    """
    module = callables.call(params["module"], params.get("args", {}))
    if not isinstance(module, nn.Module):
        raise RecipeError(params["module"], f"gave {type(module).__name__}, not a torch.nn.Module")
    return module


def sized(module: nn.Module, place: str) -> nn.Module:
    """`module`, once the shapes of all its weights are known; RecipeError where a batch would have to show them."""
    for name, value in module.state_dict().items():
        if isinstance(value, (UninitializedParameter, UninitializedBuffer)):
            fact = f'the shape of "{name}" is not known before a batch has gone through it'
            raise RecipeError(
                place, fact, "Say its size, as in nn.Linear(12, 8) in place of nn.LazyLinear(8)."
            )
    return module


def run(module: nn.Module, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """The outputs of `module` by name (see `named`); `inputs` go to `forward` by position.

    Raises RecipeError, with the shapes that were passed, when `forward` fails.
    """
    try:
        result = module(*inputs)
    except ModelbuildError:
        raise
    except Exception as error:
        passed = ", ".join(f"{str(each.dtype).removeprefix('torch.')}{list(each.shape)}" for each in inputs)
        fact = f"forward failed on ({passed}): {callables.in_words(error)}"
        raise RecipeError(type(module).__name__, fact) from error
    return named(module, result)


def named(module: nn.Module, result: object) -> dict[str, Tensor]:
    """What `forward` returned as name -> tensor: by its own keys, else by the module's `output_names`,
    else "output" for one tensor and "output_0", "output_1", ... for several.

    Raises RecipeError for anything but tensors, and for a number of names that is not the number of outputs.
    """
    place = type(module).__name__
    if isinstance(result, Mapping):
        outputs = {str(name): value for name, value in result.items()}
    else:
        values = tuple(result) if isinstance(result, (tuple, list)) else (result,)
        names = _names(module, len(values))
        if len(names) != len(values):
            fact = f"output_names lists {', '.join(names)}, and forward returns {len(values)} outputs"
            raise RecipeError(place, fact)
        outputs = dict(zip(names, values, strict=True))
    for name, value in outputs.items():
        if not isinstance(value, Tensor):
            raise RecipeError(place, f'output "{name}" is {type(value).__name__}, not a tensor')
    if not outputs:
        raise RecipeError(place, "forward returns no output")
    return outputs


def _names(module: nn.Module, count: int) -> tuple[str, ...]:
    declared = getattr(module, "output_names", None)
    if declared is not None:
        return tuple(str(name) for name in declared)
    return ("output",) if count == 1 else tuple(f"output_{index}" for index in range(count))


def parameters(module: nn.Module) -> int:
    """How many trainable numbers the module holds."""
    return sum(parameter.numel() for parameter in module.parameters())


DESCRIPTION, WEIGHTS = "network.json", "weights.safetensors"


def describe(folder: Path, net: Mapping[str, Any]) -> None:
    """Write down which network lies in `folder`: "module" and "args"."""
    dataset.write_json(folder / DESCRIPTION, {"module": net["module"], "args": dict(net.get("args", {}))})


def described(folder: Path) -> dict[str, Any]:
    """What `describe` wrote. Raises RecipeError where the folder holds no network."""
    try:
        net: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(folder.name, f"holds no network: {callables.in_words(error)}", AGAIN) from error
    return net


def save(folder: Path, module: nn.Module, net: Mapping[str, Any]) -> None:
    """Write the module's weights and what `net` it is; tied weights are written once a name."""
    state = {name: value.detach().cpu().clone().contiguous() for name, value in module.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    describe(folder, net)


def restore(folder: Path) -> nn.Module:
    """The network in `folder` with its weights, in evaluation mode.

    Raises RecipeError when there is none, or the weights are not those of the module.
    """
    net = described(folder)
    module = build(net)
    try:
        module.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        fact = f"does not hold the weights of {net['module']}: {callables.in_words(error)}"
        raise RecipeError(WEIGHTS, fact, AGAIN) from error
    return module.eval()
