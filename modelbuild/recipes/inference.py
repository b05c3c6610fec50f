"""A module over a whole data set, batch by batch, in evaluation mode."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from modelbuild import network
from modelbuild.dataset import Array
from modelbuild.errors import RecipeError

BATCH = 64


def outputs(module: nn.Module, inputs: Mapping[str, Array], batch: int = BATCH) -> dict[str, Array]:
    """Output name -> array of shape [samples, ...], without gradients.

    Raises RecipeError when an output's first axis is not the sample axis.
    """
    columns = [torch.tensor(array) for array in inputs.values()]
    module.eval()
    parts: dict[str, list[Array]] = {}
    with torch.no_grad():
        for start in range(0, len(columns[0]), batch):
            rows = [column[start : start + batch] for column in columns]
            for name, value in network.run(module, rows).items():
                parts.setdefault(name, []).append(_rows_of(name, value, len(rows[0]), module))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _rows_of(name: str, value: Tensor, count: int, module: nn.Module) -> Array:
    if value.ndim == 0 or value.shape[0] != count:
        fact = f'output "{name}" has shape {list(value.shape)} for {count} samples'
        raise RecipeError(
            type(module).__name__, fact, "The first axis of every output must be the sample axis."
        )
    array: Array = value.numpy()
    return array
