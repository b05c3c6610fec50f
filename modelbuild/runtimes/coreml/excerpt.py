"""Part of a package as a package of its own: the operations that compute some values from others, and weights.

At its borders Core ML has float32 and int32, and float16 on newer systems alone. So the excerpt takes and gives
values of any other type as one of those two and casts them inside; a float16 value is none the less one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.runtimes.coreml.converter.write import write as write_package
from modelbuild.runtimes.coreml.evaluator.evaluate import chosen
from modelbuild.runtimes.coreml.evaluator.liveness import uses
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.evaluator.program import Function, Named, TensorType
from modelbuild.runtimes.coreml.inside import constants
from modelbuild.runtimes.coreml.options import NAME
from modelbuild.runtimes.coreml.weights import copied

FILE = "shipped.mlpackage"
# What a value is at the border, and what casts from and to it are asked for.
BORDER: Mapping[str, str] = {"float16": "float32", "float32": "float32", "bool": "int32", "int32": "int32"}
CASTS: Mapping[str, str] = {"float16": "fp16", "float32": "fp32", "bool": "bool", "int32": "int32"}
INSIDE = "__inside"  # added to the name of a value whose own name is that of an input or output


def write(package: Package, out: Path, reads: Sequence[str], gives: Sequence[str]) -> str:
    """Write the part of `package` that computes `gives` from `reads` into folder `out`; return its name.

    The same package and names give the same bytes. Raises RecipeError for a name that is not a value, for one of a
    type that cannot cross the border, and where `gives` needs more than `reads`.
    """
    function = chosen(package, "")
    kinds = _kinds(function)
    _refuse(function, kinds, reads, gives)
    kept = _needed(function, reads, gives)
    spec = _spec(package, function, [kinds[name] for name in reads], [kinds[name] for name in gives], kept)
    with tempfile.TemporaryDirectory() as folder:
        weights = copied(package, spec, Path(folder) / "weights")
        shutil.rmtree(out / FILE, ignore_errors=True)
        write_package(spec, weights, out / FILE)
    return FILE


def _kinds(function: Function) -> dict[str, Named]:
    made = (each for operation in function.body.operations for each in operation.outputs)
    return {each.name: each for each in (*function.inputs, *made)}


def _refuse(
    function: Function, kinds: Mapping[str, Named], reads: Sequence[str], gives: Sequence[str]
) -> None:
    fixed = constants(function)
    for name in (*reads, *gives):
        if name not in kinds:
            raise RecipeError(NAME, f'"{name}" is no value of the package', did_you_mean(name, sorted(kinds)))
        kind = kinds[name].type
        if not isinstance(kind, TensorType) or kind.dtype not in BORDER or not kind.shape:
            raise RecipeError(NAME, f'"{name}" is no array of a type that a package takes or gives')
    for name in gives:
        if name in reads or name in fixed or name in {each.name for each in function.inputs}:
            raise RecipeError(NAME, f'nothing computes "{name}" from {_listed(reads)}')
    if not gives:
        raise RecipeError(NAME, "no value is asked for", "Name one or more")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "nothing"


def _needed(function: Function, reads: Sequence[str], gives: Sequence[str]) -> list[int]:
    """The numbers of the operations on the way from `reads` to `gives`, constants included, in their order."""
    makers = {
        each.name: number
        for number, operation in enumerate(function.body.operations)
        for each in operation.outputs
    }
    kept, waiting, seen = set[int](), [*gives], {*reads}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in makers:
            fact = f'{_listed(gives)} cannot be computed from {_listed(reads)}: "{name}" is needed'
            raise RecipeError(NAME, fact, f'Read "{name}" as well')
        kept.add(makers[name])
        waiting += uses(function.body.operations[makers[name]])
    return sorted(kept)


def _spec(
    package: Package, function: Function, reads: Sequence[Named], gives: Sequence[Named], kept: Sequence[int]
) -> Any:
    from coremltools.proto import Model_pb2

    whole = package.spec.mlProgram.functions[function.name]
    block = whole.block_specializations[whole.opset]
    spec = Model_pb2.Model(specificationVersion=package.spec.specificationVersion)
    spec.mlProgram.version = package.spec.mlProgram.version
    main = spec.mlProgram.functions["main"]
    main.opset = whole.opset
    part = main.block_specializations[whole.opset]
    crossing = {each.name for each in (*reads, *gives) if _casts(each)}
    for each in reads:
        main.inputs.add(name=each.name, type=_type(each, BORDER[_tensor(each).dtype]))
        if _casts(each):
            part.operations.append(_cast(each.name, each.name + INSIDE, each, _tensor(each).dtype))
    renamed = {name: name + INSIDE for name in crossing}
    for number in kept:
        operation = part.operations.add()
        operation.CopyFrom(block.operations[number])
        _rename(operation, renamed, {each.name for each in reads})
    for each in gives:
        if _casts(each):
            part.operations.append(_cast(each.name + INSIDE, each.name, each, BORDER[_tensor(each).dtype]))
        part.outputs.append(each.name)
    _describe(spec.description.input, reads)
    _describe(spec.description.output, gives)
    return spec


def _tensor(value: Named) -> TensorType:
    assert isinstance(value.type, TensorType)  # `_refuse` has seen to it
    return value.type


def _casts(value: Named) -> bool:
    return BORDER[_tensor(value).dtype] != _tensor(value).dtype


def _type(value: Named, dtype: str) -> Any:
    from coremltools.proto import MIL_pb2

    made = MIL_pb2.ValueType()
    made.tensorType.dataType = MIL_pb2.DataType.Value(dtype.upper())
    made.tensorType.rank = len(_tensor(value).shape)
    for size in _tensor(value).shape:
        axis = made.tensorType.dimensions.add()
        if size is None:
            axis.unknown.variadic = False
        else:
            axis.constant.size = size
    return made


def _cast(read: str, given: str, value: Named, dtype: str) -> Any:
    from coremltools.proto import MIL_pb2

    made = MIL_pb2.Operation(type="cast")
    made.inputs["x"].arguments.add(name=read)
    made.inputs["dtype"].arguments.add().value.CopyFrom(_text(CASTS[dtype]))
    made.attributes["name"].CopyFrom(_text(given))
    made.outputs.add(name=given, type=_type(value, dtype))
    return made


def _text(text: str) -> Any:
    from coremltools.proto import MIL_pb2

    value = MIL_pb2.Value()
    value.type.tensorType.dataType = MIL_pb2.DataType.STRING
    value.immediateValue.tensor.strings.values.append(text)
    return value


def _rename(operation: Any, renamed: Mapping[str, str], reads: set[str]) -> None:
    """Values that are cast go by another name inside, and one that is read is not what is computed here."""
    for each in operation.outputs:
        if each.name in reads:
            each.name = f"{each.name}__computed"
        else:
            each.name = renamed.get(each.name, each.name)
    for binding in _bindings(operation):
        binding.name = renamed.get(binding.name, binding.name)
    for block in _blocks(operation):
        block.outputs[:] = [renamed.get(name, name) for name in block.outputs]


def _bindings(operation: Any) -> Iterator[Any]:
    for argument in operation.inputs.values():
        yield from (each for each in argument.arguments if each.WhichOneof("binding") == "name")
    for block in operation.blocks:
        for inner in block.operations:
            yield from _bindings(inner)


def _blocks(operation: Any) -> Iterator[Any]:
    for block in operation.blocks:
        yield block
        for inner in block.operations:
            yield from _blocks(inner)


def _describe(features: Any, values: Sequence[Named]) -> None:
    """What the package says of its ports: an axis that is open may have any length."""
    from coremltools.proto import FeatureTypes_pb2

    for value in values:
        array = features.add(name=value.name).type.multiArrayType
        kind = BORDER[_tensor(value).dtype].upper()
        array.dataType = FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Value(kind)
        array.shape.extend(size or 1 for size in _tensor(value).shape)
        if None in _tensor(value).shape:
            for size in _tensor(value).shape:
                array.shapeRange.sizeRanges.add(lowerBound=size or 1, upperBound=size or -1)
