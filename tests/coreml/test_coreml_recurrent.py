"""Recurrent layers: rounding at every step, sequences of no step, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.ops.lstm import lstm
from modelbuild.runtimes.coreml.evaluator.ops.recurrent import gru, rnn

rng = np.random.default_rng(8)
STEPWISE, WIDE = Arithmetic("float16"), Arithmetic("float32")
GIVEN, H = 5, 3


def halves(*shape):
    return rng.uniform(-1, 1, shape).astype(np.float16)


def dot(weight, x):
    """W x, where every product is added and rounded in turn."""
    result = np.zeros(len(weight), np.float16)
    for row, numbers in enumerate(weight):
        total = np.float16(0)
        for a, b in zip(numbers, x, strict=True):
            total = np.float16(np.float32(total) + np.float32(a) * np.float32(b))
        result[row] = total
    return result


def tensors(*arrays):
    return [torch.from_numpy(np.array(each)) for each in arrays]


def test_an_rnn_in_half_precision_is_rounded_at_every_step() -> None:
    x, h, w, u, b = halves(4, 1, GIVEN), halves(1, H), halves(H, GIVEN), halves(H, H), halves(H)
    found, _ = rnn(*tensors(x, h, w, u), STEPWISE, *tensors(b), output_sequence=True, activation="relu")
    state = h[0]
    for given, got in zip(x[:, 0], found[:, 0].numpy(), strict=True):
        state = np.maximum((dot(w, given) + b) + dot(u, state), 0)
        np.testing.assert_array_equal(got, state, strict=True)


@pytest.mark.parametrize("reset_after", [False, True])
def test_a_gru_in_half_precision_is_rounded_at_every_step(reset_after) -> None:
    x, h, w, u, b = halves(4, 1, GIVEN), halves(1, H), halves(3 * H, GIVEN), halves(3 * H, H), halves(3 * H)
    more = {"recurrent_activation": "relu", "activation": "linear", "reset_after": reset_after}
    found, _ = gru(*tensors(x, h, w, u), STEPWISE, *tensors(b), output_sequence=True, **more)
    (w_r, w_o, w_z), (u_r, u_o, u_z), (b_r, b_o, b_z) = (np.split(each, 3) for each in (w, u, b))
    state, none = h[0], np.float16(0)
    for given, got in zip(x[:, 0], found[:, 0].numpy(), strict=True):
        inside, outside = ((b_r, b_o, b_z), (none,) * 3)[:: 1 if reset_after else -1]
        r = np.maximum((dot(w_r, given) + outside[0]) + (dot(u_r, state) + inside[0]), 0)
        z = np.maximum((dot(w_z, given) + outside[2]) + (dot(u_z, state) + inside[2]), 0)
        hidden = r * (dot(u_o, state) + inside[1]) if reset_after else dot(u_o, r * state)
        o = (dot(w_o, given) + outside[1]) + hidden
        state = (np.float16(1) - z) * o + z * state
        np.testing.assert_array_equal(got, state, strict=True)


def test_an_lstm_in_half_precision_is_rounded_at_every_step() -> None:
    x, h, c, w, u = halves(4, 1, GIVEN), halves(1, H), halves(1, H), halves(4 * H, GIVEN), halves(4 * H, H)
    names = ("recurrent_activation", "cell_activation", "activation")
    more = dict.fromkeys(names, "linear")
    found, _, end = lstm(*tensors(x, h, c, w, u), STEPWISE, output_sequence=True, **more)
    state, cell = h[0], c[0]
    for given, got in zip(x[:, 0], found[:, 0].numpy(), strict=True):
        i, f, o, z = np.split(dot(w, given) + dot(u, state), 4)
        cell = f * cell + i * z
        state = o * cell
        np.testing.assert_array_equal(got, state, strict=True)
    np.testing.assert_array_equal(end[0].numpy(), cell, strict=True)


@pytest.mark.parametrize("every", [False, True])
def test_a_sequence_of_no_step_leaves_the_states_as_they_are(every) -> None:
    x, h, c = torch.zeros(0, 2, GIVEN), torch.rand(2, H), torch.rand(2, H)
    both = torch.cat((h, h), -1)
    weights = {n: [torch.rand(n * H, k) for k in (GIVEN, H)] for n in (1, 3, 4)}
    back = dict(zip(("weight_ih_back", "weight_hh_back"), weights[4], strict=True))
    for sequence, last, *cells in (
        rnn(x, h, *weights[1], WIDE, output_sequence=every),
        gru(x, h, *weights[3], WIDE, output_sequence=every),
        lstm(x, h, c, *weights[4], WIDE, output_sequence=every),
        lstm(x, both, both, *weights[4], WIDE, output_sequence=every, direction="bidirectional", **back),
    ):
        wanted = both if last.shape[-1] == 2 * H else h
        assert torch.equal(last, wanted) and (not every or sequence.shape == (0, *wanted.shape))
        assert every or torch.equal(sequence, wanted[None])
        assert all(torch.equal(each, c if each.shape == c.shape else both) for each in cells)


def test_names_of_activations_may_be_in_capitals() -> None:
    x, h, w, u = torch.rand(2, 1, GIVEN), torch.rand(1, H), torch.rand(H, GIVEN), torch.rand(H, H)
    found, wanted = (rnn(x, h, w, u, WIDE, activation=name)[0] for name in ("RELU", "relu"))
    assert torch.equal(found, wanted)


def test_what_is_no_activation_or_direction_is_refused() -> None:
    x, h, w, u = torch.rand(2, 1, GIVEN), torch.rand(1, H), torch.rand(H, GIVEN), torch.rand(H, H)
    for call in (
        lambda **more: rnn(x, h, w, u, WIDE, **more),
        lambda **more: gru(x, h, w.repeat(3, 1), u.repeat(3, 1), WIDE, **more),
        lambda **more: lstm(x, h, h, w.repeat(4, 1), u.repeat(4, 1), WIDE, **more),
    ):
        with pytest.raises(ValueError, match='activation "swish" is not one of hard_sigmoid, linear, relu'):
            call(activation="swish")
        with pytest.raises(ValueError, match='direction "backward" is not one of forward, reverse'):
            call(direction="backward")
    for call in (rnn, gru):
        with pytest.raises(ValueError, match='direction "bidirectional" is not one of forward, reverse'):
            call(x, h, w, u, WIDE, direction="bidirectional")


def test_both_directions_need_weights_of_both() -> None:
    x, h, w, u = torch.rand(2, 1, GIVEN), torch.rand(1, 2 * H), torch.rand(4 * H, GIVEN), torch.rand(4 * H, H)
    for back in ({}, {"weight_ih_back": w}, {"weight_hh_back": u}):
        with pytest.raises(ValueError, match="needs weight_ih_back and weight_hh_back"):
            lstm(x, h, h, w, u, WIDE, direction="bidirectional", **back)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_what_is_not_a_number_stays_so(direction) -> None:
    x = torch.rand(4, 2, GIVEN)
    x[1, 0, 0] = torch.nan
    h = torch.rand(2, 2 * H if direction == "bidirectional" else H)
    w, u = torch.rand(4 * H, GIVEN), torch.rand(4 * H, H)
    more = {"direction": direction, "weight_ih_back": w, "weight_hh_back": u, "output_sequence": True}
    found = lstm(x, h, h, w, u, WIDE, **more)[0]
    assert (
        found[1:, 0, :H].isnan().all() and not found[:, 1].isnan().any() and not found[0, 0, :H].isnan().any()
    )
