"""Any Core ML package on given inputs, apart from every manifest: its outputs, and how far they are from others.

What the comparison allows is derived from the package itself, as the gate derives it from a model: FACTOR times what
inputs moved by one unit in the last place do, and the same program in float64 instead of float32; for a program in
float16, ROUNDING times the difference to the same program in float64 (see `equivalence.tolerance`).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
from numpy.typing import NDArray

from modelbuild import samples
from modelbuild.equivalence import noise
from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.equivalence.gate import Evaluation, Platform, runtime_gate
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import CommandError, RecipeError, did_you_mean
from modelbuild.limits import LIMITS
from modelbuild.runtimes.base import Run
from modelbuild.runtimes.coreml.evaluator import interface, mlpackage
from modelbuild.runtimes.coreml.evaluator.arithmetic import Accumulation
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator, chosen, refuse_unwatchable
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.evaluator.program import Function, StateType, TensorType
from modelbuild.runtimes.coreml.evaluator.widen import holds_half, widened

Array = NDArray[Any]
PLATFORM = "package"
NARROWER = {("int64", "int32"), ("int64", "int16"), ("int64", "uint16"), ("float64", "float32")}
# What NumPy and the archive beneath it raise where a file is none of theirs, or is damaged, cut short or encrypted.
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """`outputs` and `watched` by the program's names; `half` tells whether it computes in float16."""

    package: Package
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    watched: Mapping[str, Array]
    half: bool
    sums: Accumulation
    function: Function


def arrays(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file by name. Raises CommandError for anything else, pickles included."""
    try:
        if path.stat().st_size > LIMITS.arrays_bytes:
            raise CommandError(str(path), f"has more than {LIMITS.arrays_bytes} bytes")
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except UNREADABLE as error:
        fact = f"cannot be read as named arrays: {error}"
        raise CommandError(str(path), fact, "Write it with numpy.savez(path, name=array, ...)") from error


def evaluated(
    path: Path, inputs: Mapping[str, Array], sums: Accumulation, watch: Sequence[str] = (), function: str = ""
) -> Evaluated:
    """The package at `path` on `inputs`, which are brought into the program's dtypes where no value changes.

    Raises CommandError for what was asked wrongly: a path, function or value that is none, inputs that are not the
    package's own in name, dtype or shape. Raises RecipeError for what is no such package or cannot be evaluated.
    """
    if not path.exists():
        raise CommandError(
            str(path), "there is no such file or folder", "Give an .mlpackage folder or an .mlmodel"
        )
    package = mlpackage.read(path)
    with _as_asked():
        refuse_unwatchable(chosen(package, function), watch, package.path.name)
    evaluator = Evaluator(package, sums, watch, function)
    with _as_asked():
        given = _fitted(evaluator, inputs)
        evaluator.accepted(given)
        interface.check(package, given)
    outputs = _arrays(evaluator(given))
    half = holds_half(package)
    return Evaluated(package, given, outputs, _arrays(evaluator.watched), half, sums, evaluator.function)


@contextmanager
def _as_asked() -> Iterator[None]:
    """What is wrong in the block is the command line's fault."""
    try:
        yield
    except RecipeError as error:
        raise CommandError(error.place, error.fact, error.remedy) from error


def _fitted(evaluator: Evaluator, inputs: Mapping[str, Array]) -> dict[str, Array]:
    stated = {
        port.name: port.type for port in evaluator.function.inputs if not isinstance(port.type, StateType)
    }
    return {name: _as_stated(array, stated.get(name)) for name, array in inputs.items()}


def _as_stated(array: Array, stated: object) -> Array:
    """`array` in the dtype stated, where it is a wider one whose values all fit; else as it is, to be refused."""
    if isinstance(stated, TensorType) and (str(array.dtype), stated.dtype) in NARROWER:
        with np.errstate(over="ignore"):
            narrow = array.astype(stated.dtype)
        if np.array_equal(narrow.astype(array.dtype), array, equal_nan=array.dtype.kind == "f"):
            return narrow
    return array


def _arrays(values: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays by name; a classifier's dictionary becomes its scores, in the order of its classes."""
    found = {}
    for name, value in values.items():
        found[name] = np.array(list(value.values())) if isinstance(value, Mapping) else np.asarray(value)
    return found


def write(path: Path, done: Evaluated) -> None:
    """Write outputs and watched values as an .npz file. Raises CommandError where the disk refuses."""
    try:
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **{**done.watched, **done.outputs})
    except OSError as error:
        raise CommandError(str(path), f"cannot be written: {error.strerror or error}") from error


def compared(
    done: Evaluated, others: Mapping[str, Array], names: Mapping[str, str], demand: RuntimeDemand
) -> tuple[Verdict, ...]:
    """Verdicts on the outputs against `others`; `names` maps ours to theirs where they differ.

    Texts (a class label) are not compared. Raises CommandError for a name that is none.
    """
    ours = {name: array for name, array in done.outputs.items() if array.dtype.kind in "fiub"}
    theirs = _renamed(ours, others, names)
    nudged = _moved(theirs, ours, _again(done, done.package, samples.nudged(done.inputs)) or ours)
    wide = _again(done, widened(done.package), {n: _doubled(a) for n, a in done.inputs.items()})
    moved = None if wide is None else _moved(theirs, ours, wide)
    wider = {} if moved is None else {"float16" if done.half else noise.FP64: moved}
    sources = {noise.NUDGED: nudged, **({} if done.half else wider)}
    spread = noise.measure(theirs, sources, wider if done.half else {})
    backend = f"evaluator, {done.sums} sums" if done.half else "evaluator"
    run = Run(ours, f"coremltools {coremltools.__version__}", backend, "interpreted")
    platforms, runs = {PLATFORM: Platform()}, {PLATFORM: run}
    rounds = {PLATFORM: "float16"} if done.half else {}
    with _as_asked():  # a limit that could not fail
        judged = runtime_gate(
            done.package.path.name, theirs, spread, Evaluation(None), platforms, runs, demand, rounds
        )
    return judged.verdicts


def _renamed(
    ours: Mapping[str, Array], others: Mapping[str, Array], names: Mapping[str, str]
) -> dict[str, Array]:
    """`others` by our names, in our dtypes where no value changes."""
    for mine, other in names.items():
        if mine not in ours:
            raise CommandError(
                f"--map {mine}={other}", f'there is no output "{mine}"', did_you_mean(mine, [*ours])
            )
        if other not in others:
            fact = f'--against has no array "{other}"'
            raise CommandError(f"--map {mine}={other}", fact, did_you_mean(other, [*others]))
    mapped = {other: mine for mine, other in names.items()}
    found = {mapped.get(name, name): array for name, array in others.items()}
    return {
        name: _as_stated(array, TensorType(str(ours[name].dtype), array.shape)) if name in ours else array
        for name, array in found.items()
    }


def _again(done: Evaluated, package: Package, inputs: Mapping[str, Array]) -> dict[str, Array] | None:
    """The outputs once more, of `package` on `inputs`; None where an operation cannot be had that way."""
    try:
        return _arrays(Evaluator(package, done.sums, function=done.function.name)(inputs))
    except RecipeError:
        return None


def _doubled(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _moved(
    theirs: Mapping[str, Array], ours: Mapping[str, Array], again: Mapping[str, Array]
) -> dict[str, Array]:
    """`theirs`, each moved by as much as `again` is from `ours`: so a spread of ours becomes one of the reference."""
    found = dict(theirs)
    for name, array in theirs.items():
        mine = ours.get(name)
        if mine is not None and mine.shape == array.shape and mine.dtype.kind == array.dtype.kind == "f":
            found[name] = array.astype(np.float64) + (again[name].astype(np.float64) - mine)
    return found
