"""The moving average of the weights, which is steadier than the last of them."""

from __future__ import annotations

from torch.optim.swa_utils import get_ema_multi_avg_fn

from modelbuild.training.weights import Weights


class Average:
    """Of every parameter and floating buffer: average = d * average + (1 - d) * now, after each step.

    Sources: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992), average the steps;
    the exponential form is that of Tarvainen and Valpola, "Mean teachers", arXiv:1703.01780, section 2. Buffers are
    averaged too, so that running statistics belong to the weights they stand beside. Young averages forget faster,
    d = min(decay, (1 + step) / (10 + step)), as TensorFlow's ExponentialMovingAverage has it with `num_updates`:
    else a short training would ship what it began with.
    """

    def __init__(self, weights: Weights, decay: float) -> None:
        self._weights, self._decay = weights, decay
        self.values = {name: each for name, each in weights.copy().items() if each.is_floating_point()}

    def update(self, step: int) -> None:
        """Take in the weights as they are after `step` (1, 2, ...)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        now = list(self._weights.live(self.values).values())
        get_ema_multi_avg_fn(decay)(list(self.values.values()), now, step)
