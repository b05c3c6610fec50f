"""Device and precision."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from tiny import Learner, contents, settings, train
from torch import Tensor, nn

from modelbuild.errors import RecipeError
from modelbuild.training import device
from modelbuild.training.batch import Batch


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def only(*names: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in names)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in names)

    return only


@pytest.mark.parametrize(
    ("here", "name"), [(("cuda", "mps"), "cuda"), (("mps",), "mps"), (("cuda",), "cuda"), ((), "cpu")]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(there: Any, here: tuple[str, ...], name: str) -> None:
    there(*here)
    assert device.choose(settings()).device.type == name
    assert device.choose(settings(device="cpu")).device.type == "cpu"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_refused_with_the_remedy(there: Any, name: str) -> None:
    there()
    with pytest.raises(RecipeError, match=f'there is no {name} on this machine. Use "auto"'):
        device.choose(settings(device=name))


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_float16_is_for_cuda_alone(there: Any, name: str) -> None:
    there(name)
    with pytest.raises(RecipeError, match=f'float16 needs a CUDA GPU.* on {name}. Use "bfloat16"'):
        device.choose(settings(precision="float16"))


def test_float16_on_cuda_scales_gradients(there: Any) -> None:
    there("cuda")
    assert device.choose(settings(precision="float16")).half == torch.float16
    assert not device.choose(settings(precision="bfloat16")).scaler().is_enabled()


def test_cublas_is_told_to_repeat_itself_before_it_is_used(
    there: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there("cuda")
    device.choose(settings(device="cpu"))
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    device.choose(settings())
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    device.choose(settings())
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


class Says(nn.Module):
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        product = batch.inputs["x"] @ batch.inputs["x"].T
        return {"seen": torch.tensor(product.element_size()), "y": product, "z": product.double()}


@pytest.mark.parametrize(("precision", "size"), [("float32", 4), ("bfloat16", 2)])
def test_half_precision_is_for_forward_and_losses_get_float32(there: Any, precision: str, size: int) -> None:
    there()
    outputs = device.choose(settings(precision=precision)).forward(Says(), Batch({"x": torch.ones(2, 2)}, {}))
    assert outputs["seen"].item() == size
    assert (outputs["y"].dtype, outputs["z"].dtype) == (torch.float32, torch.float64)


def test_bfloat16_trains_and_weights_stay_float32() -> None:
    exact, rough = train(settings()), train(settings(precision="bfloat16"))
    assert rough[1]["final_loss"] != exact[1]["final_loss"]
    assert rough[1]["final_loss"] == pytest.approx(exact[1]["final_loss"], rel=0.1)
    assert {each.dtype for each in rough[0].parameters()} == {torch.float32}
    assert contents(rough[0]) == contents(train(settings(precision="bfloat16"))[0])


def test_training_tells_of_its_device() -> None:
    assert train(settings(steps=1, device="cpu"))[1]["device"] == "cpu"


def test_a_batch_for_the_cpu_is_not_copied() -> None:
    batch = Batch({"x": torch.ones(1)}, {})
    assert device.Compute(torch.device("cpu")).move(batch) is batch


def test_a_batch_goes_to_the_device_whole() -> None:
    batch = Batch({"x": torch.ones(1)}, {"label": torch.ones(1)})
    moved = device.Compute(torch.device("meta")).move(batch)
    assert moved.inputs["x"].device.type == moved.targets["label"].device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_on_a_gpu_a_training_repeats_itself_and_goes_on(precision: str, tmp_path: Any) -> None:
    given = settings(device="cuda", precision=precision, ema=0.9)
    whole = train(given)
    train(given, until=11, state=tmp_path)
    resumed = train(given, seed=1, start=tmp_path)
    assert contents(whole[0]) == contents(resumed[0]) and whole[1] == resumed[1]
    assert whole[1]["device"] == "cuda" and whole[1]["gpu"]
    assert {each.device.type for each in Learner().parameters()} == {"cpu"}
