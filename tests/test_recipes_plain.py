"""Nothing of PyTorch's fused kernels is left inside `plain`, and all of it is back after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from modelbuild.recipes.plain import plain


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def attention(x: Tensor) -> Tensor:
    heads = x.unflatten(-1, (4, 8)).transpose(1, 2)
    return functional.scaled_dot_product_attention(heads, heads, heads)


@pytest.mark.parametrize(
    ("layer", "fused"),
    [
        (nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), "encoder_layer"),
        (nn.LSTM(32, 8, batch_first=True), "mkldnn"),
        (attention, "scaled_dot_product"),
    ],
    ids=["layer", "lstm", "attention"],
)
def test_a_fused_kernel_is_taken_apart(layer: Any, fused: str) -> None:
    if isinstance(layer, nn.Module):
        layer.eval()
    x = torch.ones(2, 3, 32)
    with torch.no_grad(), plain(), Names() as names:
        layer(x)
    assert names.seen
    assert not [name for name in names.seen if fused in name]


@pytest.fixture
def switches() -> Iterator[Any]:
    """Sets what fuses whole layers, and puts it back."""
    before = state()

    def turn(layers: bool, recurrent: bool | None = None) -> None:
        torch.backends.mha.set_fastpath_enabled(layers)
        torch.backends.mkldnn.enabled = layers if recurrent is None else recurrent  # type: ignore[assignment]

    yield turn
    turn(*before[:2])


def state() -> tuple[bool, ...]:
    return (
        torch.backends.mha.get_fastpath_enabled(),
        bool(torch.backends.mkldnn.enabled),
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
    )


@pytest.mark.parametrize("enabled", [True, False])
def test_everything_is_as_it_was_also_after_an_error(enabled: bool, switches: Any) -> None:
    switches(enabled)
    before = state()
    assert before[:2] == (enabled, enabled)
    with plain():
        assert not any(state()[:3])
    assert state() == before
    with pytest.raises(ZeroDivisionError), plain():
        raise ZeroDivisionError
    assert state() == before
