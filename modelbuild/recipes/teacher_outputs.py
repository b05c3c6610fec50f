"""What the teacher says of a data set: its outputs, and the hidden states that students are aligned with.

Computed once and kept, so that no training has the teacher in its loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from modelbuild import callables, dataset, network, progress, tensors
from modelbuild.dataset import HIDDEN_STATES, OUTPUTS, Array
from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.recipes.data import DTYPES
from modelbuild.recipes.inference import BATCH
from modelbuild.recipes.onnx_teacher import OnnxTeacher
from modelbuild.training.batch import HIDDEN as HIDDEN_STATE
from modelbuild.training.batch import Batch
from modelbuild.training.learner import Learner

Arrays = Mapping[str, Array]
REAL = ("float16", "float32", "float64")
ONNX = "the teacher's ONNX file"


class Answer(NamedTuple):
    """What the teacher says of `length` samples from `start` on: by output, and by the path of a layer."""

    start: int
    length: int
    outputs: Arrays
    hidden: Arrays


def outputs(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the outputs of `teacher` on `data`, name -> [samples, ...], and where "hidden" asks, the hidden states of
    the layers in `layers`, path -> [samples, ...], as numbers of the type in "store".

    Raises RecipeError when the teacher does not run on the data, an answer is not samples first or has NaN or
    infinity, and for a layer that the teacher has not.
    """
    data, folder = dataset.read(inputs["data"]).inputs, inputs["teacher"]
    net = network.described(folder)
    layers = _layers(inputs["layers"]) if params["hidden"] else []
    place, samples = _place(net), len(next(iter(data.values())))
    said = Collected(place, samples, "output", DTYPES)
    seen = Collected(place, samples, "layer", REAL, np.dtype(params["store"]))
    with deterministic():
        for answer in _answers(folder, net, data, layers):
            said.put(answer, answer.outputs)
            seen.put(answer, answer.hidden)
            progress.step(answer.start + answer.length, samples)
    tensors.save(out_dir / OUTPUTS, said.arrays)
    if params["hidden"]:
        tensors.save(out_dir / HIDDEN_STATES, seen.arrays)


def _layers(folder: Path) -> list[str]:
    told = json.loads((folder / "layers.json").read_text(encoding="utf-8"))["layers"]
    return [*dict.fromkeys(told)]


def _place(net: Mapping[str, Any]) -> str:
    return str(net["through"] or ONNX) if "onnx" in net else str(net["module"])


def _answers(folder: Path, net: Mapping[str, Any], data: Arrays, layers: Sequence[str]) -> Iterator[Answer]:
    if "onnx" not in net:
        return _torch(folder, data, layers)
    teacher = OnnxTeacher(folder / net["onnx"], ONNX)
    return _through(teacher, net, data, layers) if net["through"] else _onnx(teacher, data, layers)


# -- the three kinds of teacher


def _torch(folder: Path, data: Arrays, layers: Sequence[str]) -> Iterator[Answer]:
    teacher, count = Learner(network.restore(folder), layers), len(next(iter(data.values())))
    for start in range(0, count, BATCH):
        rows = {name: torch.tensor(array[start : start + BATCH]) for name, array in data.items()}
        with torch.no_grad():
            found = teacher(Batch(rows, {}))
        seen = {path: found.pop(HIDDEN_STATE + path) for path in layers}
        yield Answer(start, min(BATCH, count - start), _arrays(found), _arrays(seen))


def _onnx(teacher: OnnxTeacher, data: Arrays, layers: Sequence[str]) -> Iterator[Answer]:
    for start, count, found in teacher.batches(data, [*dict.fromkeys([*teacher.outputs, *layers])]):
        answered, seen = ({name: found[name] for name in names} for names in (teacher.outputs, layers))
        yield Answer(start, count, answered, seen)


def _through(
    teacher: OnnxTeacher, net: Mapping[str, Any], data: Arrays, layers: Sequence[str]
) -> Iterator[Answer]:
    """All samples at once: how the file is run on them, and what becomes of its answers, the function decides.

    A hidden state is what it returns under the layer's name.
    """
    place, count, done = net["through"], len(next(iter(data.values()))), 0

    def run(feeds: Arrays, names: Sequence[str]) -> list[Array]:
        nonlocal done
        found = teacher.run(feeds, names)
        first = np.shape(next(iter(feeds.values()), ()))
        done = min(done + (first[0] if first else 1), count)
        progress.step(done, count)
        return found

    answered = callables.call(place, net["args"], run, data)
    if not isinstance(answered, Mapping) or not all(isinstance(name, str) for name in answered):
        raise RecipeError(place, f"returned {type(answered).__name__}, not a dict of names to arrays")
    if not answered:
        raise RecipeError(place, "returned no output")
    found = {name: np.asarray(value) for name, value in answered.items()}
    for path in layers:
        if path not in found:
            raise RecipeError(
                place, f'returned no "{path}", a layer that is looked at', did_you_mean(path, [*found])
            )
    yield Answer(0, count, found, {path: found[path] for path in layers})


# -- answers, checked and put together


@dataclass
class Collected:
    """One array a name over all `samples`, filled batch by batch: there is no second copy of what it holds.

    `dtypes` are those that it takes, `what` is what messages call one array; numbers are kept as `store`.
    """

    place: str
    samples: int
    what: str
    dtypes: Sequence[str]
    store: np.dtype[Any] | None = None
    arrays: dict[str, Array] = field(default_factory=dict)

    def put(self, answer: Answer, rows: Arrays) -> None:
        """Take `rows`, [answer.length, ...] each. Raises RecipeError when they cannot be kept."""
        for name, value in rows.items():
            self._check(answer, name, value)
            if answer.start == 0:
                self.arrays[name] = self._room(answer, value)
        self._check_alike(answer, rows)
        for name, value in rows.items():
            kept = self.arrays[name][answer.start : answer.start + answer.length]
            if self.arrays[name] is not value:
                with np.errstate(over="ignore"):  # what does not fit is refused below
                    kept[:] = value
            self._check_finite(answer, name, value, kept)

    def _room(self, answer: Answer, value: Array) -> Array:
        """An array for all samples: `value` itself, where that is all of them as they are kept."""
        dtype = value.dtype if self.store is None else self.store
        if answer.length == self.samples and value.dtype == dtype:
            return value
        return np.empty((self.samples, *value.shape[1:]), dtype)

    def _check(self, answer: Answer, name: str, value: Array) -> None:
        told = f'{self.what} "{name}"'
        if not isinstance(value, np.ndarray) or value.dtype.name not in self.dtypes:
            found = getattr(value, "dtype", type(value).__name__)
            raise RecipeError(self.place, f"{told} is {found}, which is no number to learn from")
        if value.ndim == 0 or len(value) != answer.length:
            fact = f"{told} has shape {list(value.shape)} for {answer.length} samples"
            raise RecipeError(self.place, fact, "Its first axis must be the sample axis.")

    def _check_alike(self, answer: Answer, rows: Arrays) -> None:
        here = f"from sample {answer.start} on"
        if rows.keys() != self.arrays.keys():
            fact = f"it gives {', '.join(rows)} {here}, and {', '.join(self.arrays)} before"
            raise RecipeError(self.place, fact, "Every sample must have the same.")
        for name, value in rows.items():
            before = self.arrays[name]
            if value.shape[1:] != before.shape[1:]:
                now, then = (list(each.shape[1:]) for each in (value, before))
                fact = f'{self.what} "{name}" has shape {now} {here}, and {then} before'
                raise RecipeError(self.place, fact, "Fill shorter samples up, so that all have one shape.")

    def _check_finite(self, answer: Answer, name: str, value: Array, kept: Array) -> None:
        for array, problem, remedy in (
            (value, "has NaN or infinity", "A student cannot learn that: is it data that the teacher knows?"),
            (kept, f"does not fit into {kept.dtype}", 'Set "store" of "layers" to "float32".'),
        ):
            bad = _not_finite(array)
            if bad is not None:
                fact = f'{self.what} "{name}" {problem} for sample {answer.start + bad}'
                raise RecipeError(self.place, fact, remedy)


def _not_finite(array: Array) -> int | None:
    """The first sample with NaN or infinity."""
    if array.dtype.kind != "f":
        return None
    bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    return int(bad.argmax()) if bad.any() else None


def _arrays(named: Mapping[str, Tensor]) -> dict[str, Array]:
    """NumPy knows no bfloat16; float32 holds each of its numbers."""
    return {
        name: (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        for name, value in named.items()
    }
