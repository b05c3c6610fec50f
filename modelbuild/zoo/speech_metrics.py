"""By what the acoustic model is judged: how it sounds beside its teacher, and whether it voices what is voiced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from modelbuild import network
from modelbuild.zoo.acoustic import MILLISECONDS
from modelbuild.zoo.speech import VOICED, VOICELESS

Array = NDArray[Any]
Arrays = Mapping[str, Array]

# Frames by which the teacher's sounds come before those of their phonemes: its `voicing` on the validation data is
# 0.89 then, 0.79 with none and 0.69 with five.
LEAD = 2
DECIBELS = 20 / np.log(10)
CENTS = 1200 / np.log(2)
OCTAVE = 1200.0


def log_spectral_distance(outputs: Arrays, truth: Arrays) -> Array:
    """In dB, [n]: the root mean square over the bands, mean over the teacher's frames.

    Student and teacher speak at their own pace. So a frame of the teacher, at some share of its phoneme's duration,
    is held to the student's frame at the same share of the same phoneme: what is said is compared, and a difference
    in durations, which `duration_error` has, counts only as far as it bends a phoneme's course.
    """
    return _by_sample(_spectral, outputs, truth)


def duration_error(outputs: Arrays, truth: Arrays) -> Array:
    """In ms, [n]: the mean absolute difference of a phoneme's duration."""
    error = np.abs(outputs["durations"].astype(np.float64) - truth["durations"])
    mean: Array = MILLISECONDS * error.sum(1) / np.count_nonzero(truth["durations"], axis=1)
    return mean


def pitch_error(outputs: Arrays, truth: Arrays) -> Array:
    """In cents, [n]: the mean absolute difference of pitch over the frames that both have voiced, paired as in
    `log_spectral_distance`; an octave where there is no such frame.
    """
    return _by_sample(_pitch, outputs, truth)


def length_error(outputs: Arrays, truth: Arrays) -> Array:
    """The difference in the number of frames as a share of the teacher's, [n]."""
    return np.abs(outputs["frames"] / truth["frames"].astype(np.float64) - 1)


def voicing(outputs: Arrays, truth: Arrays, lead: int = LEAD) -> Array:
    """The share of phonemes that are voiced for most of their frames if they ought to be and for half of them at most
    if not, [n], by truth["label.voiced"], which is what phonology has settled. Sounds come `lead` frames early. The
    share is that of the voiced and that of the voiceless, halved: to voice everything, as most is, gives 0.5.
    """
    return _by_sample(lambda own, due: _voiced(own, due["label.voiced"], lead), outputs, truth)


def as_the_prototype(student: nn.Module, ids: Array, truth: Arrays) -> dict[str, float]:
    """The log-spectral distance in dB with the teacher's durations, "log_spectral_distance", and the error in ms of
    durations before they are rounded, "duration_error": not what ships, but comparable between students.
    """
    with torch.no_grad():
        found = network.named(student, student(torch.tensor(ids), durations=torch.tensor(truth["durations"])))
    outputs = {name: value.numpy() for name, value in found.items()}
    spoken = truth["durations"][:, : outputs["durations"].shape[1]]
    return {
        "log_spectral_distance": float(
            log_spectral_distance({**outputs, "durations": spoken}, {**truth, "durations": spoken}).mean()
        ),
        "duration_error": float(duration_error(outputs, {"durations": spoken}).mean()),
    }


def _by_sample(measure: Callable[[Arrays, Arrays], float], outputs: Arrays, truth: Arrays) -> Array:
    pairs = zip(_samples(outputs), _samples(truth), strict=True)
    return np.array([measure(own, due) for own, due in pairs], np.float64)


def _samples(arrays: Arrays) -> list[Arrays]:
    count = len(next(iter(arrays.values())))
    return [{name: array[row] for name, array in arrays.items()} for row in range(count)]


def _spectral(own: Arrays, due: Arrays) -> float:
    frames, length = _paired(own, due), int(due["frames"])
    error = own["spectrum"][frames].astype(np.float64) - due["spectrum"][:length]
    return float(DECIBELS * np.sqrt(np.square(error).mean(1)).mean())


def _pitch(own: Arrays, due: Arrays) -> float:
    frames, length = _paired(own, due), int(due["frames"])
    both = (own["voiced"][frames] > 0) & (due["voiced"][:length] > 0)
    ratio = np.maximum(own["pitch"][frames][both], 1.0) / due["pitch"][:length][both]
    return float(CENTS * np.abs(np.log(ratio)).mean()) if both.any() else OCTAVE


def _voiced(own: Arrays, label: Array, lead: int) -> float:
    phoneme = np.repeat(np.arange(len(label)), _whole(own["durations"]))[: int(own["frames"])]
    heard = own["voiced"][np.maximum(np.arange(len(phoneme)) - lead, 0)] > 0
    frames = np.bincount(phoneme, minlength=len(label))
    most = np.bincount(phoneme, heard, len(label)) > frames / 2
    right = (frames > 0) & (most == (label == VOICED))
    shares = [right[label == each].mean() for each in (VOICED, VOICELESS) if (label == each).any()]
    return float(np.mean(shares))


def _paired(own: Arrays, due: Arrays) -> Array:
    """The student's frame for each frame of the teacher."""
    durations, spoken = _whole(own["durations"]), _whole(due["durations"])
    begins, began = (np.cumsum(each) - each for each in (durations, spoken))
    phoneme = np.repeat(np.arange(len(spoken)), spoken)
    share = (np.arange(len(phoneme)) - began[phoneme] + 0.5) / spoken[phoneme]
    frames: Array = begins[phoneme] + np.floor(share * durations[phoneme]).astype(np.int64)
    return frames.clip(max=len(own["pitch"]) - 1)


def _whole(durations: Array) -> Array:
    whole: Array = np.maximum(np.rint(durations), 0).astype(np.int64)
    return whole
