"""What the acoustic model learns from: sentences as phonemes, and what the teacher says of them.

The teacher is the ONNX model of the package hibari-tts. It shapes three sounds for every frame of 12.5 ms: pulses at
the pitch, noise, and a part with a phase of its own. The student learns the envelope of the pulses, the pitch, which
frames are voiced, and how long each phoneme lasts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.zoo.acoustic import BANDS, MILLISECONDS, PADDING, STEP

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Run = Callable[[Arrays, Sequence[str]], list[Array]]

PLACE = "modelbuild.zoo.speech"
SIZES = {"test": 64, "validation": 100}  # sentences; the rest are for training
SENTENCE = re.compile(r"[A-Za-z ,']{25,70}")
PHONEMES = 96  # of a sentence with the silence around it; the longest of these has 80

# What phonology says of the phonemes, in the teacher's alphabet. The rest are unsettled: b d g v and their like are
# voiced in part or not at all at the ends of words, h is voiced between vowels, and marks and spaces are no sounds.
VOICELESS, VOICED, UNSETTLED = 0, 1, 2
SOUNDS = {VOICELESS: "ptkfθsʃʧ", VOICED: "AIOQWYaeiouæɑɐɒɔəɚɛɜɨɪʊʌᵊᵻlɹwjmnŋ"}  # noqa: RUF001

# The file's own names: envelopes of pulses, noise and the free part, pitch, and durations rounded and not, in steps.
VALUES = ("lh", "ln", "lr", "f0", "/Clip_output_0", "/Div_40_output_0")
BINS = 601  # of 20 Hz
LOW = 50  # bins, up to 1 kHz
PULSES = 40.0  # Hz; the teacher gives no pulses below


# -- data


def load(part: str, text: Path, phonemes: int = PHONEMES, limit: int | None = None) -> dict[str, Array]:
    """The sentences of one part: "ids" [n, phonemes] int64, filled up with PADDING, and "label.voiced" of that shape,
    VOICED, VOICELESS or UNSETTLED.

    `text` has a sentence a line: category, "example" or "gloss", text. Examples of 25 to 70 letters are taken, 64 as
    "test", 100 as "validation" and the rest as "train", always the same; of these the first `limit`. Raises
    RecipeError for another part, a sentence of more phonemes, no sentence, or when hibari-tts is not installed.
    """
    known = ("train", *SIZES)
    if part not in known:
        raise RecipeError(
            f"{PLACE}:load", f'part "{part}" is not one of {", ".join(known)}', did_you_mean(part, [*known])
        )
    pronounce, vocabulary = _pronunciation()
    said = [pronounce(sentence) for sentence in _sentences(part, text)[:limit]]
    ids = np.full((len(said), phonemes), PADDING, np.int64)
    for row, found in zip(ids, said, strict=True):
        numbers = [0, *(vocabulary[each] for each in found if each in vocabulary), 0]
        if len(numbers) > phonemes:
            fact = f'"{found}" has {len(numbers)} phonemes with the silence around it, and {phonemes} fit'
            raise RecipeError(f"{PLACE}:load", fact, "Raise phonemes")
        row[: len(numbers)] = numbers
    return {"ids": ids, "label.voiced": _voicing(vocabulary)[ids]}


def _sentences(part: str, text: Path) -> list[str]:
    lines = (line.split("\t") for line in text.read_text(encoding="utf-8").splitlines())
    found = [
        line[2] for line in lines if len(line) == 3 and line[1] == "example" and SENTENCE.fullmatch(line[2])
    ]
    order, ends = np.random.default_rng(0).permutation(len(found)), np.cumsum([*SIZES.values()])
    rows = dict(zip((*SIZES, "train"), np.split(order, ends), strict=True))[part]
    if not len(rows):
        fact = f'{text.name} has {len(found)} sentences of 25 to 70 letters, and none is left for "{part}"'
        raise RecipeError(f"{PLACE}:load", fact, "A line is: category, tab, example, tab, sentence")
    return [found[row] for row in rows]


def _pronunciation() -> tuple[Callable[[str], str], dict[str, int]]:
    """From a sentence to its phonemes, one character each, and the teacher's number of each."""
    try:
        from hibari.g2p import ASSETS, G2P
    except ImportError as error:
        remedy = "Run: pip install 'modelbuild[examples]'"
        raise RecipeError(f"{PLACE}:load", "hibari-tts is not installed", remedy) from error
    vocabulary: dict[str, int] = json.loads((Path(ASSETS) / "vocab.json").read_text(encoding="utf-8"))
    return G2P(), vocabulary


def _voicing(vocabulary: Mapping[str, int]) -> Array:
    """VOICED, VOICELESS or UNSETTLED, by the number of the phoneme."""
    by_number = np.full(PADDING + 1, UNSETTLED, np.int64)
    for voicing, sounds in SOUNDS.items():
        by_number[[vocabulary[each] for each in sounds]] = voicing
    return by_number


# -- the teacher


def through(run: Run, inputs: Arrays, frames: int = 448) -> dict[str, Array]:
    """The teacher's answers on inputs["ids"] [n, phonemes], one sentence a call, 0 past the end of each.

    "durations" [n, phonemes] int64 in frames, and "unrounded" before the teacher rounded them; "frames" [n] int64,
    how many there are; "spectrum" [n, frames, 64] float16, which is 0.03 dB at most and half the memory: the mean
    over each band of the logarithm of the pulses' envelope; "pitch" [n, frames] in Hz, 0 where there are no pulses;
    "voiced" [n, frames] float32, 1 where there are and they are louder than the rest of the sound below 1 kHz.
    Raises RecipeError for a sentence that lasts longer than `frames`.
    """
    count, phonemes = inputs["ids"].shape
    said: dict[str, Array] = {
        "durations": np.zeros((count, phonemes), np.int64),
        "unrounded": np.zeros((count, phonemes), np.float32),
        "frames": np.zeros(count, np.int64),
        "spectrum": np.zeros((count, frames, BANDS), np.float16),
        "pitch": np.zeros((count, frames), np.float32),
        "voiced": np.zeros((count, frames), np.float32),
    }
    for row, ids in enumerate(inputs["ids"]):
        ids = ids[ids != PADDING]
        found = run({"ids": ids[None], "speed": np.ones(1, np.float32)}, VALUES)
        pulses, noise, free, pitch, steps, unrounded = (each.squeeze() for each in found)
        length = len(pitch)
        if length > frames:
            fact = f"sentence {row} lasts {length} frames of {MILLISECONDS} ms, and {frames} fit"
            raise RecipeError(f"{PLACE}:through", fact, "Raise frames, of the student too, or leave it out")
        said["frames"][row] = length
        said["durations"][row, : len(ids)] = STEP * steps
        said["unrounded"][row, : len(ids)] = STEP * unrounded
        said["spectrum"][row, :length] = _banded(pulses)
        said["pitch"][row, :length] = np.where(pitch > PULSES, pitch, 0)
        louder = _low(pulses) > np.logaddexp(_low(noise), _low(free))
        said["voiced"][row, :length] = louder & (pitch > PULSES)
    return said


def _banded(envelope: Array) -> Array:
    """[601 bins, frames] to [frames, 64 bands]: single bins up to 480 Hz, then bands of equal ratio."""
    edges = np.unique(np.rint([*range(24), *np.geomspace(24, BINS, BANDS - 23)]).astype(int))
    return (np.add.reduceat(envelope, edges[:-1]) / np.diff(edges)[:, None]).T


def _low(envelope: Array) -> Array:
    """The logarithm of the power below 1 kHz, [frames]."""
    power: Array = np.log(np.exp(2.0 * envelope[:LOW]).sum(0))
    return power
