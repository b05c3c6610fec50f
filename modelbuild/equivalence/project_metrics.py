"""A project's own metric of a gate: what it is given, and that what it gives is one finite number a sample."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild import callables
from modelbuild.equivalence import means
from modelbuild.equivalence.compare import Fault
from modelbuild.equivalence.demand import QualityDemand
from modelbuild.equivalence.intervals import Floats
from modelbuild.equivalence.tasks import Row
from modelbuild.errors import ModelbuildError, RecipeError
from modelbuild.tensors import Arrays

Array = NDArray[Any]
MEAN = "a model that always gives the mean of its outputs"


def judged(demand: QualityDemand, outputs: Arrays, truth: Arrays) -> Row | Fault:
    """The metric's mean over the samples, held to the demand; a fault where it is NaN or infinite at a sample.

    The callable is given read-only copies of both, name -> (samples, ...). Raises RecipeError when it fails or gives
    anything but floating numbers (samples,), and for a limit that outputs meet which are the same at all samples.
    """
    samples = len(next(iter(outputs.values())))
    values = _values(demand, outputs, truth, samples, "")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        kind = "NaN" if np.isnan(values[bad[0]]) else "Inf"
        words = f"{demand.metric} is {kind} at sample {bad[0]} ({len(bad)} of {samples} are no numbers)"
        return Fault(demand.output or "", kind.lower(), words)
    same = {name: _same(array) for name, array in outputs.items()}
    constant = _values(demand, same, truth, samples, ", its outputs all replaced by their mean,")
    return means.row(values, float(np.mean(constant)), MEAN, demand)


def _values(demand: QualityDemand, outputs: Arrays, truth: Arrays, samples: int, when: str) -> Floats:
    """What the callable gives, (samples,), maybe not finite; `when` says in words what it was given."""
    found, place = _called(demand, outputs, truth, when), _place(demand)
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
        got = f"an array of {found.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
        fact = f"{demand.function}{when} gave {got}, not a NumPy array of floating numbers"
        raise RecipeError(place, fact, "Return one number for each sample, such as of float64")
    if found.shape != (samples,):
        fact = f"{demand.function}{when} gave numbers of shape {found.shape}, not one for each of {samples} samples"
        raise RecipeError(place, fact, "Return one number for each sample: their mean is taken here")
    return found.astype(np.float64)


def _called(demand: QualityDemand, outputs: Arrays, truth: Arrays, when: str) -> Any:
    path, place = str(demand.function), _place(demand)
    function = callables.resolve(path)
    if not callable(function):
        raise RecipeError(place, f"{path} is {type(function).__name__}, not a function", "Name a function")
    try:
        return function(_read_only(outputs), _read_only(truth), **demand.args)
    except ModelbuildError:
        raise
    except Exception as error:
        fact = f"{path}{when} failed: {callables.in_words(error)}"
        given = f"outputs {', '.join(outputs)} and as truth {', '.join(truth)}"
        raise RecipeError(place, fact, f"It is given the {given}.") from error


def _place(demand: QualityDemand) -> str:
    return f"{demand.place.rpartition('/')[0]}/metric"


def _read_only(arrays: Arrays) -> Mapping[str, Array]:
    """Copies, so that a metric which writes to them fails and changes nothing that others read."""
    copies = {name: np.array(array) for name, array in arrays.items()}
    for copy in copies.values():
        copy.flags.writeable = False
    return MappingProxyType(copies)


def _same(array: Array) -> Array:
    """The mean over the samples, in the array's dtype, at each of them."""
    mean = np.mean(array, axis=0, dtype=np.float64)
    one = mean if array.dtype.kind == "f" else np.rint(mean)
    return np.broadcast_to(one.astype(array.dtype), array.shape)
