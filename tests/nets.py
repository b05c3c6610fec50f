"""Small networks of the kinds that ship, made from plain arguments, with seeded inputs and target folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from modelbuild import dataset, network
from modelbuild.zoo.convnet import ConvNet

Array = np.ndarray[Any, Any]


class Encoder(nn.Module):
    """A transformer encoder. ids, mask: [n, length] integers, mask 0 for padding.

    Outputs: "logits" [n, classes] of the first position, "hidden" [n, length, width].
    """

    output_names = ("logits", "hidden")

    def __init__(
        self, vocabulary: int = 100, width: int = 32, heads: int = 4, layers: int = 2, length: int = 16,
        classes: int = 5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, activation="gelu", batch_first=True)
            for _ in range(layers)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embedding(ids) + self.positions[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=(mask == 0))
        return self.head(x[:, 0]), x


class Plain1d(nn.Module):
    """Sound enhancement without memory. features: [n, 8, steps] -> "wave" [n, 1, 2 steps]."""

    output_names = ("wave",)

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv1d(8, hidden, 5, padding=2)
        self.norm = nn.BatchNorm1d(hidden)
        self.up = nn.ConvTranspose1d(hidden, 16, 4, stride=2, padding=1)
        self.last = nn.Conv1d(16, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        x = self.between(torch.relu(self.norm(self.first(features))))
        return torch.tanh(self.last(functional.leaky_relu(self.up(x), 0.1)))

    def between(self, x: Tensor) -> Tensor:
        return x


class Wave(Plain1d):
    """`Plain1d` with a recurrent layer in the middle."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__(hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)

    def between(self, x: Tensor) -> Tensor:
        found, _ = self.gru(x.transpose(1, 2))
        return found.transpose(1, 2)


def image_inputs(samples: int = 4, seed: int = 0) -> dict[str, Array]:
    return {"image": np.random.default_rng(seed).random((samples, 1, 8, 8), dtype=np.float32)}


def encoder_inputs(
    samples: int = 4, seed: int = 0, length: int = 16, vocabulary: int = 100
) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocabulary, (samples, length))
    lengths = rng.integers(length // 2, length + 1, (samples, 1))
    return {"ids": ids, "mask": (np.arange(length) < lengths).astype(np.int64)}


def wave_inputs(samples: int = 4, seed: int = 0, steps: int = 256) -> dict[str, Array]:
    return {"features": np.random.default_rng(seed).standard_normal((samples, 8, steps), dtype=np.float32)}


@dataclass(frozen=True)
class Net:
    """A class of modules and what its inputs look like."""

    kind: type[nn.Module]
    inputs: Callable[..., dict[str, Array]]

    def module(self, **args: Any) -> nn.Module:
        """As it would be trained: seeded weights, and running statistics that are not the initial ones."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = self.kind(**args)
            for name, buffer in made.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(0, 0.1)
                if name.endswith("running_var"):
                    buffer.uniform_(0.2, 1)
        return made.eval()


NETS: Mapping[str, Net] = {
    "convnet": Net(ConvNet, image_inputs),
    "encoder": Net(Encoder, encoder_inputs),
    "wave": Net(Wave, wave_inputs),
    "plain1d": Net(Plain1d, wave_inputs),
}


def described(kind: type[nn.Module], args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A class of networks as a manifest names it."""
    return {"module": f"{kind.__module__}:{kind.__qualname__}", "args": dict(args or {})}


def targets(
    folder: Path, module: nn.Module, inputs: Mapping[str, Array], args: Mapping[str, Any] | None = None
) -> dict[str, Path]:
    """The output folders of a "student" made with `args` and an "evaluation" target, as `convert` takes them."""
    found = {name: folder / name for name in ("student", "evaluation")}
    for path in found.values():
        path.mkdir(parents=True, exist_ok=True)
    network.save(found["student"], module, described(type(module), args))
    dataset.write(found["evaluation"], dataset.DataSet(dict(inputs), {}))
    return found


def params(**options: Any) -> dict[str, Any]:
    """What a recipe hands to `convert` and `run`."""
    return {
        "export": {"dynamic": {"batch": [1, 64]}},
        "options": options,
    }
