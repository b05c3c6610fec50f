"""How far a run may be from the reference: derived from the model's own noise, or as the manifest says.

"auto" is FACTOR times the noise floor of this model on these inputs, and never under ULPS units in the last
place of the output's largest value. The floor is what rounding alone does, the larger of fp32 against fp64
and of inputs moved by one unit in the last place. Further sources of noise (optimisation off against on, threads)
would join `noise`. What computes in float16 may be off by ROUNDING times what that arithmetic does to the same
model in PyTorch, where that is more: nobody's runtime is to blame for the precision.

Why 8: measured with ONNX Runtime 1.32 against PyTorch 2.13 on sixteen small untrained networks
(convolutional, fully connected, attention, residual; 8 to 256 samples), an honest run is 0.8 to 4.0 floors
from the reference, half of them below 1.4; 8 is twice the worst of them. One weight of thousands moved by
0.001 was 48 floors or more, one layer scaled by 1.01 more than 4,000. A runtime that convolves by Winograd's
F(4x4, 3x3) in fp32 loses a factor of about 29 in one layer and is rightly red: say a tolerance for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence.demand import FLOORS, RuntimeDemand, within
from modelbuild.equivalence.metrics import METRICS, Sums, sums
from modelbuild.errors import RecipeError
from modelbuild.tensors import Arrays

Array = NDArray[Any]
FACTOR = 8
ROUNDING = 2
ULPS = 4


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference's outputs, and what rounding does to them.

    `wide` is the same in fp64, None where the model has no such form; `nudged` has the inputs moved by one
    unit in the last place; `rounded` has the outputs in each arithmetic below float32, by its name.
    """

    outputs: Arrays
    wide: Arrays | None
    nudged: Arrays
    rounded: Mapping[str, Arrays] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """`limits` by metric for one output, and in words the `source` they come from.

    `margin`, in the output's unit, is the lead of the best class over the second up to which a changed
    decision is noise.
    """

    limits: Mapping[str, float]
    margin: float
    source: str


def tolerance(name: str, reference: Reference, demand: RuntimeDemand, rounds: str | None = None) -> Tolerance:
    """The tolerance for output `name`, an array without faults, of what computes in `rounds` arithmetic.

    Raises RecipeError when the limits would pass an output that never moves, or when there is no noise floor.
    """
    array = reference.outputs[name]
    if demand.tolerance is None:
        limits, source = auto(name, reference, rounds)
        found = Tolerance(limits, limits["max_abs"], source)
    else:
        margin = demand.tolerance.get("max_abs")
        margin = auto(name, reference, rounds)[0]["max_abs"] if margin is None else margin
        source = "from the command line" if demand.place.startswith("--") else "from the manifest"
        found = Tolerance(demand.tolerance, margin, source)
    refuse_vacuous(name, array, found, f"{demand.place}/tolerance")
    return found


def looser(one: Tolerance, two: Tolerance) -> Tolerance:
    """What two platforms are held to against each other.

    The looser limit of every metric that both limit; where they have none in common, all of both.
    """
    if one == two:
        return one
    common = sorted({*one.limits} & {*two.limits})
    limits = {m: (min if m in FLOORS else max)(one.limits[m], two.limits[m]) for m in common}
    source = f"the looser of: {one.source}; {two.source}"
    return Tolerance(limits or {**one.limits, **two.limits}, max(one.margin, two.margin), source)


def auto(name: str, reference: Reference, rounds: str | None = None) -> tuple[dict[str, float], str]:
    """The limits on max_abs and rmse in the output's unit, and their derivation in words.

    Whole numbers and truth values have no rounding: they must be equal.
    """
    array = reference.outputs[name]
    if array.dtype.kind != "f":
        return {"max_abs": 0.0, "rmse": 0.0}, "whole numbers must be equal"
    floors = dict(noise(name, reference))
    own, said = _rounding(name, reference, rounds)
    scale = sums(array, array)
    sizes = {"max_abs": float(np.max(np.abs(array))), "rmse": (scale.reference / scale.count) ** 0.5}
    limits = {
        metric: max(
            FACTOR * max(METRICS[metric](found) for found in floors.values()),
            ROUNDING * METRICS[metric](own) if own is not None else 0.0,
            ULPS * float(np.spacing(np.asarray(size, dtype=array.dtype))),
        )
        for metric, size in sizes.items()
    }
    shown = ", ".join(f"{kind} {found.largest:.3g}" for kind, found in floors.items())
    return limits, f"{said}{FACTOR} x noise floor (in max_abs: {shown}), at least {ULPS} ulp"


def noise(name: str, reference: Reference) -> Iterator[tuple[str, Sums]]:
    """Each source of noise by name, with how far it moves the output. Raises RecipeError."""
    pairs = {"fp64": reference.wide, "inputs moved 1 ulp": reference.nudged}
    for kind, outputs in pairs.items():
        if outputs is None:
            continue
        found = _difference(name, reference, kind, outputs)
        if not np.isfinite(found.squared):
            fact = f'the noise floor "{kind}" of "{name}" is not a finite number'
            raise RecipeError("reference", fact, "The model overflows on inputs next to these")
        yield kind, found


def _rounding(name: str, reference: Reference, rounds: str | None) -> tuple[Sums | None, str]:
    """What `rounds` arithmetic does, and that in words; an arithmetic that overflows is allowed nothing for it."""
    outputs = reference.rounded.get(rounds or "")
    if outputs is None:
        return None, ""
    found = _difference(name, reference, str(rounds), outputs)
    if not np.isfinite(found.squared):
        return None, f"{rounds} arithmetic overflows: nothing is allowed for it, say a tolerance; "
    return found, f"{ROUNDING} x {rounds} arithmetic ({found.largest:.3g}); "


def _difference(name: str, reference: Reference, kind: str, outputs: Arrays) -> Sums:
    array = reference.outputs[name]
    if name not in outputs or outputs[name].shape != array.shape:
        fact = f'there is no "{name}" of the same shape for the noise floor "{kind}"'
        raise RecipeError("reference", fact, "Rebuild the reference")
    return sums(outputs[name], array)


def refuse_flips(demand: RuntimeDemand, samples: int | None) -> None:
    """Raises RecipeError when every decision may change."""
    if samples is not None and demand.decision_flips >= samples:
        fact = f"{demand.decision_flips} flips are allowed among {samples} samples: every decision may change"
        raise RecipeError("gates/runtime/decision_flips", fact, "0 is usual")


def refuse_vacuous(name: str, array: Array, found: Tolerance, place: str) -> None:
    """Raises RecipeError when a constant would keep to one of the limits on `array`."""
    for metric, limit in found.limits.items():
        constant = constant_score(metric, array)
        if within(metric, constant, limit):
            span = float(np.ptp(array.astype(np.float64)))
            fact = (
                f'{limit:.3g} ({found.source}) would pass a constant in place of "{name}", whose values '
                f"span {span:.3g}: a constant reaches {constant:.3g}"
            )
            raise RecipeError(f"{place}/{metric}", fact, "Demand more than a constant reaches")


def constant_score(metric: str, array: Array) -> float:
    """What the best single constant in place of every value of `array` would measure.

    Mid-range for max_abs, mean for rmse, sqnr_db and cosine, median for l1; for max_rel the harmonic mean of
    the extremes where they have one sign, else zero. `array` holds at least two different values.
    """
    r = array.astype(np.float64)
    if metric == "max_abs":
        return float(np.ptp(r)) / 2
    if metric == "max_rel":
        low, high = float(r.min()), float(r.max())
        return (high - low) / abs(low + high) if low * high > 0 else 1.0
    best = np.median(r) if metric == "l1" else np.mean(r)
    return METRICS[metric](sums(r, np.full_like(r, best)))
