"""How large the student is, that it is no larger than a device allows, and which width "auto" comes to.

Measuring and choosing are two targets: another budget measures again, and only another network is trained again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelbuild import allowance, capacity, dataset, network
from modelbuild.callables import in_words
from modelbuild.capacity import Footprint
from modelbuild.errors import RecipeError

AUTO, WIDTH, MEASURED = "auto", "width", "capacity.json"


class Weighed(NamedTuple):
    """A network without "auto", what it takes, and what it may take in bytes; `over` says so where that is less."""

    net: dict[str, Any]
    footprint: Footprint
    limit: int | None
    over: str


def measure(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write capacity.json: the network, what it takes for one sample of `evaluation`, and its limit, in bytes.

    `params`: "module", "args", "capacity" with "budget" (bytes) and "fraction", the "platform" that has this budget.
    Raises RecipeError when the network takes more, and as `weigh` does.
    """
    given, asked, platform = sample(inputs["evaluation"]), params.get("capacity"), params.get("platform", "")
    net, takes, limit, over = found = weigh(params, given, asked, platform)
    if over:
        raise RecipeError(params["module"], over, _remedy(found, given))
    sizes = {
        "parameters": takes.parameters,
        "weight_bytes": takes.weight_bytes,
        "activation_bytes": takes.activation_bytes,
        "total": takes.total,
    }
    dataset.write_json(
        out_dir / MEASURED, {**net, **sizes, **(asked or {}), "limit": limit, "platform": platform}
    )


def choose(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write network.json: the network of the role capacity, and nothing of its budget.

    Raises RecipeError when that role holds no measurement.
    """
    try:
        about = json.loads((inputs["capacity"] / MEASURED).read_text(encoding="utf-8"))
        net = {"module": about["module"], "args": about["args"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError("capacity", f"holds no measurement: {in_words(error)}", network.AGAIN) from error
    network.describe(out_dir, net)


def sample(folder: Path) -> list[Tensor]:
    """The first sample of a data set, [1, ...] each, in the order of `forward`."""
    return [torch.tensor(array[:1]) for array in dataset.read(folder).inputs.values()]


def weigh(
    net: Mapping[str, Any], inputs: Sequence[Tensor], asked: Mapping[str, Any] | None, platform: str = ""
) -> Weighed:
    """What `net` takes for one call with `inputs`, and whether that is within the limit where it is `asked`.

    `asked` has a "budget" in bytes and the "fraction" of it that may be used. The argument that is "auto" becomes the
    largest number within that. Raises RecipeError for a second "auto", for one without a limit to solve for, and as
    `capacity.of_build` and `capacity.solve_width` do.
    """
    plain = {"module": net["module"], "args": dict(net.get("args", {}))}
    limit = allowance.limit(asked)
    name = _open(plain)
    if name is not None:
        plain = _with(plain, name, _solved(plain, name, inputs, limit))
    takes = _takes(plain, inputs)
    over = _over(takes, limit, asked, platform) if asked and limit is not None and takes.total > limit else ""
    return Weighed(plain, takes, limit, over)


def _open(net: Mapping[str, Any]) -> str | None:
    """The argument to solve for, if any."""
    names = [name for name, value in net["args"].items() if value == AUTO]
    if len(names) > 1:
        fact = f'{" and ".join(names)} are all "auto", and one number can be solved for'
        raise RecipeError(net["module"], fact, "Write a number for the others.")
    return names[0] if names else None


def _solved(net: Mapping[str, Any], name: str, inputs: Sequence[Tensor], limit: int | None) -> int:
    if limit is None:
        fact = f'{name} is "auto", and there is no capacity to solve for'
        raise RecipeError(net["module"], fact, 'Add "capacity" to the student, or write a number.')
    return capacity.solve_width(lambda number: _takes(_with(net, name, number), inputs), limit)


def _with(net: Mapping[str, Any], name: str, value: int) -> dict[str, Any]:
    return {**net, "args": {**net["args"], name: value}}


def _takes(net: Mapping[str, Any], inputs: Sequence[Tensor]) -> Footprint:
    return capacity.of_build(lambda: network.sized(network.build(net), net["module"]), inputs)


def _over(takes: Footprint, limit: int, asked: Mapping[str, Any], platform: str) -> str:
    parts = f"{takes.weight_bytes:,} of weights and {takes.activation_bytes:,} of activations at their peak"
    whose = f' of platform "{platform}"' if platform else ""
    share = f"{asked['fraction']} of the {asked['budget']:,} bytes{whose}"
    return f"takes {takes.total:,} bytes, {parts}, and the limit is {limit:,}: {share}"


def _remedy(found: Weighed, inputs: Sequence[Tensor]) -> str:
    """What would fit, where a width says how large the network is."""
    otherwise = "Make the network smaller, or raise student.capacity."
    if not isinstance(found.net["args"].get(WIDTH), int):
        return otherwise
    try:
        return f'A width of {_solved(found.net, WIDTH, inputs, found.limit)} fits; "width": "auto" finds it.'
    except RecipeError:
        return otherwise
