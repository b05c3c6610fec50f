"""A program as the same program in float64, its constants as they are: what its own precision does.

In float16, and a little in float32, two right computations differ by a rounding here and there; in float64 the same
operations with the same weights agree closely. The difference between the two is the program's own noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelbuild.runtimes.coreml.evaluator import program
from modelbuild.runtimes.coreml.evaluator.constants import Constants
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.evaluator.program import TensorType


def widened(package: Package) -> Package:
    """`package` with every float16 and float32 value a float64 one, inputs and casts included."""
    spec = type(package.spec)()
    spec.CopyFrom(package.spec)
    constants = Constants(package)
    for function in spec.mlProgram.functions.values():
        for named in function.inputs:
            _widen_type(named.type)
        for block in function.block_specializations.values():
            for operation in _operations(block):
                _widen_operation(operation, constants)
    return Package(package.path, spec, package.folder)


def holds_half(package: Package) -> bool:
    """Whether any value of the program is a float16 one."""
    return any(
        isinstance(each.type, TensorType) and each.type.dtype == "float16"
        for function in package.functions.values()
        for operation in program.operations(function.body)
        for each in operation.outputs
    )


def _operations(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def _widen_operation(operation: Any, constants: Constants) -> None:
    for named in operation.outputs:
        _widen_type(named.type)
    for block in operation.blocks:
        for named in block.inputs:
            _widen_type(named.type)
    bound = (each.value for argument in operation.inputs.values() for each in argument.arguments)
    for value in [*operation.attributes.values(), *bound]:
        _widen_value(value, constants, operation.outputs[0].name if operation.outputs else operation.type)


def _widen_value(value: Any, constants: Constants, name: str) -> None:
    texts = value.immediateValue.tensor.strings.values
    if _is_narrow(value.type.tensorType):
        numbers = constants.read(value, name).double().numpy().tobytes()
        _widen_type(value.type)
        value.ClearField("blobFileValue")
        value.immediateValue.tensor.bytes.values = numbers
    elif list(texts) in (["fp16"], ["fp32"]):  # what `cast` is asked for
        texts[0] = "fp64"


def _is_narrow(tensor: Any) -> bool:
    from coremltools.proto import MIL_pb2

    return tensor.dataType in (MIL_pb2.FLOAT16, MIL_pb2.FLOAT32)


def _widen_type(kind: Any) -> None:
    from coremltools.proto import MIL_pb2

    for each in (kind.tensorType, kind.listType.type.tensorType, kind.stateType.wrappedType.tensorType):
        if _is_narrow(each):
            each.dataType = MIL_pb2.FLOAT64
