"""Recurrent layers: rnn and gru here, and what they share with the lstm.

Formulas, gate orders and bias roles are those of the MIL op definitions. Where those leave a choice open, Core ML's
own behaviour, as coremltools' tests against it record it, decides:
- A layer of direction "reverse" gives its sequence in the order in which it went, the last input first. Only the
  backward half of "bidirectional" is turned round, to stand beside the forward half.
- `clip` bounds the cell state, not the cell gate alone.
- "scaled_tanh" is 1 * tanh(1 * x) and "hard_sigmoid" clamp(0.2 * x + 0.5, 0, 1): no other factors can be stated.

With float32 accumulation a layer works in float32 from end to end and rounds its results once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.kernels import kernel

Activation = Callable[[Tensor], Tensor]


def _hard_sigmoid(x: Tensor) -> Tensor:
    return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


def _linear(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: Mapping[str, Activation] = {
    "hard_sigmoid": _hard_sigmoid,
    "linear": _linear,
    "relu": torch.relu,
    "scaled_tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sigmoid_hard": _hard_sigmoid,
    "tanh": torch.tanh,
}


def activation_of(name: str) -> Activation:
    """The function that a program means by `name`, in whichever case it is written."""
    """The activation that a recurrent layer calls `name`, in any case of its letters."""
    if name.lower() not in ACTIVATIONS:
        raise ValueError(f'activation "{name}" is not one of {", ".join(sorted(ACTIVATIONS))}')
    return ACTIVATIONS[name.lower()]


def in_order(x: Tensor, direction: str, also: tuple[str, ...] = ()) -> Tensor:
    """`x` in the order in which a layer of `direction` reads it."""
    if direction not in ("forward", "reverse", *also):
        raise ValueError(f'direction "{direction}" is not one of {", ".join(("forward", "reverse", *also))}')
    return x.flip(0) if direction == "reverse" else x


def projected(x: Tensor, weight: Tensor, bias: Tensor | None, arithmetic: Arithmetic) -> Tensor:
    """What the inputs add to the gates, of every step at once."""
    result = arithmetic.dot(x, weight.t())
    return result if bias is None else result + arithmetic.wide(bias)


def sequence_of(steps: list[Tensor], last: Tensor, output_sequence: bool) -> Tensor:
    """The first result: every hidden state, or the last one as a sequence of one."""
    if not output_sequence:
        return last.unsqueeze(0)
    return torch.stack(steps) if steps else last.new_empty((0, *last.shape))


@kernel("rnn")
def rnn(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    arithmetic: Arithmetic,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[Tensor, Tensor]:
    """h_t = activation(W_ih x_t + W_hh h_(t-1) + b)."""
    act, wide = activation_of(activation), arithmetic.wide
    inputs = projected(in_order(wide(x), direction), wide(weight_ih), bias, arithmetic)
    h, recurrent = wide(initial_h), wide(weight_hh).t()
    steps = []
    for given in inputs.unbind(0):
        h = act(given + arithmetic.dot(h, recurrent))
        steps.append(h)
    return sequence_of(steps, h, output_sequence).to(x.dtype), h.to(x.dtype)


@kernel("gru")
def gru(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    arithmetic: Arithmetic,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = (1 - z) * o + z * h_(t-1), gates in the order reset, output, update.

    The reset gate scales h_(t-1) before W_ho multiplies it; with `reset_after` it scales W_ho h_(t-1) + b_o, and
    `bias` belongs to the hidden side alone, `input_bias` to that of the inputs (as in PyTorch).
    """
    gate, act, wide = activation_of(recurrent_activation), activation_of(activation), arithmetic.wide
    inputs = projected(in_order(wide(x), direction), wide(weight_ih), input_bias, arithmetic)
    if bias is not None and not reset_after:
        inputs = inputs + wide(bias)
    step = _gru_reset_after if reset_after else _gru_reset_before
    after = wide(bias) if bias is not None and reset_after else None
    h, recurrent = wide(initial_h), _GruWeights.of(wide(weight_hh), after)
    steps = []
    for given in inputs.unbind(0):
        h = step(given, h, recurrent, gate, act, arithmetic)
        steps.append(h)
    return sequence_of(steps, h, output_sequence).to(x.dtype), h.to(x.dtype)


class _GruWeights(NamedTuple):
    """The hidden side: the matrix of all three gates and of each, transposed, and the bias that is its own."""

    every: Tensor
    reset: Tensor
    output: Tensor
    update: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> _GruWeights:
        reset, output, update = weight.t().chunk(3, -1)
        return cls(weight.t(), reset, output, update, bias)


def _gru_reset_before(
    given: Tensor, h: Tensor, weights: _GruWeights, gate: Activation, act: Activation, arithmetic: Arithmetic
) -> Tensor:
    to_reset, to_output, to_update = given.chunk(3, -1)
    reset = gate(to_reset + arithmetic.dot(h, weights.reset))
    update = gate(to_update + arithmetic.dot(h, weights.update))
    output = act(to_output + arithmetic.dot(reset * h, weights.output))
    return (1 - update) * output + update * h


def _gru_reset_after(
    given: Tensor, h: Tensor, weights: _GruWeights, gate: Activation, act: Activation, arithmetic: Arithmetic
) -> Tensor:
    hidden = arithmetic.dot(h, weights.every)
    if weights.bias is not None:
        hidden = hidden + weights.bias
    to_reset, to_output, to_update = given.chunk(3, -1)
    by_reset, by_output, by_update = hidden.chunk(3, -1)
    reset, update = gate(to_reset + by_reset), gate(to_update + by_update)
    output = act(to_output + reset * by_output)
    return (1 - update) * output + update * h
