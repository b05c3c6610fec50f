"""The lstm: cell and hidden state, peepholes, a bound on the cell, both directions (conventions: `recurrent`)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.kernels import kernel
from modelbuild.runtimes.coreml.evaluator.ops.recurrent import (
    Activation,
    activation_of,
    in_order,
    projected,
    sequence_of,
)

BOTH = "bidirectional"


class _Rule(NamedTuple):
    gate: Activation
    cell: Activation
    out: Activation
    clip: float | None


class _Weights(NamedTuple):
    """Of one direction; gates in the order input, forget, output, cell, peepholes input, forget, output."""

    ih: Tensor
    hh: Tensor
    bias: Tensor | None
    peephole: Tensor | None


class _State(NamedTuple):
    h: Tensor
    c: Tensor


@kernel("lstm")
def lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    arithmetic: Arithmetic,
    bias: Tensor | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None,
    bias_back: Tensor | None = None,
    peephole_back: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[Tensor, ...]:
    """c_t = f * c_(t-1) + i * z, h_t = o * activation(c_t); each direction has half of the states' last axis."""
    gate, cell, out = map(activation_of, (recurrent_activation, cell_activation, activation))
    rule = _Rule(gate, cell, out, clip)
    wide = arithmetic.wide
    ordered, start = in_order(wide(x), direction, (BOTH,)), _State(wide(initial_h), wide(initial_c))
    weights = [
        _Weights(wide(weight_ih), wide(weight_hh), _wide(bias, arithmetic), _wide(peephole, arithmetic))
    ]
    if direction == BOTH:
        if weight_ih_back is None or weight_hh_back is None:
            raise ValueError("a bidirectional lstm needs weight_ih_back and weight_hh_back")
        biases = _wide(bias_back, arithmetic), _wide(peephole_back, arithmetic)
        weights.append(_Weights(wide(weight_ih_back), wide(weight_hh_back), *biases))
    results = _results(ordered, start, weights, rule, output_sequence, arithmetic)
    return tuple(each.to(x.dtype) for each in results)


def _wide(x: Tensor | None, arithmetic: Arithmetic) -> Tensor | None:
    return None if x is None else arithmetic.wide(x)


def _results(
    x: Tensor, start: _State, weights: list[_Weights], rule: _Rule, every: bool, arithmetic: Arithmetic
) -> tuple[Tensor, ...]:
    """The sequence (every hidden state, or the last one alone) and the last states."""
    plain = rule == (torch.sigmoid, torch.tanh, torch.tanh, None) and all(w.peephole is None for w in weights)
    if plain and x.shape[0] > 1 and x.dtype == torch.float32:
        return _by_torch(x, start, weights, every)
    if len(weights) == 1:
        steps, end = _one_way(x, start, weights[0], rule, arithmetic)
        return sequence_of(steps, end.h, every), *end
    (h, h_back), (c, c_back) = start.h.chunk(2, -1), start.c.chunk(2, -1)
    steps, end = _one_way(x, _State(h, c), weights[0], rule, arithmetic)
    steps_back, end_back = _one_way(x.flip(0), _State(h_back, c_back), weights[1], rule, arithmetic)
    forth, beside = sequence_of(steps, end.h, every), sequence_of(steps_back[::-1], end_back.h, every)
    return tuple(torch.cat(pair, -1) for pair in ((forth, beside), (end.h, end_back.h), (end.c, end_back.c)))


def _one_way(
    x: Tensor, start: _State, weights: _Weights, rule: _Rule, arithmetic: Arithmetic
) -> tuple[list[Tensor], _State]:
    """Every hidden state in order, and the last states."""
    gate, cell, out, clip = rule
    h, c = start
    inputs = projected(x, weights.ih, weights.bias, arithmetic)
    recurrent, steps = weights.hh.t(), []
    peepholes = None if weights.peephole is None else weights.peephole.chunk(3, -1)
    for given in inputs.unbind(0):
        to_input, to_forget, to_output, to_cell = (given + arithmetic.dot(h, recurrent)).chunk(4, -1)
        if peepholes:
            to_input, to_forget = to_input + peepholes[0] * c, to_forget + peepholes[1] * c
        c = gate(to_forget) * c + gate(to_input) * cell(to_cell)
        if clip is not None:
            c = torch.clamp(c, -clip, clip)
        if peepholes:
            to_output = to_output + peepholes[2] * c
        h = gate(to_output) * out(c)
        steps.append(h)
    return steps, _State(h, c)


def _by_torch(x: Tensor, start: _State, weights: list[_Weights], every: bool) -> tuple[Tensor, ...]:
    """The usual form of the layer, by PyTorch's kernel, which is several times faster on long sequences."""
    count = len(weights)
    flat: list[Tensor] = []
    for each in weights:
        bias = each.bias if each.bias is not None else each.hh.new_zeros(each.hh.shape[0])
        ordered = [_in_torch_order(part) for part in (each.ih, each.hh, bias)]
        flat += [*ordered, torch.zeros_like(bias)]
    states = tuple(torch.stack(state.chunk(count, -1)) for state in start)
    sequence, *ends = torch.lstm(x, states, flat, True, 1, 0.0, False, count == 2, False)
    h, c = (torch.cat(end.unbind(0), -1) for end in ends)
    return sequence if every else h.unsqueeze(0), h, c


def _in_torch_order(weight: Tensor) -> Tensor:
    """Gates in PyTorch's order: input, forget, cell, output."""
    to_input, to_forget, to_output, to_cell = weight.chunk(4)
    return torch.cat((to_input, to_forget, to_cell, to_output))
