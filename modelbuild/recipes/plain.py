"""PyTorch taken apart: no kernel that does the work of several operations and hides what is between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def plain() -> Iterator[None]:
    """Whole encoder layers, attention and recurrent layers run as the simple operations that they are made of."""
    layers, recurrent = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # a property, declared as its own type
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(layers)
        torch.backends.mkldnn.enabled = recurrent
