"""Cases of rnn, gru and lstm, against loops written from their formulas, one step and one batch row at a time."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(4)
GIVEN, H, B, S = 3, 2, 2, 4  # inputs, hidden values, batch, steps
FP16_FROM = ("iOS17", "iOS18")  # before iOS 17 these are of float32 alone
ACTS = {
    "tanh": np.tanh,
    "scaled_tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(x / 5 + 0.5, 0, 1),
    "sigmoid_hard": lambda x: np.clip(x / 5 + 0.5, 0, 1),
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
}


def weight(*shape):
    """Numbers that float16 holds exactly, so that both types are given the same."""
    return np.round(rng.uniform(-1, 1, shape) * 64) / 64


def cast(f, arguments):
    return {n: v.astype(f) if isinstance(v, np.ndarray) else v for n, v in arguments.items()}


def rows(x, h, step):
    """The states at the start and after every step, of every batch row by itself: [1 + s, b, ...]."""
    states = np.zeros((len(x) + 1, x.shape[1], h.shape[-1]))
    for b in range(x.shape[1]):
        states[0, b] = h[b]
        for t in range(len(x)):
            states[t + 1, b] = step(x[t, b], states[t, b])
    return states


def ended(sequence, start, every):
    last = sequence[-1] if len(sequence) else start
    return (sequence if every else last[None]), last


def rnn_truth(x, h, a):
    act = ACTS[a.get("activation", "tanh")]
    bias = a.get("bias", np.zeros(H))
    states = rows(
        x[::-1] if a.get("direction") == "reverse" else x,
        h,
        lambda given, h: act(a["weight_ih"] @ given + a["weight_hh"] @ h + bias),
    )
    return ended(states[1:], states[0], a.get("output_sequence", False))


def gru_truth(x, h, a):
    act, gate = ACTS[a.get("activation", "tanh")], ACTS[a.get("recurrent_activation", "sigmoid")]
    none = np.zeros(3 * H)
    w, u = np.split(a["weight_ih"], 3), np.split(a["weight_hh"], 3)
    bi, bh = np.split(a.get("input_bias", none), 3), np.split(a.get("bias", none), 3)

    def step(given, h):
        r = gate(w[0] @ given + u[0] @ h + bi[0] + bh[0])
        z = gate(w[2] @ given + u[2] @ h + bi[2] + bh[2])
        if a.get("reset_after", False):
            o = act(w[1] @ given + bi[1] + r * (u[1] @ h + bh[1]))
        else:
            o = act(w[1] @ given + u[1] @ (r * h) + bi[1] + bh[1])
        return (1 - z) * o + z * h

    states = rows(x[::-1] if a.get("direction") == "reverse" else x, h, step)
    return ended(states[1:], states[0], a.get("output_sequence", False))


def lstm_one_way(x, h, c, a, end=""):
    acts = (
        a.get("recurrent_activation", "sigmoid"),
        a.get("cell_activation", "tanh"),
        a.get("activation", "tanh"),
    )
    gate, cell, out = (ACTS[each] for each in acts)
    w, u = np.split(a["weight_ih" + end], 4), np.split(a["weight_hh" + end], 4)
    b = np.split(a.get("bias" + end, np.zeros(4 * H)), 4)
    p = np.split(a.get("peephole" + end, np.zeros(3 * H)), 3)

    def step(given, state):
        h, c = state[:H], state[H:]
        i = gate(w[0] @ given + u[0] @ h + b[0] + p[0] * c)
        f = gate(w[1] @ given + u[1] @ h + b[1] + p[1] * c)
        c = f * c + i * cell(w[3] @ given + u[3] @ h + b[3])
        if "clip" in a:
            c = np.clip(c, -a["clip"], a["clip"])
        return np.concatenate([gate(w[2] @ given + u[2] @ h + b[2] + p[2] * c) * out(c), c])

    return rows(x, np.concatenate([h, c], -1), step)


def lstm_truth(x, h, c, a):
    every = a.get("output_sequence", False)
    if a.get("direction") != "bidirectional":
        states = lstm_one_way(x[::-1] if a.get("direction") == "reverse" else x, h, c, a)
        return (*ended(states[1:, :, :H], states[0, :, :H], every), states[-1, :, H:])
    forth = lstm_one_way(x, h[:, :H], c[:, :H], a)
    back = lstm_one_way(x[::-1], h[:, H:], c[:, H:], a, "_back")
    ends = np.concatenate([forth[-1], back[-1]], -1).reshape(len(h), 2, 2, H)
    sequence = np.concatenate([forth[1:, :, :H], back[:0:-1, :, :H]], -1)
    last_h, last_c = ends[:, :, 0].reshape(len(h), 2 * H), ends[:, :, 1].reshape(len(h), 2 * H)
    return (sequence if every else last_h[None]), last_h, last_c


def case(op, label, arguments, truth, states=1, steps=S, width=H, **more):
    shapes = {"x": (steps, B, GIVEN), "initial_h": (B, width), "initial_c": (B, width)}
    inputs = {n: rng.uniform(-1, 1, s) for n, s in list(shapes.items())[: 1 + states]}
    more = {"accumulates": True, "ulps": 8, **more}

    def build(f, *variables):
        given = dict(zip(inputs, variables, strict=True))
        return getattr(mb, op)(**given, **cast(f, arguments))

    return Case(op, label, inputs, build, lambda *arrays: truth(*arrays, arguments), **more)


def both(make, *arguments, **more):
    """A case in float32 of every op set, and in float16 of those that have it."""
    targets = more.pop("targets", ("iOS15", "iOS17", "iOS18"))
    narrow = tuple(each for each in targets if each in FP16_FROM)
    return [
        make(*arguments, dtypes=("float32",), targets=targets, **more),
        make(*arguments, dtypes=("float16",), targets=narrow, ulps=1.25, **more),  # rounded once
    ]


def rnn(label, **arguments):
    more = {n: arguments.pop(n) for n in ("steps", "open_axes") if n in arguments}
    arguments = {"weight_ih": weight(H, GIVEN), "weight_hh": weight(H, H), **arguments}
    return both(case, "rnn", label, arguments, rnn_truth, **more)


def gru(label, **arguments):
    more = {n: arguments.pop(n) for n in ("steps", "targets", "open_axes") if n in arguments}
    arguments = {"weight_ih": weight(3 * H, GIVEN), "weight_hh": weight(3 * H, H), **arguments}
    return both(case, "gru", label, arguments, gru_truth, **more)


def lstm(label, **arguments):
    more = {n: arguments.pop(n) for n in ("steps", "open_axes") if n in arguments}
    arguments = {"weight_ih": weight(4 * H, GIVEN), "weight_hh": weight(4 * H, H), **arguments}
    width = 2 * H if arguments.get("direction") == "bidirectional" else H
    return both(case, "lstm", label, arguments, lstm_truth, states=2, width=width, **more)


def back(**arguments):
    return {
        "direction": "bidirectional",
        "weight_ih_back": weight(4 * H, GIVEN),
        "weight_hh_back": weight(4 * H, H),
        **arguments,
    }


def lstm_of(*names, **more):
    keys = ("recurrent_activation", "cell_activation", "activation")
    return lstm("-".join(names), **dict(zip(keys, names, strict=True)), output_sequence=True, **more)


OPEN = {"x": (0, 1), "initial_h": (0,)}
CASES: list[Case] = [
    *rnn("defaults"),
    *rnn("bias", bias=weight(H), output_sequence=True),
    *rnn("reverse", bias=weight(H), direction="reverse", output_sequence=True),
    *rnn("reverse-last", direction="reverse"),
    *rnn("one-step", steps=1, output_sequence=True),
    *rnn("open", bias=weight(H), output_sequence=True, open_axes=OPEN),
    *[
        each
        for name in ("relu", "sigmoid", "sigmoid_hard", "scaled_tanh", "linear")
        for each in rnn(name, activation=name, bias=weight(H), output_sequence=True)
    ],
    *gru("defaults"),
    *gru("bias", bias=weight(3 * H), output_sequence=True),
    *gru("reverse", bias=weight(3 * H), direction="reverse", output_sequence=True),
    *gru("activations", bias=weight(3 * H), recurrent_activation="tanh", activation="sigmoid"),
    *gru(
        "hard",
        bias=weight(3 * H),
        recurrent_activation="hard_sigmoid",
        activation="relu",
        output_sequence=True,
    ),
    *gru("one-step", steps=1, output_sequence=True),
    *gru("open", bias=weight(3 * H), output_sequence=True, open_axes=OPEN),
    *gru("input-bias", bias=weight(3 * H), input_bias=weight(3 * H), targets=("iOS18",)),
    *gru("reset-after", reset_after=True, output_sequence=True, targets=("iOS18",)),
    *gru(
        "reset-after-biases",
        reset_after=True,
        bias=weight(3 * H),
        input_bias=weight(3 * H),
        output_sequence=True,
        targets=("iOS18",),
    ),
    *gru("reset-after-bias", reset_after=True, bias=weight(3 * H), direction="reverse", targets=("iOS18",)),
    *gru("reset-before", reset_after=False, input_bias=weight(3 * H), targets=("iOS18",)),
    *lstm("defaults"),
    *lstm("bias", bias=weight(4 * H), output_sequence=True),
    *lstm("reverse", bias=weight(4 * H), direction="reverse", output_sequence=True),
    *lstm("reverse-last", direction="reverse"),
    *lstm("one-step", steps=1, bias=weight(4 * H), output_sequence=True),
    *lstm("open", bias=weight(4 * H), output_sequence=True, open_axes={**OPEN, "initial_c": (0,)}),
    *lstm("peephole", bias=weight(4 * H), peephole=weight(3 * H), output_sequence=True),
    *lstm("clip", bias=weight(4 * H), clip=np.array(0.25), output_sequence=True),
    *lstm("clip-peephole", peephole=weight(3 * H), clip=np.array(0.125)),
    *lstm_of("hard_sigmoid", "relu", "scaled_tanh", bias=weight(4 * H)),
    *lstm_of("sigmoid", "linear", "relu", bias=weight(4 * H)),
    *lstm_of("tanh", "sigmoid", "linear", bias=weight(4 * H)),
    *lstm("both", **back(bias=weight(4 * H), bias_back=weight(4 * H), output_sequence=True)),
    *lstm("both-last", **back()),
    *lstm("both-one-bias", **back(bias_back=weight(4 * H), output_sequence=True)),
    *lstm("both-one-step", steps=1, **back(bias=weight(4 * H), output_sequence=True)),
    *lstm("both-peephole", **back(peephole=weight(3 * H), peephole_back=weight(3 * H), output_sequence=True)),
    *lstm("both-clip", **back(clip=np.array(0.125), cell_activation="sigmoid")),
]
