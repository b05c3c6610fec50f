"""The learning rate and momentum of every step, as a function of its number alone."""

from __future__ import annotations

import math
from typing import NamedTuple

from modelbuild.training.settings import SWING, Settings

LOW = 1 / 25  # of the peak: where one_cycle begins and comes back to
TAIL = 0.1  # of the steps: where one_cycle goes on down
FLOOR = LOW / 100  # of the peak: where one_cycle ends


class Point(NamedTuple):
    """What a step is taken with; `momentum` is None where it stays what the optimiser was built with."""

    lr: float
    momentum: float | None = None


def at(step: int, settings: Settings) -> Point:
    """Rate and momentum of step 1..steps.

    All three rise linearly over the first `warm_up` of the steps (Goyal et al., arXiv:1706.02677, section 2.2);
    "constant" then stays there.
    """
    steps, peak = settings.steps, settings.lr
    rise = max(1, round(settings.warm_up * steps))
    if settings.schedule == "one_cycle":
        return one_cycle(step, steps, rise, peak, settings.momentum)
    if step <= rise:
        return Point(peak * step / rise)
    return Point(cosine(step, steps, rise, peak) if settings.schedule == "cosine" else peak)


def cosine(step: int, steps: int, rise: int, peak: float) -> float:
    """Half a cosine from `peak` at step `rise` down to 0, just after the last step.

    Source: Loshchilov and Hutter, "SGDR", arXiv:1608.03983, equation 5 (one cycle, minimum 0).
    """
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise + 1)))


def one_cycle(step: int, steps: int, rise: int, peak: float, momentum: float) -> Point:
    """Up to `peak`, down again, and in the last tenth far below; the momentum goes the other way.

    Source: Smith and Topin, "Super-Convergence", arXiv:1708.07120, section 4 (linear both ways; the last steps
    fall "several orders of magnitude below"), with a momentum of 0.95 to 0.85 and back (Smith, arXiv:1803.09820,
    section 4.2), here `momentum` with a swing of 0.05. Theirs is symmetric: a `warm_up` of 0.45.
    """
    low, turn = peak * LOW, max(rise, steps - round(TAIL * steps))
    if step <= rise:
        rate = low + (peak - low) * step / rise
    elif step <= turn:
        rate = peak - (peak - low) * (step - rise) / (turn - rise)
    else:
        rate = low - (low - peak * FLOOR) * (step - turn) / (steps - turn)
    height = max(0.0, (rate - low) / (peak - low))
    return Point(rate, momentum + SWING - 2 * SWING * height)
