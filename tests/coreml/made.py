"""Tiny modules, and packages made from them the way a build makes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nets
import numpy as np
import torch
from torch import Tensor, nn

from modelbuild.recipes import inference
from modelbuild.runtimes import base
from modelbuild.runtimes.base import Run
from modelbuild.runtimes.coreml.evaluator import mlpackage
from modelbuild.runtimes.coreml.evaluator.program import Operation, operations

Array = np.ndarray[Any, Any]
RUNTIME: Any = base.find("coreml")
BATCH = {"dynamic": {"batch": [1, 64]}}


@dataclass(frozen=True)
class Made:
    """An artefact, what it was made from, and the outputs that PyTorch gives."""

    folder: Path
    module: nn.Module
    inputs: Mapping[str, Array]
    params: Mapping[str, Any]
    want: Mapping[str, Array]

    def run(self, inputs: Mapping[str, Array] | None = None, **params: Any) -> Run:
        return RUNTIME.run(self.folder, self.inputs if inputs is None else inputs, {**self.params, **params})

    @property
    def package(self) -> mlpackage.Package:
        return mlpackage.read(self.folder / "model.mlpackage")

    @property
    def spec(self) -> Any:
        return self.package.spec

    def operations(self, kind: str = "") -> list[Operation]:
        found = operations(self.package.functions["main"].body)
        return [each for each in found if each.type != "const" and kind in ("", each.type)]

    def dtypes(self, kind: str) -> set[str]:
        return {each.outputs[0].type.dtype for each in self.operations(kind)}

    def errors(self, **params: Any) -> dict[str, float]:
        """Output -> the largest difference from PyTorch; its dtype and shape are the same."""
        outputs = self.run(**params).outputs
        assert set(outputs) == set(self.want)
        for name, array in self.want.items():
            assert (outputs[name].dtype, outputs[name].shape) == (array.dtype, array.shape)
        return differences(outputs, self.want)


def differences(one: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, float]:
    return {name: float(np.abs(one[name] - other[name]).max()) for name in other}


def make(
    folder: Path,
    kind: type[nn.Module],
    inputs: Mapping[str, Array],
    args: Mapping[str, Any] | None = None,
    export: Mapping[str, Any] | None = None,
    **options: Any,
) -> Made:
    """The artefact of `kind(**args)`, in a new folder below `folder`."""
    home = folder / f"made{sum(1 for _ in folder.iterdir())}" if folder.exists() else folder
    module = nets.Net(kind, lambda: dict(inputs)).module(**(args or {}))
    params = nets.params(**options)
    params["export"] = BATCH if export is None else export
    (home / "artifact").mkdir(parents=True)
    RUNTIME.convert(nets.targets(home, module, inputs, args), home / "artifact", params)
    return Made(home / "artifact", module, inputs, params, inference.outputs(module, inputs))


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths(folder)}


def paths(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


class Scores(nn.Module):
    """x: [n, 6] -> "scores", a softmax over three classes, and "hidden" [n, 8]."""

    output_names = ("scores", "hidden")

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.first(x))
        return torch.softmax(self.last(hidden), 1), hidden


class Class(Scores):
    """`Scores` with one output."""

    output_names = ("scores",)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


class Two(nn.Module):
    """left: [n, a, b], right: [n, b] -> {"left.sum": [n, a], "pairs": [n, a, b]}."""

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        pairs = left * right.unsqueeze(1)
        return {"left.sum": left.sum(2), "pairs": pairs}


class Kinds(nn.Module):
    """x: [n, 6] float32, i: [n, 6] int64 or int32 -> an output of every kind."""

    def forward(self, x: Tensor, i: Tensor) -> dict[str, Tensor]:
        return {"best": x.argmax(1), "positive": x > 0, "next": i + 1, "scaled": x * 2}


class Weights(nn.Module):
    """x: [n, 64] -> [n, 64]; a weight of 4096 numbers, large enough to compress."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


class Noisy(nn.Module):
    """x: [n, 6] -> x + noise that is drawn when the module is built, and is not among its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))
        self.register_buffer("noise", torch.rand(6), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.noise


class Recurrent(nn.Module):
    """x: [n, steps, 6] -> [n, steps, 5]; `kind` is GRU or LSTM."""

    def __init__(self, kind: str = "GRU") -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(6, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Stubborn(nn.Module):
    """What neither frontend takes: a "branch" on values, a "function" without translation; or it "raises"."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "branch":
            return x * 2 if bool((x.sum() > 1e9).item()) else x + 1
        if self.how == "raises":
            raise RuntimeError("not today")
        return torch.linalg.matrix_exp(x.unsqueeze(1).expand(-1, 6, -1)).sum(1)
