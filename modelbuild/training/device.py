"""Where a network is trained and in what numbers its forward pass is computed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modelbuild.errors import RecipeError
from modelbuild.training.batch import Batch
from modelbuild.training.settings import Settings

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
SCALED = ("cuda",)  # where float16 gradients can be scaled
# Two buffers of 4 MiB a stream: what cuBLAS needs to repeat itself, asked for before it is first used.
CUBLAS = (":4096:8", ":16:8")
_memory: Any = torch.utils.deterministic  # whose one setting is made at run time


@dataclass(frozen=True, slots=True)
class Compute:
    """A device, and the type that `forward` is computed in where it is not float32."""

    device: torch.device
    half: torch.dtype | None = None

    def move(self, batch: Batch) -> Batch:
        """The batch on the device; on its way to a GPU it goes through pinned memory, and nobody waits for it."""
        if self.device.type == "cpu":
            return batch
        return Batch(self._moved(batch.inputs), self._moved(batch.targets))

    def _moved(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.device.type == "cuda":
            tensors = {name: each.pin_memory() for name, each in tensors.items()}
        return {name: each.to(self.device, non_blocking=True) for name, each in tensors.items()}

    def forward(self, learner: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The learner's outputs; those of half precision widened, since losses are computed in float32.

        Source: Micikevicius et al., "Mixed Precision Training", arXiv:1710.03740, section 3.
        """
        if self.half is None:
            outputs: dict[str, Tensor] = learner(batch)
            return outputs
        with torch.autocast(self.device.type, dtype=self.half):
            outputs = learner(batch)
        return {name: each.float() if each.dtype == self.half else each for name, each in outputs.items()}

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss so that float16 gradients do not vanish; does nothing in other types."""
        return torch.amp.GradScaler(self.device.type, enabled=self.half == torch.float16)

    def describe(self) -> dict[str, str]:
        """For training.json: the device, and the name of the GPU where it is one that has a name."""
        told = {"device": self.device.type}
        return (
            {**told, "gpu": torch.cuda.get_device_name(self.device)} if self.device.type == "cuda" else told
        )


@contextmanager
def unfilled() -> Iterator[None]:
    """Leave new memory as it is, where deterministic algorithms would fill it first: 2 to 3 % of a small step.

    Whether a network reads memory that it never wrote shows with the filling, which is NaN.
    """
    before = _memory.fill_uninitialized_memory
    _memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        _memory.fill_uninitialized_memory = before


def choose(settings: Settings) -> Compute:
    """The device and precision that `settings` ask for; "auto" takes cuda, then mps, then cpu.

    Raises RecipeError for a device that is not here, and for float16 where gradients cannot be scaled.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = settings.device
    if name == "auto":
        name = next(each for each, here in there.items() if here)
    if not there[name]:
        raise RecipeError(
            "train.device", f"there is no {name} on this machine", 'Use "auto": it takes what is there.'
        )
    half = HALF.get(settings.precision)
    if half == torch.float16 and name not in SCALED:
        fact = f"float16 needs a CUDA GPU, and the training is on {name}"
        raise RecipeError("train.precision", fact, 'Use "bfloat16" or "float32".')
    if name == "cuda" and os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in CUBLAS:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS[0]
    return Compute(torch.device(name), half)
