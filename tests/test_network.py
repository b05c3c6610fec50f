"""Modules as the graph sees them: names of outputs, batches, weights on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import described
from torch import Tensor, nn

from modelbuild import network
from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError
from modelbuild.recipes import inference

torch.set_num_threads(1)


class Returns(nn.Module):
    """Returns `count` copies of its input, as a dict with `keys` or named by `names`."""

    def __init__(self, count: int, keys: str = "", names: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.count, self.keys = count, keys
        if names is not None:
            self.output_names = names

    def forward(self, x: Tensor) -> Any:
        if self.keys:
            return dict.fromkeys(self.keys, x)
        return x if self.count == 1 else tuple(x for _ in range(self.count))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(x))
        return result


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0)


def test_outputs_take_their_names_from_the_dict_the_module_or_their_place() -> None:
    x = [torch.zeros(2, 1)]
    assert list(network.run(Returns(0, keys="ba"), x)) == ["b", "a"]
    assert list(network.run(Returns(2, names=("p", "q")), x)) == ["p", "q"]
    assert list(network.run(Returns(1), x)) == ["output"]
    assert list(network.run(Returns(2), x)) == ["output_0", "output_1"]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ((torch.zeros(1), None), 'output "output_1" is NoneType'),
        ({"a": [torch.zeros(1)]}, 'output "a" is list'),
        ({}, "returns no output"),
    ],
)
def test_anything_but_tensors_is_refused(result: object, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        network.named(Returns(1), result)


def test_as_many_names_as_outputs() -> None:
    with pytest.raises(RecipeError, match="lists p, q, and forward returns 3 outputs"):
        network.run(Returns(3, names=("p", "q")), [torch.zeros(2, 1)])


def test_a_failing_forward_tells_what_it_was_given() -> None:
    with pytest.raises(RecipeError, match=r"Linear: forward failed on \(float32\[2, 4\]\): RuntimeError"):
        network.run(nn.Linear(3, 1), [torch.zeros(2, 4)])


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(RecipeError, match="gave OrderedDict, not a torch"):
        network.build({"module": "collections:OrderedDict", "args": {"a": 1}})


def test_tied_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    module = Tied()
    network.save(tmp_path, module, described(Tied))
    loaded = network.restore(tmp_path)
    x = torch.randn(2, 3)
    assert torch.equal(loaded(x), module(x)) and not loaded.training
    assert network.parameters(module) == 9


def test_inference_runs_every_sample_in_evaluation_mode_and_without_gradients() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    x = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    parts = inference.outputs(module, {"x": x}, batch=4)["output"]
    assert parts.shape == (10, 2)
    assert np.allclose(parts, module[0](torch.tensor(x)).detach().numpy(), atol=1e-6)


def test_an_output_without_a_sample_axis_is_refused() -> None:
    with pytest.raises(RecipeError, match=r'output "output" has shape \[3\] for 2 samples'):
        inference.outputs(Mean(), {"x": np.zeros((2, 3), np.float32)})


def test_the_deterministic_state_is_seeded_and_left_behind() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    drawn = []
    for _ in range(2):
        with deterministic(3):
            assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
            drawn.append((torch.rand(1).item(), np.random.rand()))
    assert drawn[0] == drawn[1]
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("content", [b"", b"no weights", None, "another"])
def test_weights_that_are_not_those_of_the_module(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "weights.safetensors"
    if content == "another":
        network.save(tmp_path, nn.Linear(2, 2), described(Tied))
    elif content is not None:
        path.write_bytes(content)
    network.describe(tmp_path, described(Tied))
    with pytest.raises(
        RecipeError, match=r"weights\.safetensors: does not hold the weights of test_network:Tied"
    ):
        network.restore(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_a_folder_that_does_not_say_which_network_it_holds(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "network.json").write_bytes(content)
    with pytest.raises(RecipeError, match=r"holds no network: .*Build it again"):
        network.restore(tmp_path)


def test_a_network_is_found_again_with_its_arguments(tmp_path: Path) -> None:
    net = {"module": "torch.nn:Linear", "args": {"in_features": 3, "out_features": 2}}
    network.save(tmp_path, nn.Linear(3, 2), net)
    assert network.described(tmp_path) == net
    assert network.restore(tmp_path).weight.shape == (2, 3)


def test_a_network_whose_sizes_only_a_batch_tells_is_refused_where_they_are_needed() -> None:
    lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(
        RecipeError, match=r'here: the shape of "0\.weight" is not known .* in place of nn\.LazyLinear'
    ):
        network.sized(lazy, "here")
    lazy(torch.zeros(2, 4))
    assert network.sized(lazy, "here") is lazy
