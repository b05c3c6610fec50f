"""What a model's outputs are like on the evaluation inputs, and how far they move without anybody's fault.

Three kinds of movement are kept apart. Rounding: fp32 against fp64, and inputs moved by one unit in the last place.
The usual runtime: its optimisations, and its threads. Arithmetic below fp32, as the model rounded to it gives. The
first is the floor that all else is measured by: a runtime that moves the outputs FACTOR times as far is no noise but
a fault, and would widen the very limit that should catch it, so it is set aside, in words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import metrics
from modelbuild.equivalence.demand import OutputDemand
from modelbuild.equivalence.trimmed import trimmed
from modelbuild.errors import RecipeError
from modelbuild.tensors import Source, held

Array = NDArray[Any]
Given = Mapping[str, Array | Source]
Asked = Mapping[str, OutputDemand]  # what the manifest says of outputs
FP64, NUDGED = "fp64", "inputs moved 1 ulp"
OPTIMISATION, THREADS = "optimisation", "threads"
ROUNDING_SOURCES, RUNTIME_SOURCES = (FP64, NUDGED), (OPTIMISATION, THREADS)
FACTOR = 8
ULPS = 4
CHUNK = 1 << 20  # values read at a time
DIGIT = 16  # bits of a value that one pass of the search for the median settles
FILE = "noise.json"


@dataclass(frozen=True, slots=True)
class Spread:
    """How far one source moves an output, in its unit; infinite where that gives no finite number (null in JSON)."""

    max_abs: float
    rmse: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.max_abs) and math.isfinite(self.rmse)


@dataclass(frozen=True, slots=True)
class OutputNoise:
    """One output of the reference over all samples: `values` numbers of `dtype` in `samples` samples.

    `deviation` is the root mean square about the mean, `about_median` the mean distance from the median (of an even
    number of values the lower of the two in the middle). `sources` are those that count for the floor and the
    runtime, `rounded` the arithmetics below fp32, `uncounted` the sources left out and why.
    """

    dtype: str
    samples: int
    values: int
    least: float
    most: float
    mean: float
    rms: float
    deviation: float
    median: float
    about_median: float
    constant: bool
    sources: Mapping[str, Spread] = field(default_factory=dict)
    rounded: Mapping[str, Spread] = field(default_factory=dict)
    uncounted: Mapping[str, str] = field(default_factory=dict)

    @property
    def real(self) -> bool:
        """Whether the numbers are such as are rounded; whole ones and truth values are not."""
        return np.dtype(self.dtype).kind == "f"

    def largest(self, metric: str, kinds: tuple[str, ...]) -> float:
        """The larger spread of the sources called `kinds` that are there and finite, else 0."""
        found = [self.sources[kind] for kind in kinds if kind in self.sources]
        return max((float(getattr(each, metric)) for each in found if each.finite), default=0.0)

    def ulps(self, metric: str) -> float:
        """ULPS units in the last place of the largest value for max_abs, of the root mean square for rmse."""
        if not self.real:
            return 0.0
        size = self.rms if metric == "rmse" else max(abs(self.least), abs(self.most))
        return ULPS * float(np.spacing(np.asarray(size, dtype=self.dtype)))

    def rounding(self, metric: str) -> float:
        """As far as rounding alone may take a run: FACTOR times its floor, and never under a few ulp."""
        floor = self.largest(metric, ROUNDING_SOURCES) if self.real else 0.0
        return max(FACTOR * floor, self.ulps(metric))


@dataclass(frozen=True, slots=True)
class Noise:
    """By output; one whose values are not all finite, or that has none, is not there."""

    outputs: Mapping[str, OutputNoise]

    def of(self, name: str) -> OutputNoise:
        """Raises RecipeError where nothing was measured of output `name`."""
        if name not in self.outputs:
            raise RecipeError("noise", f'nothing was measured of output "{name}"', "Build it again")
        return self.outputs[name]


def measure(
    reference: Given,
    sources: Mapping[str, Given | Sequence[Given]],
    rounded: Mapping[str, Given],
    runtime_sources: Mapping[str, Mapping[str, Spread]] | None = None,
    missing: Mapping[str, str] | None = None,
    asked: Asked = MappingProxyType({}),
) -> Noise:
    """The noise of every output of `reference` that is fit to be measured.

    `sources` and `rounded` are what the model gives then, compared with `reference`; of several of one source the
    largest counts. `runtime_sources` are spreads by source and output, measured within one runtime. `missing` are
    sources that this model does not have, and why. What lies past a sample's length, where outputs are `asked` to
    have such, is 0 as in the gate. Arrays are read in pieces.
    Raises RecipeError where an array is not there or has another shape, or lengths are none.
    """
    truth, found = held(reference), {}
    for name in truth:
        about = describe(*trimmed(name, asked, truth))
        if about is None:
            continue
        known = replace(
            about,
            sources={kind: _against(name, truth, kind, each, asked) for kind, each in sources.items()},
            rounded={kind: _against(name, truth, kind, each, asked) for kind, each in rounded.items()},
            uncounted=dict(missing or {}),
        )
        within = {kind: each.get(name) for kind, each in (runtime_sources or {}).items()}
        found[name] = _joined(known, within)
    return Noise(found)


def _joined(known: OutputNoise, runtime: Mapping[str, Spread | None]) -> OutputNoise:
    """`known` with the spreads within a runtime; one beyond what rounding explains does not count."""
    beyond = {kind: why for kind, each in runtime.items() if (why := _beyond(known, each))}
    counted = {kind: each for kind, each in runtime.items() if each is not None and kind not in beyond}
    return replace(known, sources={**known.sources, **counted}, uncounted={**known.uncounted, **beyond})


def _beyond(known: OutputNoise, each: Spread | None) -> str:
    """Why `each` does not count, in words; empty where it does."""
    if each is None:
        return "the runtime does not give this output"
    for metric in ("max_abs", "rmse"):
        measured, allowed = getattr(each, metric), known.rounding(metric)
        if not measured <= allowed:
            return f"it moves the output by {measured:.3g} ({metric}), rounding explains {allowed:.3g} and no more"
    return ""


def spread(sums: metrics.Sums) -> Spread:
    """The spread that `sums` over all samples tell."""
    largest, rmse = metrics.max_abs(sums), metrics.rmse(sums)
    return (
        Spread(largest, rmse)
        if math.isfinite(largest) and math.isfinite(rmse)
        else Spread(math.inf, math.inf)
    )


def between(name: str, one: Given, other: Given, asked: Asked) -> metrics.Sums:
    """The sums of output `name`, which both have in one shape, up to where the shorter of two samples ends."""
    pieces = zip(*map(_chunks, trimmed(name, asked, held(one), held(other))), strict=True)
    return reduce(add, (metrics.sums(*parts) for parts in pieces))


def _against(
    name: str, truth: Mapping[str, Source], kind: str, given: Given | Sequence[Given], asked: Asked
) -> Spread:
    """How far `given` is off `truth`, of several the largest."""
    found = []
    for outputs in [given] if isinstance(given, Mapping) else given:
        if name not in outputs or outputs[name].shape != truth[name].shape:
            fact = f'there is no "{name}" of the same shape for the noise floor "{kind}"'
            raise RecipeError("reference", fact, "Rebuild the reference")
        found.append(spread(between(name, truth, outputs, asked)))
    return Spread(max(each.max_abs for each in found), max(each.rmse for each in found))


# -- what an array is like


def describe(given: Array | Source) -> OutputNoise | None:
    """What an array [samples, ...] is like, without any noise; None where it is empty or not finite."""
    array = held({"": given})[""]
    count = math.prod(array.shape)
    if not array.shape or not count or not all(np.isfinite(part).all() for part in _chunks(array)):
        return None
    least = min(part.min() for part in _chunks(array))
    most = max(part.max() for part in _chunks(array))
    mean = _total(array, 0.0, 1) / count
    middle = median(array)
    return OutputNoise(
        dtype=array.dtype.name,
        samples=array.shape[0],
        values=count,
        least=float(least),
        most=float(most),
        mean=mean,
        rms=math.sqrt(_total(array, 0.0, 2) / count),
        deviation=math.sqrt(_total(array, mean, 2) / count),
        median=middle,
        about_median=_total(array, middle, 0) / count,
        constant=bool(least == most),
    )


def _total(array: Source, centre: float, power: int) -> float:
    """The sum of (value - centre)^power in float64; power 0 stands for the distance."""
    total = 0.0
    for part in _chunks(array):
        apart = part.astype(np.float64) - centre
        total += float(np.sum(np.abs(apart) if power == 0 else apart**power))
    return total


def median(array: Source) -> float:
    """The value in the middle, the lower of two, as `array` in order would have it.

    Found digit by digit, the highest first: among the values that share the digits found so far, the next digit is
    the one below and up to which half of all values lie. No more than a chunk and a table is held in memory.
    """
    rank, prefix = (math.prod(array.shape) - 1) // 2, 0
    width = array.dtype.itemsize * 8
    for shift in range(max(width - DIGIT, 0), -1, -DIGIT):
        counts = np.zeros(1 << DIGIT, np.int64)
        for part in _chunks(array):
            digits = _keys(part).astype(np.uint64) >> np.uint64(shift)
            among = digits[digits >> np.uint64(DIGIT) == np.uint64(prefix)] & np.uint64((1 << DIGIT) - 1)
            counts += np.bincount(among.astype(np.int64), minlength=1 << DIGIT)
        upto = np.cumsum(counts)
        digit = int(np.searchsorted(upto, rank, side="right"))
        rank -= int(upto[digit - 1]) if digit else 0
        prefix = (prefix << DIGIT) | digit
    return _value(prefix, array.dtype)


def _keys(part: Array) -> Array:
    """Unsigned numbers in the order of the values: IEEE 754 numbers are so once negative ones are turned round."""
    bits = part.view(f"u{part.dtype.itemsize}")
    top = bits.dtype.type(1 << (bits.dtype.itemsize * 8 - 1))
    if part.dtype.kind in "ub":
        return bits
    turned: Array = bits ^ top if part.dtype.kind == "i" else np.where(bits & top, ~bits, bits | top)
    return turned


def _value(key: int, dtype: np.dtype[Any]) -> float:
    """The value whose key is `key`."""
    top = 1 << (dtype.itemsize * 8 - 1)
    if dtype.kind in "ub":
        return float(key)
    if dtype.kind == "i":
        return float(key - top)
    bits = key ^ top if key & top else ~key & (2 * top - 1)
    return float(np.asarray(bits, f"u{dtype.itemsize}").view(dtype))


def _chunks(array: Source) -> Iterator[Array]:
    """The values of `array` in order, CHUNK at a time."""
    count = math.prod(array.shape)
    for start in range(0, count, CHUNK):
        yield array.read(start, min(start + CHUNK, count))


# -- on disk


def write(path: Path, noise: Noise) -> None:
    """Write {"outputs": {name: ...}}; a number that JSON cannot hold is null."""
    path.write_text(json.dumps(_plain(asdict(noise)), indent=1, sort_keys=True, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(path: Path) -> Noise:
    """Read what `write` wrote. Raises RecipeError where it is not that."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Noise({name: _output(each) for name, each in record["outputs"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(path.name, f"holds no noise: {error}", "Build it again") from error


def _output(record: Mapping[str, Any]) -> OutputNoise:
    whole: dict[str, Any] = {key: math.inf if value is None else value for key, value in record.items()}
    for group in ("sources", "rounded"):
        whole[group] = {
            kind: Spread(**{m: math.inf if v is None else v for m, v in each.items()})
            for kind, each in record[group].items()
        }
    return OutputNoise(**whole)
