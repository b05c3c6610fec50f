"""float16 arithmetic in PyTorch against NumPy's own float16, and against exact arithmetic with rounding left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelbuild import dataset, network
from modelbuild.dataset import DataSet
from modelbuild.errors import RecipeError
from modelbuild.recipes import rounded
from modelbuild.recipes.rounded import Rounding, half

RNG = np.random.default_rng(0)


def values(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def as_half(array: Any) -> Any:
    return np.asarray(array).astype(np.float16).astype(np.float32)


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(values(16, 40)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.weight.T) * 3.0


def test_weights_inputs_and_every_result_are_rounded() -> None:
    module, x = Dense(), values(5, 40)
    weight = module.weight.detach().numpy().copy()
    found = rounded.rounded(module, {"x": x}, "float16")["output"]
    product = as_half(as_half(x).astype(np.float64) @ as_half(weight).T.astype(np.float64))
    expected = as_half(np.maximum(product, 0) * np.float32(3))
    assert np.abs(found - expected).max() <= np.spacing(np.float16(np.abs(expected).max())) * 1.01
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, as_half(found))


def test_sums_are_rounded_at_every_step() -> None:
    module, x = Dense(), values(5, 40)
    weight = as_half(module.weight.detach().numpy())
    found = rounded.rounded(module, {"x": x}, "float16-sums")["output"]
    total = np.zeros((5, 16), np.float32)
    for k in range(40):
        total = as_half(total + as_half(x)[:, k, None] * weight[None, :, k])
    np.testing.assert_array_equal(found, as_half(np.maximum(total, 0) * np.float32(3)))


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 1.0
        view = y[:, :2]
        view.add_(0.3)
        y.mul_(1.7)
        return y


def test_what_works_in_place_is_rounded_in_place_and_views_still_see_it() -> None:
    x = values(3, 4)
    found = rounded.rounded(InPlace(), {"x": x}, "float16")["output"]
    y = as_half(x)
    y[:, :2] = as_half(y[:, :2] + np.float32(0.3))
    np.testing.assert_array_equal(found, as_half(y * np.float32(1.7)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2),
        nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(1, 0), groups=2),
        nn.Conv3d(4, 4, 2, groups=4, bias=False),
        nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(4, 6, 3, stride=(2, 1), padding=1, dilation=2, groups=2),
        nn.Sequential(nn.Flatten(2), nn.LayerNorm(64), nn.Linear(64, 8), nn.Softmax(-1)),
        nn.Sequential(nn.Flatten(2), nn.MultiheadAttention(64, 4, batch_first=True)),
        nn.Sequential(nn.Flatten(2), nn.GRU(64, 5, batch_first=True)),
        nn.Sequential(nn.Flatten(2), nn.LSTM(64, 5, batch_first=True)),
        nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(64, 4, 32, batch_first=True)),
        nn.AdaptiveAvgPool2d(1),
    ],
    ids=lambda layer: type(layer[-1] if isinstance(layer, nn.Sequential) else layer).__name__,
)
def test_a_step_at_a_time_gives_the_same_where_nothing_is_rounded(layer: nn.Module, monkeypatch: Any) -> None:
    monkeypatch.setattr(rounded, "half", lambda value: value)
    shape = {nn.Conv1d: (2, 4, 9), nn.ConvTranspose1d: (2, 4, 9), nn.Conv3d: (2, 4, 3, 4, 5)}
    x = torch.tensor(values(*shape.get(type(layer), (2, 4, 8, 8))))
    layer.eval()

    def forward() -> Tensor:
        parts = list(layer) if isinstance(layer, nn.Sequential) else [layer]
        y = x
        for part in parts:
            y = part(y, y, y)[0] if isinstance(part, nn.MultiheadAttention) else part(y)
            y = y[0] if isinstance(y, tuple) else y
        return y

    with torch.no_grad():
        expected = forward()
        with rounded.plain(), Rounding(stepwise=True):
            found = forward()
    assert (found - expected).abs().max() < 1e-4


def test_fused_kernels_hide_nothing() -> None:
    """A whole encoder layer rounded once would be off by half a unit; its parts are off by more."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    x = torch.tensor(values(4, 6, 32))
    seen: list[str] = []

    class Names(Rounding):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func._schema.name)
            return super().__torch_dispatch__(func, types, args, kwargs)

    with torch.no_grad(), rounded.plain(), Names(stepwise=False):
        layer(x)
    assert not [name for name in seen if "encoder_layer" in name or "attention" in name]
    assert seen.count("aten::bmm") + seen.count("aten::mm") + seen.count("aten::addmm") >= 6


def test_rounding_is_to_the_nearest_and_leaves_other_types_alone() -> None:
    assert half(torch.tensor([1.0 + 2.0**-11, 1.0 + 3 * 2.0**-11, 1e-8, 1e6])).tolist() == [
        1.0,
        1.0 + 2 * 2.0**-10,
        0.0,
        float("inf"),
    ]
    for other in (torch.tensor([1.00001], dtype=torch.float64), torch.tensor([3])):
        assert half(other) is other


def folders(root: Path) -> dict[str, Path]:
    module = Dense()
    for name in ("student", "evaluation", "out"):
        (root / name).mkdir()
    network.save(root / "student" / "weights.safetensors", module)
    dataset.write(root / "evaluation", DataSet({"x": values(7, 40)}, None))
    return {"student": root / "student", "evaluation": root / "evaluation"}


def test_the_recipe_writes_outputs_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    given = folders(tmp_path)
    params = {"module": f"{__name__}:Dense", "args": {}, "rounds": "float16"}
    rounded.outputs(given, params, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["outputs.safetensors"]
    with pytest.raises(RecipeError, match="bfloat16"):
        rounded.outputs(given, {**params, "rounds": "bfloat16"}, tmp_path / "out")


def test_the_data_on_disk_are_not_touched(tmp_path: Path) -> None:
    given = folders(tmp_path)
    before = json.dumps({str(p): p.read_bytes().hex() for p in sorted(tmp_path.rglob("*")) if p.is_file()})
    rounded.outputs(given, {"module": f"{__name__}:Dense", "rounds": "float16"}, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    assert before == json.dumps(
        {str(p): p.read_bytes().hex() for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    )
