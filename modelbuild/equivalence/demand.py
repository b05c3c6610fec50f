"""What a gate of the manifest demands, parsed; a demand that any model would meet, or none could, is refused.

Nothing here needs numpy, so that a manifest can be refused before anything is trained. What only the arrays
can show to be empty (a limit above an output's own range) is refused in `tolerance` and `quality`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelbuild.errors import ManifestError, did_you_mean

CEILINGS = ("max_abs", "max_rel", "l1", "rmse")
FLOORS = ("sqnr_db", "cosine")
SHARES = {"teacher": "agreement", "task": "accuracy"}
ERRORS = ("max_abs", "rmse", "l1")
COSINE = "cosine"
TOKENS = "token_error_rate"
KINDS = ("scores", "sequence", "regression")
MORE = (*FLOORS, *SHARES.values())  # metrics of which more is better
COUNTS = ("decision_flips", "bytes")
# What verdicts are on beside the metrics of gates.
OTHERS = {
    *("accepted", "constant", "dtype", "empty", "evidence", "extra", "flip_rate", "inf", "length", "missing"),
    *("nan", "noise", "samples", "shape", "tolerance", "vanished", "waiver", "zero"),
}
TAKEN = OTHERS.union(CEILINGS, MORE, COUNTS, [TOKENS])  # no metric of a project goes by these names


@dataclass(frozen=True, slots=True)
class OutputDemand:
    """What an output is, where its shape and dtype alone do not say so.

    `kind` is one of KINDS, None where the array decides. `lengths` names the output with each sample's true length
    along the first axis after the samples: past it nothing is compared. `padding` is the token that fills a sequence
    up. `place` is where in the manifest this stands.
    """

    kind: str | None = None
    lengths: str | None = None
    padding: int | None = None
    place: str = "gates/runtime/outputs"


@dataclass(frozen=True, slots=True)
class RuntimeDemand:
    """`tolerance` is metric -> limit for every output, None for "auto".

    `decision_flips` are those allowed in one comparison; `place` is where in the manifest this stands. `flip_rate`,
    where there is one, is the share that the 95 % interval of the flipped decisions must not exceed.
    """

    tolerance: Mapping[str, float] | None = None
    decision_flips: int = 0
    place: str = "gates/runtime"
    outputs: Mapping[str, OutputDemand] = field(default_factory=dict)
    flip_rate: float | None = None


@dataclass(frozen=True, slots=True)
class QualityDemand:
    """`metric` is to keep to `limit` on `output`, or on every output that the metric fits when it is None.

    `place` says where in the manifest the limit stands. `function`, called with `args`, is the project's own metric
    as package.module:callable, and `more_is_better` says it of that; both are None for one that is built in.
    """

    metric: str
    limit: float
    output: str | None
    place: str
    function: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    more_is_better: bool | None = None

    def met(self, measured: float) -> bool:
        """Whether the demand is met by this figure."""
        return within(self.metric, measured, self.limit, self.more_is_better)


def more_is_better(metric: str, said: bool | None = None) -> bool:
    """Whether the metric is a share or a likeness, and not an error or a cost; `said` where no name tells."""
    return metric in MORE if said is None else said


def within(metric: str, measured: float, limit: float, more: bool | None = None) -> bool:
    """Whether `measured` is at least as good as `limit`; never when either is NaN. `more` is said of the metric where
    its name does not tell.
    """
    return measured >= limit if more_is_better(metric, more) else measured <= limit


def runtime(gate: Mapping[str, Any], place: str = "gates/runtime") -> RuntimeDemand:
    """{"tolerance": "auto" or {metric: limit}, "decision_flips": n, "flip_rate": share, "outputs": as `outputs`}.

    Raises ManifestError.
    """
    _known_keys(gate, ["tolerance", "decision_flips", "outputs", "flip_rate"], place)
    flips = gate.get("decision_flips", 0)
    if isinstance(flips, bool) or not isinstance(flips, int) or flips < 0:
        raise ManifestError(
            f"{place}/decision_flips", f"{_shown(flips)} is not a number of samples", "0 is usual"
        )
    return RuntimeDemand(
        _tolerance(gate.get("tolerance", "auto"), f"{place}/tolerance"),
        flips,
        place,
        outputs(gate.get("outputs", {}), f"{place}/outputs"),
        _flip_rate(gate["flip_rate"], f"{place}/flip_rate") if "flip_rate" in gate else None,
    )


def outputs(found: Any, place: str = "gates/runtime/outputs") -> dict[str, OutputDemand]:
    """{name: {"kind": one of KINDS, "lengths": another output, "padding": token}}, each left out where not needed.

    Raises ManifestError for what says nothing or contradicts itself.
    """
    if not isinstance(found, Mapping):
        raise ManifestError(place, f"{_shown(found)} is not a set of outputs", "Say {output: {...}}")
    asked = {name: _output(name, found[name], f"{place}/{name}") for name in sorted(found)}
    for each in asked.values():
        if each.lengths in asked and asked[each.lengths].lengths is not None:
            fact = f'"{each.lengths}" gives lengths, and is itself cut to the lengths in another output'
            raise ManifestError(f"{each.place}/lengths", fact, "An output that gives lengths has none")
    return asked


def _output(name: str, found: Any, place: str) -> OutputDemand:
    if not isinstance(found, Mapping) or not found:
        raise ManifestError(
            place, f"{_shown(found)} says nothing", 'Give one of "kind", "lengths", "padding"'
        )
    _known_keys(found, ["kind", "lengths", "padding"], place)
    kind, lengths, padding = (found.get(key) for key in ("kind", "lengths", "padding"))
    if "kind" in found and kind not in KINDS:
        fact = f"{_shown(kind)} is not one of {', '.join(KINDS)}"
        raise ManifestError(f"{place}/kind", fact, did_you_mean(str(kind), list(KINDS)))
    if "lengths" in found:
        _lengths(name, lengths, kind, f"{place}/lengths")
    if "padding" in found:
        _padding(padding, kind, f"{place}/padding")
    return OutputDemand(kind, lengths, padding, place)


def _lengths(name: str, lengths: Any, kind: str | None, place: str) -> None:
    if not isinstance(lengths, str):
        raise ManifestError(place, f"{_shown(lengths)} is not the name of an output", "")
    if lengths == name:
        fact = f'"{name}" would be cut to the lengths in itself'
        raise ManifestError(place, fact, "Name the output that holds each sample's length, or leave it out")
    if kind == "scores":
        fact = f'"{name}" is of kind scores: a row is one score a class and has no other length'
        raise ManifestError(place, fact, "Leave it out, or say what kind the output is")


def _padding(padding: Any, kind: str | None, place: str) -> None:
    if isinstance(padding, bool) or not isinstance(padding, int):
        raise ManifestError(place, f"{_shown(padding)} is not a token's number", "A whole number, such as 0")
    if kind != "sequence":
        raise ManifestError(place, "only a sequence is filled up with a token", 'Say "kind": "sequence" too')


def _flip_rate(value: Any, place: str) -> float:
    limit = _number(value, place)
    if limit >= 1:
        raise ManifestError(place, f"{limit:g} lets every decision flip", "Say less than 1, such as 0.01")
    if limit <= 0:
        fact = f"{limit:g} is met by no number of samples: each leaves room for a rate above it"
        raise ManifestError(place, fact, 'Say more than 0, such as 0.01; "decision_flips": 0 allows none')
    return limit


def qualities(gate: Any, name: str, place: str | None = None) -> tuple[QualityDemand, ...]:
    """The gate `name`, "teacher" or "task": one demand as `quality` reads it, or a list of them.

    Raises ManifestError, also for two on the same figure.
    """
    place = place or f"gates/{name}"
    if isinstance(gate, Mapping):
        return (quality(gate, name, place),)
    if not isinstance(gate, Sequence) or isinstance(gate, str) or not gate:
        raise ManifestError(place, f"{_shown(gate)} demands nothing", "Give a demand, or a list of them")
    found = tuple(quality(each, name, f"{place}/{index}") for index, each in enumerate(gate))
    refuse_twice(found)
    return found


def refuse_twice(demands: Sequence[QualityDemand]) -> None:
    """Raises ManifestError for two demands of one gate whose figures would go by the same name."""
    seen: dict[str, dict[str | None, QualityDemand]] = {}
    for each in demands:
        same, place = seen.setdefault(each.metric, {}), each.place.rpartition("/")[0]
        first = next(iter(same.values()), each)
        if first.function != each.function:
            fact = f'"{first.function}" before it is called {each.metric} too'
            raise ManifestError(f"{place}/metric", fact, "Give one of the two callables another name")
        everywhere = each.function is None and (None in same or (each.output is None and same))
        if each.output in same or everywhere:
            fact = f"a demand before it is on {each.metric} of the same output"
            raise ManifestError(place, fact, 'Keep one of the two, or name another "output" in each')
        same[each.output] = each


def quality(gate: Mapping[str, Any], name: str, place: str | None = None) -> QualityDemand:
    """One demand of the gate `name`: {"metric": one of `metrics(name)`, "min": at least or "max": at most} or
    {"metric": "package.module:callable", "min" or "max": limit, "args": keyword arguments}, with "output" where it is
    on one output only. `place` is where in the manifest it stands.

    Raises ManifestError.
    """
    place = place or f"gates/{name}"
    if not isinstance(gate, Mapping):
        raise ManifestError(place, f"{_shown(gate)} demands nothing", 'Give a "metric" and its limit')
    metric = gate.get("metric")
    if isinstance(metric, str) and ":" in metric:
        return _of_project(gate, metric, place)
    known = metrics(name)
    if metric not in known:
        fact = f"{_shown(metric)} is not one of {', '.join(known)}"
        remedy = f"{did_you_mean(str(metric), known)} Your own is package.module:callable"
        raise ManifestError(f"{place}/metric", fact, remedy)
    bound, other = ("min", "max") if metric in MORE else ("max", "min")
    if other in gate:
        raise ManifestError(f"{place}/{other}", f"no such demand on {metric}", f'It has a "{bound}"')
    _known_keys(gate, ["metric", "output", bound], place)
    if bound not in gate:
        raise ManifestError(place, f'{metric} has no "{bound}"', "A gate without a limit checks nothing")
    limit = _number(gate[bound], f"{place}/{bound}")
    _share(limit, f"{place}/{bound}") if bound == "min" else _not_negative(limit, f"{place}/{bound}")
    if metric == TOKENS and limit >= 1:
        fact = f"{limit:g} is met by an answer without a single token"
        raise ManifestError(f"{place}/{bound}", fact, "Say less than 1")
    return QualityDemand(metric, limit, gate.get("output"), f"{place}/{bound}")


def _of_project(gate: Mapping[str, Any], function: str, place: str) -> QualityDemand:
    _known_keys(gate, ["metric", "output", "min", "max", "args"], place)
    bounds, metric = [bound for bound in ("min", "max") if bound in gate], called(function)
    if len(bounds) != 1:
        fact = 'gives both "min" and "max"' if bounds else 'gives neither "min" nor "max"'
        raise ManifestError(place, fact, 'Say "min" where more is better, "max" where less is')
    if not metric.isidentifier():
        fact = f"{_shown(function)} is not of the form package.module:callable"
        raise ManifestError(f"{place}/metric", fact, "For example my_project.metrics:distance")
    if metric in TAKEN:
        fact = f'"{metric}" is the name of another verdict, and the figure goes by the name of the callable'
        raise ManifestError(f"{place}/metric", fact, "Give the callable another name")
    args = gate.get("args", {})
    if not isinstance(args, Mapping):
        raise ManifestError(f"{place}/args", f"{_shown(args)} is no set of arguments", "Say {name: value}")
    (bound,) = bounds
    limit, output = _number(gate[bound], f"{place}/{bound}"), gate.get("output")
    return QualityDemand(metric, limit, output, f"{place}/{bound}", function, args, bound == "min")


def called(metric: str) -> str:
    """What the figure of a gate's metric, built in or package.module:callable, goes by."""
    return metric.rpartition(":")[2]


def metrics(name: str) -> list[str]:
    """Those that are built in of the gate `name`, "teacher" or "task"."""
    return [SHARES[name], COSINE, *ERRORS, *([TOKENS] if name == "task" else [])]


def _tolerance(value: Any, place: str) -> dict[str, float] | None:
    if value == "auto":
        return None
    if not isinstance(value, Mapping) or not value:
        raise ManifestError(place, f"{_shown(value)} demands nothing", 'Say "auto", or limits by metric')
    _known_keys(value, [*CEILINGS, *FLOORS], place)
    return {metric: _limit(metric, value[metric], f"{place}/{metric}") for metric in sorted(value)}


def _limit(metric: str, value: Any, place: str) -> float:
    limit = _number(value, place)
    if metric == "cosine":
        _share(limit, place)
    elif metric == "sqnr_db" and limit <= 0:
        raise ManifestError(place, f"{limit:g} dB lets the error be as loud as the signal", "Say more than 0")
    elif metric in CEILINGS:
        _not_negative(limit, place)
    if metric == "max_rel" and limit >= 1:
        raise ManifestError(place, f"{limit:g} would pass an output of zeros", "Say less than 1")
    return limit


def _share(limit: float, place: str) -> None:
    if limit <= 0:
        raise ManifestError(place, f"{limit:g} is met by anything", "Say more than 0, at most 1")
    if limit > 1:
        raise ManifestError(place, f"{limit:g} is met by nothing", "Say more than 0, at most 1")


def _not_negative(limit: float, place: str) -> None:
    if limit < 0:
        raise ManifestError(place, f"{limit:g} is met by nothing", "Say 0 or more")


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ManifestError(place, f"{_shown(value)} is not a finite number", "Say a number")
    return float(value)


def _known_keys(found: Mapping[str, Any], known: list[str], place: str) -> None:
    for name in found:
        if name not in known:
            raise ManifestError(f"{place}/{name}", "no such demand here", did_you_mean(name, known))


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)
