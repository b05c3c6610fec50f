"""What every value inside the model should be, by its name in the canonical ONNX file, and how far it may be off.

Of a model from PyTorch it is PyTorch that says so: the program that the ONNX file is a translation of is run node by
node. That it is that program is not taken for granted: exported once more, it has to give the same file to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import ModelProto, ValueInfoProto
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from modelbuild import exported, network, samples
from modelbuild.callables import in_words
from modelbuild.dataset import Array, DataSet
from modelbuild.deterministic import deterministic
from modelbuild.equivalence import localise
from modelbuild.equivalence.localise import NO_NUMBER, SAME
from modelbuild.equivalence.noise import FACTOR, ULPS, Spread
from modelbuild.equivalence.tolerance import ROUNDING
from modelbuild.errors import RecipeError
from modelbuild.recipes import canonical, double, export, identity, quantised, rounded, unoptimised
from modelbuild.recipes.plain import plain
from modelbuild.recipes.reference import widened
from modelbuild.runtimes.onnxruntime import worker

Arrays = Mapping[str, Array]
Compute = Callable[[Arrays], Arrays]
PLACE = "values"


class Value(NamedTuple):
    """A value as one call leaves it.

    `floor` is the largest difference that float64, or inputs moved by one unit in the last place, make; `rounded`
    the largest that each arithmetic below fp32 makes, infinite where it gives no number.
    """

    array: Array
    floor: Spread
    rounded: Mapping[str, Spread]


def limits(value: Value, rounds: str | None) -> Spread:
    """How far from `value` an honest run in `rounds` arithmetic (None: fp32) may be, as `tolerance.auto` has it."""
    own, ulps = value.rounded.get(rounds or "", SAME), _ulps(value.array)
    own = own if own.finite else SAME
    return Spread(
        max(FACTOR * value.floor.max_abs, ROUNDING * own.max_abs, ulps.max_abs),
        max(FACTOR * value.floor.rmse, ROUNDING * own.rmse, ulps.rmse),
    )


def torch_values(
    student: Path, onnx: Path, params: Mapping[str, Any], data: Arrays, rounds: Sequence[str] = ()
) -> dict[str, Value]:
    """Every value of the student that PyTorch has a node for, inputs and outputs too, in one call on all of `data`.

    `student` and `onnx` are target folders, `params` has "export". A value that rounding alone
    takes beyond every number is left out. Raises RecipeError where the student does not give the file in `onnx`.
    """
    with deterministic():
        module = network.restore(student)
        place = network.described(student)["module"]
        settings = export.Settings.of(params["export"], place)
        made = export.exported(module, DataSet(data, {}), settings, place)
        _refuse_other_file(made, onnx)
        if settings.fixed:
            _refuse_other_count(settings.smallest, data)
        nodes = {value: name.fx for value, name in made.names.values.items() if name.fx}
        program = _Program(made.program, nodes)
        found = _floored(program.run, program.wide, data)
        _refuse_other_outputs(found, module, data)
        for arithmetic in rounds:
            fresh = network.restore(student)
            _note_rounded(found, arithmetic, program.rounded(data, arithmetic, fresh))
    return found


def onnx_values(onnx: Path, data: Arrays) -> dict[str, Value]:
    """Every value of the canonical file in target folder `onnx`, in one call on all of `data`.

    In ONNX Runtime with every optimisation off. Raises RecipeError where it does not run the file.
    """
    model = _exposed(onnx / "model.onnx")
    fixed = unoptimised.fixed_batch(model)
    if fixed is not None:
        _refuse_other_count(fixed, data)
    given = {name: np.ascontiguousarray(array) for name, array in data.items()}
    return _floored(lambda fed: {**fed, **_run_onnx(model, fed)}, lambda fed: _run_double(model, fed), given)


# -- floors


def _floored(run: Compute, wide: Compute, data: Arrays) -> dict[str, Value]:
    """What `run` gives for `data`, with the floor; `wide` is the same in float64 and may raise RecipeError."""
    due = run(data)
    floors = dict.fromkeys(due, SAME)
    for moved in _moved(run, wide, data):
        floors = {n: _larger(floor, _apart(due[n], moved.get(n))) for n, floor in floors.items()}
    return {name: Value(due[name], floor, {}) for name, floor in floors.items() if floor.finite}


def _moved(run: Compute, wide: Compute, data: Arrays) -> Iterator[Arrays]:
    for direction in samples.DIRECTIONS:
        yield run(samples.nudged(data, direction))
    try:
        yield wide(widened(data))
    except RecipeError:  # there is no such form of the model: what moved inputs do is all that is known
        return


def _larger(one: Spread, other: Spread) -> Spread:
    return Spread(max(one.max_abs, other.max_abs), max(one.rmse, other.rmse))


def _apart(due: Array, other: Array | None) -> Spread:
    """The largest difference; none for a value that the `other` side lacks, infinite where one alone is no number."""
    if other is None:
        return SAME
    lost = ~np.isfinite(due)
    if due.shape != other.shape or not np.array_equal(due[lost], other[lost], equal_nan=True):
        return NO_NUMBER
    return localise.distance(due, other)


def _ulps(array: Array) -> Spread:
    """ULPS units in the last place of the largest number, and of the root mean square; whole numbers have none."""
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array[:0]
    if not finite.size:
        return SAME
    sizes = np.abs(finite).max(), np.sqrt(np.mean(np.square(finite, dtype=np.float64)))
    return Spread(*(ULPS * float(np.spacing(np.asarray(size, array.dtype))) for size in sizes))


def _note_rounded(found: dict[str, Value], arithmetic: str, moved: Arrays) -> None:
    for name, value in found.items():
        apart = {**value.rounded, arithmetic: _apart(value.array, moved.get(name))}
        found[name] = value._replace(rounded=apart)


# -- PyTorch


class _Program:
    """An ExportedProgram; `nodes` are the values that are wanted of it: name -> node."""

    def __init__(self, program: Any, nodes: Mapping[str, str]) -> None:
        self._program, self._nodes = program, nodes

    def run(self, data: Arrays) -> dict[str, Array]:
        return self._named(exported.values(self._program, _columns(data), self._nodes.values()))

    def wide(self, data: Arrays) -> dict[str, Array]:
        """In float64. Raises RecipeError where the program cannot be had in it."""
        try:
            return self._named(exported.wide_values(self._program, _columns(data), self._nodes.values()))
        except Exception as error:
            raise RecipeError(PLACE, f"no float64 form of the model: {in_words(error)}") from error

    def rounded(self, data: Arrays, arithmetic: str, module: nn.Module) -> dict[str, Array]:
        """In `arithmetic` below fp32; `module` has the weights, which stay as that stores them."""
        if not rounded.known(arithmetic):
            raise RecipeError(
                PLACE, f'there is no "{arithmetic}" arithmetic', "See modelbuild.recipes.rounded"
            )
        stored, computed = quantised.split(arithmetic)
        half = computed != "float32"
        if stored is not None:
            quantised.quantise(module, data, stored, torch.float16 if half else torch.float32)
        given = (_columns(data), self._nodes.values(), rounded.half if half else None, module.state_dict())
        with _rounding(computed) if half else nullcontext():
            return self._named(exported.values(self._program, *given))

    def _named(self, found: Arrays) -> dict[str, Array]:
        return {name: found[node] for name, node in self._nodes.items() if node in found}


def _columns(data: Arrays) -> list[Tensor]:
    return [torch.tensor(array) for array in data.values()]


@contextmanager
def _rounding(computed: str) -> Iterator[None]:
    with plain(), rounded.Rounding(stepwise=computed == "float16-sums"):
        yield


def _refuse_other_file(made: export.Exported, folder: Path) -> None:
    """What is asked about must be what is answered."""
    same = (folder / "model.onnx").read_bytes() == canonical.serialised(made.model)
    if not same or identity.read(folder) != made.names:
        fact = "the student, exported again, does not give the same ONNX file, so its values cannot be named"
        raise RecipeError(PLACE, fact, "Build the ONNX file again")


def _refuse_other_count(fixed: int, data: Arrays) -> None:
    count = len(next(iter(data.values())))
    if count != fixed:
        raise RecipeError(PLACE, f"the model takes {fixed} samples a call, and {count} were given for one")


def _refuse_other_outputs(found: Mapping[str, Value], module: nn.Module, data: Arrays) -> None:
    """What the nodes give at last must be what the module gives."""
    with torch.no_grad():
        eager = network.run(module, _columns(data))
    for name, value in eager.items():
        known = found.get(name)
        if known and not localise.within(_apart(known.array, value.numpy()), limits(known, None)):
            fact = f'the exported program gives another "{name}" than the module does'
            raise RecipeError(PLACE, fact, "Write forward so that it does the same for all inputs")


# -- ONNX


def _exposed(path: Path) -> ModelProto:
    """The model with every value of its outermost graph as an output."""
    model = onnx.load(path)
    there = {port.name for port in model.graph.output}
    inside = [value for node in model.graph.node for value in node.output if value and value not in there]
    # Without a type: ONNX Runtime infers it.
    model.graph.output.extend(ValueInfoProto(name=value) for value in inside)
    return model


def _run_onnx(model: ModelProto, data: Arrays) -> dict[str, Array]:
    names = [port.name for port in model.graph.output]
    try:
        session = worker.Session(model.SerializeToString(), "disabled")
        return _numbers(names, session.run(data))
    except Exception as error:
        raise RecipeError(PLACE, f"ONNX Runtime does not run the model: {in_words(error)}") from error


def _run_double(model: ModelProto, data: Arrays) -> dict[str, Array]:
    wide = double.widened(model)
    try:
        return _run_onnx(wide, data)
    except RecipeError:  # ONNX Runtime has float64 kernels for some operators only
        names = [port.name for port in wide.graph.output]
        try:
            return _numbers(names, ReferenceEvaluator(wide).run(names, dict(data)))
        except Exception as error:
            raise RecipeError(PLACE, f"no float64 form of the model: {in_words(error)}") from error


def _numbers(names: Sequence[str], found: Sequence[Any]) -> dict[str, Array]:
    """Those that are tensors of numbers, by name."""
    pairs = zip(names, found, strict=True)
    return {name: a for name, a in pairs if isinstance(a, np.ndarray) and a.dtype.kind in "fiub"}
