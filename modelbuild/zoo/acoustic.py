"""The acoustic model of a text-to-speech system: phonemes in, a spectrogram with pitch and voicing out.

How many frames come out depends on what goes in. The outputs have a fixed number of them all the same, 0 past the
end, and say how many are real: so every runtime can plan its memory. What stretches phonemes to frames are products
with matrices of 0 and 1, exact in any arithmetic that holds the number of frames.

Source: the length regulator of Ren et al., "FastSpeech", arXiv:1905.09263, section 3.3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PADDING = 178  # the teacher's vocabulary ends at 177
VOCABULARY = PADDING + 1
BANDS = 64
MILLISECONDS = 12.5  # of a frame
STEP = 2  # frames: the teacher counts durations in 25 ms
# The mean of each band of the teacher's log spectrum over the frames of the training data, to a tenth, and the
# standard deviation of all its numbers; then the same of the logarithm of the pitch in Hz, where there is one.
MEAN = (
    -2.7, -5.3, -3.9, -3.6, -3.3, -2.4, -1.5, -0.8, -0.7, -0.4, -0.3, -0.3, 0.0, -0.2, -0.4, -1.1,
    -1.9, -1.8, -1.8, -1.7, -1.6, -1.6, -1.3, -1.5, -1.7, -2.1, -2.3, -2.5, -2.5, -2.6, -2.9, -3.1,
    -3.1, -4.0, -3.7, -4.0, -4.3, -4.4, -5.6, -4.5, -4.7, -4.8, -4.4, -4.4, -4.4, -4.9, -5.1, -5.5,
    -5.5, -5.3, -5.4, -5.2, -6.6, -6.8, -6.7, -7.3, -8.4, -7.0, -6.3, -6.9, -6.9, -6.7, -6.2, -6.2,
)  # fmt: skip
DEVIATION = 3.0
LOG_PITCH_MEAN, LOG_PITCH_DEVIATION = 5.25, 0.25
FEWEST = 0.5  # steps of a phoneme: rounded up, it lasts one


class Acoustic(nn.Module):
    """Convolutions over phonemes, which say how long each lasts; then convolutions over frames of 12.5 ms.

    Input: ids [n, phonemes] int64, filled up with PADDING. Outputs, 0 past the end: "spectrum" [n, frames, 64], the
    natural logarithm of the magnitude in bands of frequency; "pitch" [n, frames] in Hz; "voiced" [n, frames], the
    log-odds of being voiced; "durations" [n, phonemes] and "frames" [n], both int64, how many frames each phoneme
    lasts and there are. What would go on after `frames`, an even number, is cut off.

    Given the `durations` of a teacher, the phonemes last as long as those say, the outputs end with the longest
    sample, and "durations" are what would have been said here, not rounded, so that there is a gradient.
    """

    output_names = ("spectrum", "pitch", "voiced", "durations", "frames")

    def __init__(self, width: int = 96, depth: int = 3, kernel: int = 5, frames: int = 448) -> None:
        super().__init__()
        self.text = Text(width, depth, kernel)
        self.regulator = Regulator(width)
        self.voice = Voice(width, depth, kernel)
        self.steps = frames // STEP

    def forward(self, ids: Tensor, durations: Tensor | None = None) -> tuple[Tensor, ...]:
        if durations is None:
            hidden, predicted = self.text(ids)
            spread, present, steps = self.regulator(hidden, predicted, self.steps)
            lasting = (steps * STEP).to(torch.int64)
        else:
            longest = int((ids != PADDING).sum(1).max())
            hidden, predicted = self.text(ids[:, :longest])
            steps = durations[:, :longest] / STEP
            spread, present = self.regulator.spread(hidden, steps, int(steps.sum(1).max()))
            lasting = predicted * STEP
        frames = (present.sum(1) * STEP).to(torch.int64)
        return *self.voice(spread, present), lasting, frames


class Text(nn.Module):
    """What is spoken: ids [n, phonemes] to the state of each phoneme [n, phonemes, width] and how many steps it lasts
    [n, phonemes], not rounded, 0 at padding.
    """

    def __init__(self, width: int, depth: int, kernel: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList(Block(width, kernel) for _ in range(depth))
        self.length = nn.Linear(width, 1)
        nn.init.zeros_(self.length.weight)
        nn.init.zeros_(self.length.bias)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        present = (ids != PADDING).to(torch.float32)
        hidden = self.embedding(ids)
        for block in self.blocks:
            hidden = block(hidden, present)
        return hidden, (FEWEST + torch.exp(self.length(hidden)[:, :, 0])) * present


class Regulator(nn.Module):
    """Phonemes to steps of time: each state as often as its phoneme lasts, and where in the phoneme a step is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.place = nn.Linear(3, width)

    def forward(self, hidden: Tensor, predicted: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """The two of `spread`, and the steps [n, phonemes] that they are laid out by: rounded."""
        steps = torch.floor(predicted + 0.5)
        return *self.spread(hidden, steps, length), steps

    def spread(self, hidden: Tensor, steps: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """[n, length, width], and [n, length] which is 1 up to a sample's end; `steps` are whole numbers."""
        number = torch.arange(steps.shape[1], device=steps.device)
        ends = steps @ (number[:, None] <= number).to(steps.dtype)
        begins = ends - steps
        time = torch.arange(length, device=steps.device, dtype=steps.dtype)[:, None]
        chosen = ((time >= begins[:, None, :]) & (time < ends[:, None, :])).to(steps.dtype)
        begun, lasting = (chosen @ each[:, :, None] for each in (begins, steps))
        present = chosen.sum(2)
        into = time + 0.5 - begun
        share = into / (lasting + 1 - present[:, :, None])  # no division by 0 past the end
        return chosen @ hidden + self.place(torch.cat((share, 0.2 * into, 0.2 * lasting), 2)), present


class Voice(nn.Module):
    """How it sounds: [n, steps, width] to spectrum [n, frames, 64], pitch [n, frames] and voicing [n, frames]."""

    scale: Tensor
    offset: Tensor

    def __init__(self, width: int, depth: int, kernel: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, kernel) for _ in range(depth))
        self.head = nn.Linear(width, STEP * (BANDS + 2))
        scale = (*[DEVIATION] * BANDS, LOG_PITCH_DEVIATION, 1.0)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.register_buffer("offset", torch.tensor((*MEAN, LOG_PITCH_MEAN, 0.0)), persistent=False)

    def forward(self, spread: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for block in self.blocks:
            spread = block(spread, present)
        frames = self.head(spread).unflatten(2, (STEP, BANDS + 2)) * self.scale + self.offset
        spectrum, log_pitch, voiced = frames.split((BANDS, 1, 1), 3)
        every = torch.cat((spectrum, torch.exp(log_pitch), voiced), 3) * present[:, :, None, None]
        every = every.flatten(1, 2)
        return every[:, :, :BANDS], every[:, :, BANDS], every[:, :, BANDS + 1]


class Block(nn.Module):
    """x + SiLU(convolution(normalisation(x))), for x [n, length, width]; `present` [n, length] is 0 past the end.

    What lies there is read as 0, so that an answer does not depend on how far a sample is filled up.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        seen = self.norm(x) * present[:, :, None]
        return x + F.silu(self.convolution(seen.transpose(1, 2))).transpose(1, 2)
