"""What the acoustic model is trained to make small: its distance from the teacher, or from phonology alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from modelbuild.zoo.acoustic import DEVIATION, LOG_PITCH_DEVIATION, STEP
from modelbuild.zoo.speech import UNSETTLED, VOICED

Tensors = Mapping[str, Tensor]


def acoustic_loss(
    outputs: Tensors,
    teacher: Tensors,
    inputs: Tensors,
    spectrum: float = 1.0,
    durations: float = 0.3,
    pitch: float = 0.5,
    voiced: float = 0.1,
) -> Tensor:
    """The distance from what the teacher said, the student having been given its durations: four parts, weighed.

    spectrum: root mean square over the bands, as the log-spectral distance has it, mean over frames; durations: mean
    absolute difference in steps, before rounding; pitch: mean absolute difference of its logarithm where there are
    pulses, both in standard deviations; voiced: cross-entropy. Frames and phonemes of padding count nowhere.
    """
    length = outputs["spectrum"].shape[1]
    due = {name: teacher[name][:, :length] for name in ("spectrum", "pitch", "voiced")}
    real = (torch.arange(length, device=due["pitch"].device) < teacher["frames"][:, None]).float()
    error = (outputs["spectrum"] - due["spectrum"].float()) / DEVIATION
    log_pitch, log_due = (each["pitch"].clamp(min=1).log() for each in (outputs, due))
    cross_entropy = F.binary_cross_entropy_with_logits(outputs["voiced"], due["voiced"], reduction="none")
    unrounded = teacher["unrounded"][:, : outputs["durations"].shape[1]]
    return (
        spectrum * _mean((error.square().mean(2) + 1e-4).sqrt(), real)  # the root of 0 has no gradient
        + durations * _mean((outputs["durations"] - unrounded).abs() / STEP, (unrounded > 0).float())
        + pitch * _mean((log_pitch - log_due).abs() / LOG_PITCH_DEVIATION, real * (due["pitch"] > 0))
        + voiced * _mean(cross_entropy, real)
    )


def voicing_loss(outputs: Tensors, truths: Tensors, inputs: Tensors) -> Tensor:
    """What phonology alone has to teach: cross-entropy of each settled phoneme's mean log-odds of being voiced.

    For a student that is not given durations: its own say which frames are the phoneme's.
    """
    label, ends = truths["label.voiced"], outputs["durations"].detach().cumsum(1)
    begins = torch.cat((torch.zeros_like(ends[:, :1]), ends[:, :-1]), 1)
    frame = torch.arange(outputs["voiced"].shape[1], device=ends.device)[:, None]
    own = ((frame >= begins[:, None, :]) & (frame < ends[:, None, :])).float()
    log_odds = (outputs["voiced"][:, None, :] @ own)[:, 0] / own.sum(1).clamp(min=1)
    cross_entropy = F.binary_cross_entropy_with_logits(log_odds, (label == VOICED).float(), reduction="none")
    return _mean(cross_entropy, (label != UNSETTLED).float())


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)
