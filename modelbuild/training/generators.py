"""The state of every random generator a module may draw from, so that a training goes on as if never interrupted."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

TORCH, DEVICE = "torch", "device"


def tensors(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's generators: that of the CPU, and of `device` where it is another."""
    states = {TORCH: torch.get_rng_state()}
    if device.type == "cuda":
        states[DEVICE] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states[DEVICE] = torch.mps.get_rng_state()
    return states


def facts() -> dict[str, Any]:
    """The state of Python's and NumPy's generators, as JSON can hold it."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {"python": random.getstate(), "numpy": [kind, [int(key) for key in keys], *rest]}


def put(states: Mapping[str, Tensor], others: Mapping[str, Any], device: torch.device) -> None:
    """Set every generator to what `tensors` and `facts` gave."""
    torch.set_rng_state(states[TORCH])
    if DEVICE in states and device.type == "cuda":
        torch.cuda.set_rng_state(states[DEVICE], device)
    elif DEVICE in states and device.type == "mps":
        torch.mps.set_rng_state(states[DEVICE])
    version, inner, gauss = others["python"]
    random.setstate((version, tuple(inner), gauss))
    kind, keys, *rest = others["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
