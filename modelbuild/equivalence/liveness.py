"""Whether the gate can fail: faults that real exports, runtimes and pipelines make, put into recorded outputs.

A fault changes what one run gave, or what it is compared with; each must turn the gate red. A size is given where one
matters: no more than the limit has to catch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.runtimes.base import Run
from modelbuild.tensors import Arrays

Array = NDArray[Any]
BEYOND = 1.5  # of the limit: the smallest fault that is still to be caught for certain


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the gate compares: the reference's outputs and one run; `output` is the one that faults are put into.

    `step`, in that output's unit, is what the limit must catch.
    """

    reference: Arrays
    run: Run
    output: str
    step: float

    @property
    def value(self) -> Array:
        return self.run.outputs[self.output]

    def giving(self, value: Array) -> Recorded:
        """The run with another array as `output`."""
        return self.with_outputs({**self.run.outputs, self.output: value})

    def with_outputs(self, outputs: Arrays) -> Recorded:
        return replace(self, run=self.run._replace(outputs=outputs))


Change = Callable[[Recorded], Recorded | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`put` gives the recorded outputs with the fault in them, None where the model has no place for it."""

    name: str
    put: Change


def recorded(reference: Arrays, run: Run, limits: Mapping[str, float | None]) -> Recorded:
    """The first floating output of `run` that has more than one sample, with what its limit on max_abs must catch.

    Where other metrics alone are limited, that is the output's whole span. Raises LookupError where there is none.
    """
    floating = (n for n, a in sorted(run.outputs.items()) if a.dtype.kind == "f" and len(a) > 1)
    name = next(floating, None)
    if name is None:
        raise LookupError("no output holds real numbers for several samples")
    limit = limits.get(name)
    span = float(np.ptp(reference[name].astype(np.float64)))
    return Recorded(reference, run, name, span if limit is None else BEYOND * limit)


# -- values that are off


def _everywhere(change: Callable[[Array, float], Array]) -> Change:
    def put(case: Recorded) -> Recorded:
        value = case.value
        return case.giving(change(value.astype(np.float64), case.step).astype(value.dtype))

    return put


def _at_one(value_of: Callable[[float, float], float]) -> Change:
    """One value of the middle sample."""

    def put(case: Recorded) -> Recorded:
        value = case.value.copy()
        index = np.unravel_index((len(value) // 2) * (value.size // len(value)), value.shape)
        value[index] = value_of(float(value[index]), case.step)
        return case.giving(value)

    return put


def _scaled(value: Array, step: float) -> Array:
    largest = float(np.abs(value).max())
    return value * (1 + max(0.01, step / largest if largest else 1.0))


def _noisy(value: Array, step: float) -> Array:
    signs = np.where(np.arange(value.size).reshape(value.shape) % 2, 1.0, -1.0)
    return value + signs * step


def _clipped(value: Array, step: float) -> Array:
    top = float(value.max()) - step
    return np.minimum(value, top)


def _one_off(sample: float, step: float) -> float:
    return sample + step


def _coarse(value: Array, step: float) -> Array:
    """Eight bits over the output's span, or coarser where the limit is."""
    quantum = max(float(np.ptp(value)) / 255, 4 * step) or 1.0
    return np.asarray(np.floor(value / quantum) * quantum)


# -- samples that are not their own


def _by_rows(rows_of: Callable[[Recorded], NDArray[np.intp]]) -> Change:
    def put(case: Recorded) -> Recorded:
        rows = rows_of(case)
        return case.with_outputs({name: array[rows] for name, array in case.run.outputs.items()})

    return put


def _two_apart(case: Recorded) -> tuple[int, int]:
    """The first sample, and the one that differs most from it."""
    flat = case.value.reshape(len(case.value), -1).astype(np.float64)
    return 0, int(np.argmax(np.abs(flat - flat[0]).max(axis=1)))


def _swapped_samples(case: Recorded) -> NDArray[np.intp]:
    rows = np.arange(len(case.value))
    one, two = _two_apart(case)
    rows[[one, two]] = two, one
    return rows


def _repeated_batch(case: Recorded) -> NDArray[np.intp]:
    """The last sample stands for those of its batch, as a batch filled up and never cut gives it."""
    rows = np.arange(len(case.value))
    one, two = _two_apart(case)
    rows[two] = one
    return rows


# -- outputs and their form


def _swapped_outputs(case: Recorded) -> Recorded | None:
    name, value = case.output, case.value
    alike = [
        n
        for n, a in case.run.outputs.items()
        if n != name and (a.shape, a.dtype) == (value.shape, value.dtype)
    ]
    if not alike:
        return None
    outputs = case.run.outputs
    return case.with_outputs({**outputs, name: outputs[alike[0]], alike[0]: value})


def _without(case: Recorded) -> Recorded:
    return case.with_outputs({n: a for n, a in case.run.outputs.items() if n != case.output})


def _renamed(case: Recorded, name: str) -> Recorded:
    return _without(case).with_outputs({**_without(case).run.outputs, name: case.value})


def _extra(case: Recorded) -> Recorded:
    return case.with_outputs({**case.run.outputs, f"{case.output}_1": case.value})


def _flattened(case: Recorded) -> Recorded | None:
    value = case.value
    return case.giving(value.reshape(-1)) if value.ndim > 1 else None


def _transposed(case: Recorded) -> Recorded | None:
    value = case.value
    if value.ndim < 2 or value.shape[-1] == value.shape[-2]:
        return None
    return case.giving(np.ascontiguousarray(np.swapaxes(value, -1, -2)))


def _last_axis(change: Callable[[Array], Array]) -> Change:
    """Classes or channels; None where there is one alone, or where they are all alike."""

    def put(case: Recorded) -> Recorded | None:
        value = case.value
        if value.ndim < 2 or value.shape[-1] < 2:
            return None
        changed = np.ascontiguousarray(change(value))
        same = changed.shape == value.shape and float(np.abs(changed - value).max()) < case.step
        return None if same else case.giving(changed)

    return put


def _probabilities(value: Array) -> Array:
    raised = np.exp(value.astype(np.float64) - value.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=value.dtype)


# -- the other side, and the evidence


def _reference(change: Callable[[Array], Array]) -> Change:
    def put(case: Recorded) -> Recorded:
        return replace(case, reference={**case.reference, case.output: change(case.reference[case.output])})

    return put


def _with_nan(value: Array) -> Array:
    changed = value.copy()
    changed.reshape(-1)[0] = np.nan
    return changed


def _on_both(change: Callable[[Array], Array]) -> Change:
    """The sides agree, on what agreeing proves nothing about."""
    return lambda case: _reference(change)(case.giving(change(case.value)))


def _unevidenced(case: Recorded) -> Recorded:
    return replace(case, run=case.run._replace(evidence="none"))


FAULTS = (
    Fault("a scaled layer", _everywhere(_scaled)),
    Fault("a bias that is off", _everywhere(lambda value, step: value + step)),
    Fault("noise beyond the limit", _everywhere(_noisy)),
    Fault("the sign turned", _everywhere(lambda value, step: -value - np.copysign(step, value))),
    Fault("the largest values clipped", _everywhere(_clipped)),
    Fault("rounded to 8 bits", _everywhere(_coarse)),
    Fault("one value off, barely beyond the limit", _at_one(_one_off)),
    Fault("NaN in one value", _at_one(lambda value, step: np.nan)),
    Fault("NaN everywhere", _everywhere(lambda value, step: np.full_like(value, np.nan))),
    Fault("Inf in one value", _at_one(lambda value, step: np.inf)),
    Fault("-Inf in one value", _at_one(lambda value, step: -np.inf)),
    Fault("a constant output", _everywhere(lambda value, step: np.full_like(value, value.mean()))),
    Fault("an output of zeros", _everywhere(lambda value, step: np.zeros_like(value))),
    Fault("one sample repeated throughout", _by_rows(lambda case: np.zeros(len(case.value), np.intp))),
    Fault("two samples swapped", _by_rows(_swapped_samples)),
    Fault("the samples reversed", _by_rows(lambda case: np.arange(len(case.value))[::-1])),
    Fault("the samples shifted by one", _by_rows(lambda case: np.roll(np.arange(len(case.value)), 1))),
    Fault("a sample in another's place", _by_rows(_repeated_batch)),
    Fault("the last sample dropped", _by_rows(lambda case: np.arange(len(case.value) - 1))),
    Fault("the first sample dropped", _by_rows(lambda case: np.arange(1, len(case.value)))),
    Fault("an extra sample", _by_rows(lambda case: np.append(np.arange(len(case.value)), 0))),
    Fault("no samples", _by_rows(lambda case: np.arange(0))),
    Fault(
        "another dtype, wider",
        lambda case: case.giving(
            case.value.astype(np.float64 if case.value.dtype != np.float64 else np.float32)
        ),
    ),
    Fault(
        "another dtype, narrower",
        lambda case: case.giving(
            case.value.astype(np.float16 if case.value.dtype != np.float16 else np.float32)
        ),
    ),
    Fault("whole numbers in place of real ones", lambda case: case.giving(case.value.astype(np.int64))),
    Fault("an axis more", lambda case: case.giving(case.value[..., None])),
    Fault("the axes flattened", _flattened),
    Fault("the last two axes exchanged", _transposed),
    Fault("a class, or channel, too few", _last_axis(lambda value: value[..., :-1])),
    Fault("classes off by one", _last_axis(lambda value: np.roll(value, 1, axis=-1))),
    Fault("classes in reverse", _last_axis(lambda value: value[..., ::-1])),
    Fault("probabilities in place of scores", _last_axis(_probabilities)),
    Fault("two outputs swapped", _swapped_outputs),
    Fault("an output missing", _without),
    Fault("no outputs at all", lambda case: case.with_outputs({})),
    Fault("an output renamed", lambda case: _renamed(case, f"{case.output}_0")),
    Fault("an output in other letters", lambda case: _renamed(case, case.output.swapcase())),
    Fault("an output more than there should be", _extra),
    Fault("a constant on both sides", _on_both(lambda value: np.full_like(value, 1.0))),
    Fault("zeros on both sides", _on_both(np.zeros_like)),
    Fault("NaN in the reference", _reference(_with_nan)),
    Fault("NaN on both sides in one place", _on_both(_with_nan)),
    Fault("a reference of fewer samples", _reference(lambda value: value[:-1])),
    Fault("nothing that ran", _unevidenced),
)
