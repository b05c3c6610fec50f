"""How far a run may be from the reference: derived from the model's own noise, or as the manifest says.

"auto" is the largest of FACTOR times the rounding floor of this model on these inputs (fp32 against fp64, inputs
moved by one unit in the last place), SPREAD times what one runtime's own optimisations and threads move, ROUNDING
times what the run's arithmetic below fp32 does to the same model in PyTorch, and ULPS units in the last place of the
output's largest value. Nobody's runtime is to blame for the precision; see `noise` for what does not count.

Why these numbers: measured on fourteen small untrained networks (dense, convolutional, residual, attention,
recurrent), three seeds, 2, 8 and 128 samples each, run in ONNX Runtime 1.16, 1.18, 1.24 and 1.32 at every level with
one and two threads and in batches of one, and as Core ML packages; and on the digits and wine examples, the former in
a browser (wasm and WebGPU) too.
- FACTOR 8: honest runs are 0.7 to 3.2 rounding floors from the reference, half of them below 1.4, digits and wine at
  most 1.4. (By inputs moved up alone they are up to 3.5, by fp64 alone up to 4.2: a few samples meet few roundings.)
  One weight of thousands moved by 0.001 is 34 floors or more, half of them above 220; one layer times 1.01 is 1,200
  or more. A runtime that convolves by Winograd's F(4x4, 3x3) in fp32 loses a factor of about 29 in one layer and is
  rightly red: say a tolerance for it.
- SPREAD 2: optimisations move up to 1.8 floors, two threads nothing. So this decided no limit here: it is for kernels
  that trade exactness for speed, and lets a run lie as far on the other side.
- ROUNDING 2: packages in float16, with sums in float32 or float16, and with 8-bit weights are 0.7 to 1.3 times as far
  off as the same arithmetic in PyTorch, digits at most 1.2 times.
- ULPS 4: decides where the floor is under half an ulp, which is where nothing is rounded. Floors were 1 to 10 ulp.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from modelbuild.equivalence.demand import FLOORS, RuntimeDemand, within
from modelbuild.equivalence.noise import (
    FACTOR,
    ROUNDING_SOURCES,
    RUNTIME_SOURCES,
    ULPS,
    OutputNoise,
    Spread,
    describe,
)
from modelbuild.errors import RecipeError

Array = NDArray[Any]
SPREAD = 2
ROUNDING = 2
UNCOMPRESSED = "uncompressed-"  # before an arithmetic of weights that are compressed as PyTorch here cannot
DERIVED = ("max_abs", "rmse")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """`limits` by metric for one output, and in words the `source` they come from.

    `margin`, in the output's unit, is the lead of the best class over the second up to which a changed decision is
    noise: it is measured, whatever the limits. `floor` by metric is the largest movement that is nobody's fault.
    """

    limits: Mapping[str, float]
    margin: float
    source: str
    floor: Mapping[str, float] = field(default_factory=dict)


def tolerance(name: str, noise: OutputNoise, demand: RuntimeDemand, rounds: str | None = None) -> Tolerance:
    """The tolerance for output `name` of what computes in `rounds` arithmetic, fp32 where that is None.

    Raises RecipeError when the limits would pass an output that never moves, or when there is no noise floor.
    """
    derived = {metric: _limit(metric, noise, rounds) for metric in DERIVED}
    floor = {metric: _floor(metric, noise, rounds) for metric in DERIVED}
    if demand.tolerance is None:
        limits, source = auto(name, noise, rounds)
    else:
        limits = dict(demand.tolerance)
        source = "from the command line" if demand.place.startswith("--") else "from the manifest"
    found = Tolerance(limits, derived["max_abs"], source, floor)
    refuse_vacuous(name, noise, found, f"{demand.place}/tolerance")
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
    floor = {m: max(each.floor.get(m, 0.0) for each in (one, two)) for m in sorted({*one.floor, *two.floor})}
    return Tolerance(limits or {**one.limits, **two.limits}, max(one.margin, two.margin), source, floor)


def auto(name: str, noise: OutputNoise, rounds: str | None = None) -> tuple[dict[str, float], str]:
    """The limits on max_abs and rmse in the output's unit, and their derivation in words.

    Whole numbers and truth values have no rounding: they must be equal. Raises RecipeError when there is no floor.
    """
    if not noise.real:
        return dict.fromkeys(DERIVED, 0.0), "whole numbers must be equal"
    for kind in ROUNDING_SOURCES:
        if kind in noise.sources and not noise.sources[kind].finite:
            fact = f'the noise floor "{kind}" of "{name}" is not a finite number'
            raise RecipeError("reference", fact, "The model overflows on inputs next to these")
    return {metric: _limit(metric, noise, rounds) for metric in DERIVED}, _words(noise, rounds)


def _limit(metric: str, noise: OutputNoise, rounds: str | None) -> float:
    if not noise.real:
        return 0.0
    own = _rounded(noise, rounds)
    return max(
        noise.rounding(metric),
        SPREAD * noise.largest(metric, RUNTIME_SOURCES),
        ROUNDING * float(getattr(own, metric)) if own is not None else 0.0,
    )


def _floor(metric: str, noise: OutputNoise, rounds: str | None) -> float:
    if not noise.real:
        return 0.0
    own = _rounded(noise, rounds)
    measured = noise.largest(metric, (*ROUNDING_SOURCES, *RUNTIME_SOURCES))
    return max(measured, float(getattr(own, metric)) if own is not None else 0.0)


def _rounded(noise: OutputNoise, rounds: str | None) -> Spread | None:
    """What `rounds` arithmetic does, None where that is not known or no finite number."""
    own = noise.rounded.get(rounds or "")
    return own if own is not None and own.finite else None


def _words(noise: OutputNoise, rounds: str | None) -> str:
    """Every part of the limit with its measured max_abs, and what was left out."""

    def shown(kinds: tuple[str, ...]) -> str:
        return ", ".join(
            f"{kind} {noise.sources[kind].max_abs:.3g}" for kind in kinds if kind in noise.sources
        )

    words = [_rounds_in_words(noise, rounds)] if rounds is not None else []
    words.append(f"{FACTOR} x noise floor (in max_abs: {shown(ROUNDING_SOURCES)})")
    if shown(RUNTIME_SOURCES):
        words.append(f"{SPREAD} x the runtime's own ({shown(RUNTIME_SOURCES)})")
    left_out = [f"{kind} not counted: {why}" for kind, why in sorted(noise.uncounted.items())]
    return "; ".join([*words, *left_out, f"at least {ULPS} ulp"])


def _rounds_in_words(noise: OutputNoise, rounds: str) -> str:
    """An arithmetic that overflows, or of which nothing is known, is allowed nothing for it."""
    if rounds not in noise.rounded:
        return f"nothing is known of {rounds} arithmetic: nothing is allowed for it"
    if not noise.rounded[rounds].finite:
        return f"{rounds} arithmetic overflows: nothing is allowed for it, say a tolerance"
    words = f"{ROUNDING} x {rounds} arithmetic ({noise.rounded[rounds].max_abs:.3g})"
    apart = "; nothing is allowed for the compressed weights, say a tolerance"
    return words + apart if rounds.startswith(UNCOMPRESSED) else words


def refuse_flips(demand: RuntimeDemand, samples: int | None) -> None:
    """Raises RecipeError when every decision may change."""
    if samples is not None and demand.decision_flips >= samples:
        fact = f"{demand.decision_flips} flips are allowed among {samples} samples: every decision may change"
        raise RecipeError("gates/runtime/decision_flips", fact, "0 is usual")


def refuse_vacuous(name: str, noise: OutputNoise, found: Tolerance, place: str) -> None:
    """Raises RecipeError when a constant would keep to one of the limits."""
    if noise.constant:
        return  # such a reference is red in itself
    for metric, limit in found.limits.items():
        constant = constant_score(metric, noise)
        if within(metric, constant, limit):
            fact = (
                f'{limit:.3g} ({found.source}) would pass a constant in place of "{name}", whose values '
                f"span {noise.most - noise.least:.3g}: a constant reaches {constant:.3g}"
            )
            raise RecipeError(f"{place}/{metric}", fact, "Demand more than a constant reaches")


def constant_score(metric: str, values: OutputNoise | Array) -> float:
    """What the best single constant in place of all `values`, an array or what is known of one, would measure.

    Mid-range for max_abs, mean for rmse, sqnr_db and cosine, median for l1; for max_rel the harmonic mean of
    the extremes where they have one sign, else zero. There are at least two different ones, all finite.
    """
    about = values if isinstance(values, OutputNoise) else describe(values)
    if about is None:
        return math.nan
    low, high = about.least, about.most
    if metric == "max_abs":
        return (high - low) / 2
    if metric == "max_rel":
        return (high - low) / abs(low + high) if low * high > 0 else 1.0
    if metric in ("l1", "rmse"):
        return about.about_median if metric == "l1" else about.deviation
    if metric == "cosine":
        return abs(about.mean) / about.rms if about.rms > 0 else math.nan
    return 20 * math.log10(about.rms / about.deviation) if about.deviation > 0 else math.nan
