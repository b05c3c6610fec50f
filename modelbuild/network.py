"""A torch module as the graph sees it: built from a manifest, outputs by name, weights as safetensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modelbuild import callables
from modelbuild.errors import ModelbuildError, RecipeError


def build(params: Mapping[str, Any]) -> nn.Module:
    """`Class(**args)` for the manifest's "module" and "args".

    Raises RecipeError when it cannot be built or is no torch module.
    """
    module = callables.call(params["module"], params.get("args", {}))
    if not isinstance(module, nn.Module):
        raise RecipeError(params["module"], f"gave {type(module).__name__}, not a torch.nn.Module")
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


def save(path: Path, module: nn.Module) -> None:
    """Write the module's weights; tied weights are written once a name."""
    save_file(
        {name: value.detach().clone().contiguous() for name, value in module.state_dict().items()}, path
    )


def load(path: Path, params: Mapping[str, Any]) -> nn.Module:
    """The module of `params` with the weights at `path`, in evaluation mode.

    Raises RecipeError when the weights are not those of the module.
    """
    module = build(params)
    try:
        module.load_state_dict(load_file(path))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        fact = f"does not hold the weights of {params['module']}: {callables.in_words(error)}"
        raise RecipeError(path.name, fact, "Build it again") from error
    return module.eval()
