"""An ONNX model that others made, out of a distribution of a package index; see tests/coreml/third_party.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

NAME = "coreml_third_party"  # tests/coreml is no package, and pytest may have imported its files by their own names


def _downloads() -> ModuleType:
    if NAME not in sys.modules:
        path = Path(__file__).with_name("coreml") / "third_party.py"
        spec = importlib.util.spec_from_file_location(NAME, path)
        assert spec is not None and spec.loader is not None
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
    return sys.modules[NAME]


def basic_pitch() -> Path:
    """nmp.onnx, a note transcriber (Apache-2.0), opset 15: sound [n, 43844, 1] at 22,050 Hz -> three outputs."""
    third_party = _downloads()
    return Path(third_party.fetched(third_party.BASIC_PITCH)) / f"{third_party.NMP}.onnx"


SOUND = "serving_default_input_2:0"
NOTES = "StatefulPartitionedCall:1"
ONSETS = "StatefulPartitionedCall:2"
CONTOURS = "StatefulPartitionedCall:0"


def chords(samples: int = 3) -> dict[str, np.ndarray]:
    """Two notes each, over a noise floor: the model takes logarithms, and those of silence are rounding."""
    seconds = np.arange(43844) / 22050
    rng, found = np.random.default_rng(0), []
    for index in range(samples):
        pitches = [110 * 2 ** (step / 12) for step in (7 * index, 7 * index + 4)]
        tones = [np.sin(2 * np.pi * pitch * n * seconds + n) / n for pitch in pitches for n in range(1, 6)]
        found.append(0.1 * sum(tones) + 0.03 * rng.standard_normal(seconds.shape))
    return {SOUND: np.stack(found).astype(np.float32)[..., None]}
