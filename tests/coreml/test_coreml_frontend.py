"""The two ways into Core ML, what is mended on them, and where a value comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from made import RUNTIME, Made, Recurrent, Scores, Stubborn, make, numbers
from torch import Tensor, nn
from torch.nn import functional

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.converter import decompose
from modelbuild.zoo.convnet import ConvNet

X = {"x": numbers(4, 6)}
STEPS = {"x": numbers(4, 7, 6)}


@pytest.fixture(scope="module")
def convnet(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("convnet"), ConvNet, nets.image_inputs(), {"width": 2})


@pytest.fixture(scope="module")
def gru(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("gru"), Recurrent, STEPS)


def about(made: Made, name: str) -> Any:
    return json.loads((made.folder / name).read_text())


def test_export_is_the_way_of_most(convnet: Made, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert about(convnet, "io.json")["frontend"] == "torch.export"
    make(tmp_path, Scores, X)
    assert capfd.readouterr() == ("", "")  # and coremltools' own pages are not in the log


@pytest.mark.parametrize(
    ("kind", "precision"), [("GRU", "float32"), ("GRU", "float16"), ("LSTM", "float32"), ("RNN", "float32")]
)
def test_a_recurrent_layer_comes_from_a_trace_and_the_log_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, precision: str
) -> None:
    made = make(tmp_path, Recurrent, STEPS, {"kind": kind}, precision=precision)
    assert all(error < (1e-6 if precision == "float32" else 1e-2) for error in made.errors().values())
    assert about(made, "io.json")["frontend"] == "torch.jit.trace"
    said, noise = capfd.readouterr()
    assert said.count("\n") == 1
    layer = {"RNN": "rnn_tanh"}.get(kind, kind.lower())
    assert f"no translation of {layer}; converting from torch.jit.trace instead" in said
    assert noise == ""


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("branch", "cannot be exported by torch: GuardOnDataDependentSymNode"),
        ("function", "does not convert the module: NotImplementedError.*'linalg_matrix_exp' not implemented"),
        ("raises", r"forward failed on \(float32\[2, 6\]\): RuntimeError: not today"),
    ],
)
def test_a_module_that_neither_takes_is_refused_with_the_reason(tmp_path: Path, how: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make(tmp_path, Stubborn, X, {"how": how})


# -- what coremltools drops, or has not


class Calls(nn.Module):
    """All of `CALLS`, each an output of its name."""

    def forward(self, x: Tensor, i: Tensor) -> dict[str, Tensor]:
        return {name: call(x, i) for name, call in CALLS.items()}


def attention(x: Tensor, i: Tensor) -> Tensor:
    """Each position of a row looks at those that are not masked, in the way of torch's encoder layers."""
    hidden = torch.zeros_like(i > 6, dtype=torch.float32).masked_fill(i > 6, float("-inf"))
    x = x.unsqueeze(2)
    return functional.scaled_dot_product_attention(x, x, x, hidden.unsqueeze(1)).squeeze(2)


CALLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, i: torch.add(x, x, alpha=0.5),
    "sub": lambda x, i: torch.sub(x, i, alpha=3),
    "sub-scalar": lambda x, i: torch.sub(x, 2, alpha=3),
    "rsub": lambda x, i: torch.rsub(x, x + 1, alpha=3),
    "rsub-plain": lambda x, i: 1 - x,
    "zeros_like": attention,
    "ones_like": lambda x, i: torch.ones_like(i > 6, dtype=torch.float32).masked_fill(i > 6, 0.25) * x,
    "full_like": lambda x, i: torch.full_like(i, 0.5, dtype=torch.float32) * x,
    "sum": lambda x, i: (i > 6).sum(1, keepdim=True, dtype=torch.float32) * 0.3 + x,
    "mean": lambda x, i: i.mean(1, keepdim=True, dtype=torch.float32) + x,
    "cumsum": lambda x, i: i.cumsum(1, dtype=torch.float32) * 0.3 + x,
    "softmax": lambda x, i: i.softmax(1, dtype=torch.float32) + x,
    "log_softmax": lambda x, i: i.log_softmax(1, dtype=torch.float32) + x,
    "gelu-tanh": lambda x, i: functional.gelu(x * 2, approximate="tanh"),
    "gelu": lambda x, i: functional.gelu(x * 2),
    "softplus": lambda x, i: functional.softplus(x, 2.0, 0.5),
    "softplus-plain": lambda x, i: functional.softplus(x),
    "log_sigmoid": lambda x, i: functional.logsigmoid(x),
    "group_norm": lambda x, i: functional.group_norm(x, 2, x[0], x[0] + 1, 1e-3),
    "group_norm-plain": lambda x, i: functional.group_norm(x.unsqueeze(2) * torch.ones(1, 1, 4), 3)[:, :, 0],
    "addcmul": lambda x, i: torch.addcmul(x, x, x, value=0.5),
    "addcdiv": lambda x, i: torch.addcdiv(x, x, x.abs() + 1, value=0.5),
    "adaptive_avg_pool1d": lambda x, i: functional.adaptive_avg_pool1d(x.unsqueeze(1), 3).squeeze(1),
    "adaptive_avg_pool2d": lambda x, i: functional.adaptive_avg_pool2d(x.reshape(-1, 1, 2, 3), (2, 1)).flatten(1),
    "where-scalar": lambda x, i: torch.where(i > 6, x, 0.25),
    "new_ones": lambda x, i: i.new_ones(i.shape, dtype=torch.float32) * 0.5 + x,
    "celu": lambda x, i: functional.celu(x, 0.7),
}  # fmt: skip


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, dict[str, float]]:
    inputs = {**X, "i": np.random.default_rng(3).integers(0, 10, (4, 6))}
    made = make(tmp_path_factory.mktemp("calls"), Calls, inputs, deployment_target="iOS17")
    return made, made.errors()


@pytest.mark.parametrize("which", CALLS)
def test_what_coremltools_drops_or_has_not_is_computed_all_the_same(
    calls: tuple[Made, dict[str, float]], which: str
) -> None:
    made, errors = calls
    assert errors[which] < 2e-6
    assert np.ptp(made.want[which]) > 0.1


def test_none_of_it_needs_a_trace(calls: tuple[Made, dict[str, float]]) -> None:
    assert about(calls[0], "io.json")["frontend"] == "torch.export"


def test_what_coremltools_translates_well_is_not_taken_apart() -> None:
    aten, table = torch.ops.aten, decompose.table()
    assert not {aten.linear.default, aten.gru.input, aten.lstm.input, aten.layer_norm.default} & table.keys()
    one = torch.ones(2)
    for operation in (aten.add.Tensor, aten.sub.Tensor):
        assert table[operation](one, one) is NotImplemented
    for operation in (aten.gelu.default, aten.softplus.default, aten.zeros_like.default, aten.mean.default):
        assert table[operation](one) is NotImplemented


# -- where values come from


def test_values_of_an_export_by_module(convnet: Made) -> None:
    found = about(convnet, "modules.json")
    assert found["relu"] == "features.0.2"
    assert found["logits"] == "head"
    assert "features.0.1" in found.values()  # convolution and normalisation are one operation now
    check_modules(convnet, found)


def test_values_of_a_trace_by_module(gru: Made) -> None:
    found = about(gru, "modules.json")
    assert set(found.values()) == {"layer"}
    inside = {each.outputs[0].name for each in gru.operations("sigmoid")}  # of the loop's body
    assert inside
    assert inside <= found.keys()
    check_modules(gru, found)


def test_values_by_module_in_float16(tmp_path: Path) -> None:
    made = make(tmp_path, Scores, X, precision="float16")
    found = about(made, "modules.json")
    assert found["relu_cast_fp16"] == ""
    assert {"first", "last", ""} >= set(found.values())
    check_modules(made, found)


def check_modules(made: Made, found: dict[str, str]) -> None:
    values = {each.name for operation in made.operations() for each in operation.outputs}
    assert found.keys() <= values
    assert set(found.values()) <= dict(made.module.named_modules()).keys()
    assert list(found) == sorted(found)


# -- values inside


def look(made: Made, inputs: Any, *names: str, **options: Any) -> Any:
    return RUNTIME.intermediates(made.folder, inputs, names, {"options": options})


def test_any_value_by_name(convnet: Made) -> None:
    inputs = nets.image_inputs(64)
    found = look(convnet, inputs, "relu", "max_pool2d", "logits", "image")
    with torch.no_grad():
        image = torch.tensor(inputs["image"])
        first = convnet.module.features[0](image)
        want = {
            "relu": first,
            "max_pool2d": convnet.module.features[1](first),
            "logits": convnet.module(image),
        }
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value.numpy(), atol=1e-5)
    np.testing.assert_array_equal(found["image"], inputs["image"])


def test_one_call_holds_what_it_can(convnet: Made) -> None:
    with pytest.raises(RecipeError, match=r"takes 1 to 64 samples a call, and 65 were given for one"):
        look(convnet, nets.image_inputs(65), "relu")
    with pytest.raises(RecipeError, match=r'input "image" has shape \(4, 1, 4, 8\)'):
        look(convnet, {"image": nets.image_inputs()["image"][:, :, :4]}, "relu")


def test_a_value_inside_a_loop_is_that_of_the_last_round(gru: Made) -> None:
    (update,) = gru.operations("scatter")
    (grown,) = [each for each in gru.operations("expand_dims") if each.outputs[0].name in reads(update)]
    found = look(gru, gru.inputs, grown.outputs[0].name)
    (state,) = found.values()
    np.testing.assert_allclose(state[0], gru.want["output"][:, -1], atol=1e-6)


def reads(operation: Any) -> set[Any]:
    return {each for bindings in operation.inputs.values() for each in bindings if isinstance(each, str)}


def test_a_value_need_not_have_the_samples_first(gru: Made) -> None:
    counter = next(each.outputs[0].name for each in gru.operations("while_loop"))
    assert look(gru, gru.inputs, counter)[counter].reshape(-1).tolist() == [7]


def test_values_inside_are_added_up_as_the_way_says(tmp_path: Path) -> None:
    made = make(tmp_path, Scores, X, {"width": 64}, precision="float16")
    usual, stepwise = (
        look(made, X, "hidden", accumulation=[way])["hidden"] for way in ("float32", "float16")
    )
    assert 0 < np.abs(usual - stepwise).max() < 1e-2


def test_core_ml_itself_shows_no_value_inside(convnet: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(
        RecipeError, match=r"shows no value inside a model, so .* is not evidenced\. Look inside on"
    ):
        look(convnet, convnet.inputs, "relu")


@pytest.mark.parametrize(
    ("name", "words"), [("reul", r'no operation gives "reul"\. Did you mean "relu'), ("", "no operation")]
)
def test_a_value_that_is_not_there(convnet: Made, name: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        look(convnet, convnet.inputs, name)


def test_a_constant_is_a_value_too(convnet: Made) -> None:
    found = look(convnet, convnet.inputs, "p_module_head_bias")
    np.testing.assert_array_equal(found["p_module_head_bias"], convnet.module.head.bias.detach().numpy())
