"""An ML Program as plain values: functions of blocks of operations, read from the MIL protobuf.

The file itself is read, not what a converter's loader makes of it: that one infers types and folds constants
anew, refuses files its own version would not write, and would sit on both sides of the comparison.
Names and meanings are those of MIL.proto in coremltools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelbuild.errors import RecipeError

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """`dtype` as MIL calls it in lower case, such as "float16"; an axis that is open is None."""

    dtype: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class ListType:
    """A list whose elements have type `element`; `length` is None where it may grow."""

    element: TensorType
    length: int | None


@dataclass(frozen=True, slots=True)
class StateType:
    """A buffer that outlives a call and holds a `content`."""

    content: TensorType


@dataclass(frozen=True, slots=True)
class DictionaryType:
    """What `classify` gives: class -> probability."""


Type = TensorType | ListType | StateType | DictionaryType


@dataclass(frozen=True, slots=True)
class Named:
    """A value: what the program calls it and of which type it is."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written into the program; `proto` is a MIL.Value, read when it is needed."""

    proto: Any


Binding = str | Literal


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: `inputs` by MIL's argument names, each one binding or, where it is variadic, several."""

    type: str
    name: str
    inputs: Mapping[str, tuple[Binding, ...]]
    attributes: Mapping[str, Literal]
    outputs: tuple[Named, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Operations in an order in which they can run, and the names they leave as the block's result."""

    inputs: tuple[Named, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """One entry point; `opset` is 5 for iOS 15 up to 8 for iOS 18 and 9 for iOS 26."""

    name: str
    opset: int
    inputs: tuple[Named, ...]
    body: Block


def read(proto: Any, place: str) -> dict[str, Function]:
    """The functions of a MIL.Program by name. Raises RecipeError for what no ML Program may hold."""
    return {name: _function(name, each, place) for name, each in sorted(proto.functions.items())}


def operations(block: Block) -> Iterator[Operation]:
    """Every operation of `block` and of the blocks inside it, outer ones first."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from operations(inner)


def _function(name: str, proto: Any, place: str) -> Function:
    if proto.opset not in proto.block_specializations:
        fact = f'function "{name}" is of opset "{proto.opset}" and has no block for it'
        raise RecipeError(place, fact, "The file is damaged: convert it again")
    number = proto.opset.removeprefix("CoreML")
    if not number.isdigit():
        raise RecipeError(place, f'function "{name}" is of an unknown opset "{proto.opset}"')
    body = _block(proto.block_specializations[proto.opset], place)
    return Function(name, int(number), tuple(_named(each, place) for each in proto.inputs), body)


def _block(proto: Any, place: str) -> Block:
    return Block(
        tuple(_named(each, place) for each in proto.inputs),
        tuple(_operation(each, place) for each in proto.operations),
        tuple(proto.outputs),
    )


def _operation(proto: Any, place: str) -> Operation:
    outputs = tuple(_named(each, place) for each in proto.outputs)
    named = proto.attributes.get("name")
    name = "".join(named.immediateValue.tensor.strings.values) if named is not None else ""
    return Operation(
        type=proto.type,
        name=name or (outputs[0].name if outputs else proto.type),
        inputs={key: tuple(map(_binding, each.arguments)) for key, each in sorted(proto.inputs.items())},
        attributes={key: Literal(each) for key, each in sorted(proto.attributes.items())},
        outputs=outputs,
        blocks=tuple(_block(each, place) for each in proto.blocks),
    )


def _binding(proto: Any) -> Binding:
    return str(proto.name) if proto.WhichOneof("binding") == "name" else Literal(proto.value)


def _named(proto: Any, place: str) -> Named:
    return Named(proto.name, type_of(proto.type, f"{place}: {proto.name}"))


def type_of(proto: Any, place: str) -> Type:
    """The type that a MIL.ValueType states. Raises RecipeError for a tuple or an open rank."""
    kind = proto.WhichOneof("type")
    if kind == "tensorType":
        return _tensor(proto.tensorType, place)
    if kind == "listType":
        length = proto.listType.length
        fixed = length.constant.size if length.WhichOneof("dimension") == "constant" else None
        return ListType(_content(proto.listType.type, place), fixed)
    if kind == "stateType":
        return StateType(_content(proto.stateType.wrappedType, place))
    if kind == "dictionaryType":
        return DictionaryType()
    raise RecipeError(place, f"is of type {kind}, which ML Programs use nowhere that is known")


def _content(proto: Any, place: str) -> TensorType:
    inner = type_of(proto, place)
    if not isinstance(inner, TensorType):
        raise RecipeError(place, "holds something other than tensors")
    return inner


def _tensor(proto: Any, place: str) -> TensorType:
    from coremltools.proto import MIL_pb2

    if proto.rank != len(proto.dimensions):
        raise RecipeError(place, f"states {len(proto.dimensions)} axes for a tensor of rank {proto.rank}")
    if any(axis.unknown.variadic for axis in proto.dimensions):
        raise RecipeError(place, "is a tensor of any rank, which is not supported here")
    if proto.dataType not in MIL_pb2.DataType.values():
        raise RecipeError(place, f"holds numbers of the unknown type {proto.dataType}")
    axes = (
        axis.constant.size if axis.WhichOneof("dimension") == "constant" else None
        for axis in proto.dimensions
    )
    return TensorType(MIL_pb2.DataType.Name(proto.dataType).lower(), tuple(axes))
