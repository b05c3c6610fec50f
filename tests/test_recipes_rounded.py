"""float16 arithmetic in PyTorch against NumPy's own float16, and against exact arithmetic with rounding left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import described
from torch import Tensor, nn
from torch.nn import functional

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


MANY = 4096
# In float16, 2048 and one more is 2048: there a sum of ones taken a step at a time ends.
SUMS = {
    "sum": lambda x: x.sum(),
    "sum of an axis": lambda x: x.T.sum(0),
    "mean": lambda x: x.mean(),
    "mean of an axis": lambda x: x.mean(-1, keepdim=True),
    "mm": lambda x: x[:1] @ x[:1].T,
    "addmm": lambda x: torch.addmm(x[:1, :1], x[:1], x[:1].T),
    "bmm": lambda x: torch.bmm(x[None, :1], x[None, :1].mT),
    "baddbmm": lambda x: torch.baddbmm(x[None, :1, :1], x[None, :1], x[None, :1].mT),
    "convolution": lambda x: functional.conv1d(x[None, :1], x[:1, None]),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "var_mean": lambda x: torch.var_mean(x)[1],
    "layer norm": lambda x: functional.layer_norm(x, (MANY,)),
    "group norm": lambda x: functional.group_norm(x[None], 1),
}


@pytest.mark.parametrize("name", SUMS)
def test_no_sum_hides_in_an_operation(name: str) -> None:
    module, x = Doing(SUMS[name]), {"x": np.ones((1, MANY), np.float32)}
    expected = as_half(module(torch.tensor(x["x"])).numpy())
    whole = rounded.rounded(module, x, "float16")["output"]
    np.testing.assert_array_equal(whole.ravel(), expected.ravel())
    stepwise = rounded.rounded(module, x, "float16-sums")["output"]
    assert (stepwise.ravel() != expected.ravel()).all()


class Doing(nn.Module):
    """What `do` does, with a batch in front."""

    def __init__(self, do: Any) -> None:
        super().__init__()
        self.do = do

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.do(x)
        return result.reshape(1, -1)


def test_an_operation_is_rounded_once_where_sums_are_not_taken_apart() -> None:
    x = values(1, 64)
    with torch.no_grad():
        expected = as_half(torch.softmax(torch.tensor(as_half(x)), -1).numpy())
    found = rounded.rounded(Doing(lambda x: x.softmax(-1)), {"x": x}, "float16")["output"]
    np.testing.assert_array_equal(found, expected)


def test_biased_products_are_scaled_as_they_are_told() -> None:
    bias, a, b = (torch.tensor(values(*shape)) for shape in ((2, 3, 4), (2, 3, 5), (2, 5, 4)))
    with torch.no_grad(), Rounding(stepwise=True):
        found = torch.baddbmm(bias, a, b, beta=0.5, alpha=3)
        plain = torch.addmm(bias[0], a[0], b[0], beta=2, alpha=0.25)
    torch.testing.assert_close(found, torch.baddbmm(bias, a, b, beta=0.5, alpha=3), atol=0.05, rtol=0.01)
    torch.testing.assert_close(
        plain, torch.addmm(bias[0], a[0], b[0], beta=2, alpha=0.25), atol=0.05, rtol=0.01
    )


def test_sums_over_any_axes_keep_their_shape() -> None:
    x = torch.tensor(values(2, 3, 4)) + 2
    asked: list[dict[str, Any]] = [
        {"dim": 0}, {"dim": (0, 2)}, {"dim": (-1,)}, {"dim": (2, 0), "keepdim": True}, {"dim": (), "keepdim": True},
    ]  # fmt: skip
    for each in asked:
        for sum_ in (torch.sum, torch.mean):
            with Rounding(stepwise=True):
                found = sum_(x, **each)
            torch.testing.assert_close(found, sum_(x, **each), atol=0.05, rtol=0.01)
    with Rounding(stepwise=True):
        assert x.sum().shape == ()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"dim": 1},
        {"dim": (0, -1), "keepdim": True},
        {"correction": 0},
        {"unbiased": False},
        {"dim": [1], "unbiased": False},
    ],
)
def test_a_variance_is_as_wide_as_it_is_told(asked: dict[str, Any]) -> None:
    x = torch.tensor(values(2, 3, 4)) + 2
    with Rounding(stepwise=True):
        found = torch.var_mean(x, **asked)
    for one, other in zip(found, torch.var_mean(x, **asked), strict=True):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0.01)


def test_every_step_of_a_variance_is_rounded() -> None:
    x = as_half(values(300, 7) + 3)
    mean, variance = np.zeros(300, np.float32), np.zeros(300, np.float32)
    for each in x.T:
        mean = as_half(mean + each)
    mean = as_half(mean / np.float32(7))
    for each in x.T:
        variance = as_half(variance + as_half(as_half(each - mean) ** 2))
    with Rounding(stepwise=True):
        found = torch.var_mean(torch.tensor(x), 1, correction=0)
    np.testing.assert_array_equal(found[0], as_half(variance / np.float32(7)))
    np.testing.assert_array_equal(found[1], mean)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_sums_of_other_types_are_left_alone(dtype: torch.dtype) -> None:
    x = torch.tensor([[4097, 2**24 + 1], [3, 5]], dtype=dtype)
    with Rounding(stepwise=True):
        found = [x.sum(), x.sum(0), x.sum(1, keepdim=True), x @ x]
    for one, other in zip(found, [x.sum(), x.sum(0), x.sum(1, keepdim=True), x @ x], strict=True):
        assert one.dtype == dtype
        assert torch.equal(one, other)


def test_truth_values_are_counted() -> None:
    x = torch.tensor([[True, True], [True, False]])
    with Rounding(stepwise=True):
        assert (x.sum().item(), x.sum(0).tolist(), x.sum(dtype=torch.float64).item()) == (3, [2, 1], 3.0)


class Fixed(nn.Module):
    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor([1 + 2.0**-12]))

    def forward(self, x: Tensor) -> Tensor:
        return (self.factor - 1).expand(len(x), 1) * x


def test_buffers_are_rounded_as_weights_are() -> None:
    module = Fixed()
    assert not rounded.rounded(module, {"x": np.ones((2, 1), np.float32)}, "float16")["output"].any()
    assert module.factor.item() == 1


class Given(nn.Module):
    """Tells by how much its inputs are beyond what float16 holds."""

    def forward(self, x: Tensor, ids: Tensor, wide: Tensor) -> Tensor:
        return torch.stack([x - 1, (ids - 4096).float(), (wide - 1).float()], -1)


def test_inputs_are_rounded_and_those_of_other_types_are_not() -> None:
    near = 1 + 2.0**-12
    data = {"x": np.array([near], np.float32), "ids": np.array([4097]), "wide": np.array([near])}
    found = rounded.rounded(Given(), data, "float16")["output"]
    assert found.tolist() == [[0, 1, 2.0**-12]]


class Settled(nn.Module):
    """Refuses to run where kernels may differ from run to run, or do several operations at once."""

    def forward(self, x: Tensor) -> Tensor:
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.mha.get_fastpath_enabled()
        return x * 2


@pytest.mark.parametrize("arithmetic", rounded.ARITHMETICS)
def test_the_recipe_runs_deterministic_and_plain(arithmetic: str, tmp_path: Path) -> None:
    given = folders(tmp_path)
    network.save(tmp_path / "student", Settled(), described(Settled))
    rounded.outputs(given, {"rounds": arithmetic}, tmp_path / "out")


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
    network.save(root / "student", module, described(Dense))
    dataset.write(root / "evaluation", DataSet({"x": values(7, 40)}, {}))
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
