"""Values in a program: every type, as numbers, as packed bytes and in the weight file; and unsound ones."""

from __future__ import annotations

from pathlib import Path

import mil
import numpy as np
import pytest
import torch

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator import program
from modelbuild.runtimes.coreml.evaluator.constants import HELD_AS, Constants
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.evaluator.program import DictionaryType, ListType, StateType, TensorType

MIL = mil.ct.proto.MIL_pb2


def tensor_type(dtype: str, shape=()):
    """A MIL.ValueType; an axis of None is open."""
    stated = MIL.ValueType()
    stated.tensorType.dataType = MIL.DataType.Value(dtype.upper())
    stated.tensorType.rank = len(shape)
    for size in shape:
        axis = stated.tensorType.dimensions.add()
        if size is None:
            axis.unknown.variadic = False
        else:
            axis.constant.size = size
    return stated


def value(dtype: str, shape, **contents):
    """A MIL.Value whose immediate tensor holds `contents`: kind -> values."""
    made = MIL.Value(type=tensor_type(dtype, shape))
    made.immediateValue.tensor.SetInParent()
    for kind, values in contents.items():
        field = getattr(made.immediateValue.tensor, kind)
        field.SetInParent()
        if kind == "bytes":
            field.values = values
        else:
            field.values.extend(values)
    return made


def read(made, folder: Path = Path("nowhere")):
    return Constants(Package(folder / "net.mlpackage", None, folder)).read(made, "w")


def refused(made, message: str, folder: Path = Path("nowhere")) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        read(made, folder)
    assert caught.value.place == "net.mlpackage: w"


def same(found, values, dtype) -> None:
    assert found.dtype == dtype and found.tolist() == values


# -- immediate values


@pytest.mark.parametrize(
    ("dtype", "kind", "values"),
    [
        ("float32", "floats", [1.5, -0.1]),
        ("float64", "doubles", [1.5, -0.1]),
        ("float16", "floats", [1.5, -2.0]),
        ("bfloat16", "floats", [1.5, -2.0]),
        ("bool", "bools", [True, False]),
        ("bool", "ints", [1, 0]),
        ("int32", "ints", [-(2**31), 2**31 - 1]),
        ("int64", "longInts", [-(2**63), 2**63 - 1]),
        ("int8", "ints", [-128, 127]),
        ("int16", "ints", [-(2**15), 2**15 - 1]),
        ("uint8", "ints", [0, 255]),
        ("uint16", "ints", [0, 2**16 - 1]),
        ("uint32", "longInts", [0, 2**32 - 1]),
        ("uint64", "longInts", [0, 2**63 - 1]),
        ("int4", "ints", [-8, 7]),
        ("uint1", "ints", [0, 1]),
        ("uint2", "ints", [0, 3]),
        ("uint3", "ints", [0, 7]),
        ("uint4", "ints", [0, 15]),
        ("uint6", "ints", [0, 63]),
    ],
)
def test_numbers_of_every_type(dtype, kind, values) -> None:
    found = read(value(dtype, (2,), **{kind: values}))
    wanted = torch.tensor(values, dtype=HELD_AS[dtype])
    assert found.dtype == HELD_AS[dtype] and torch.equal(found.double(), wanted.double())


@pytest.mark.parametrize(
    ("dtype", "kind", "bad"),
    [
        ("int8", "ints", 128),
        ("int8", "ints", -129),
        ("uint8", "ints", -1),
        ("uint8", "ints", 256),
        ("uint16", "ints", -1),
        ("int16", "ints", 2**15),
        ("int32", "longInts", 2**31),
        ("bool", "ints", 2),
        ("int4", "ints", 8),
        ("int4", "ints", -9),
        ("uint1", "ints", 2),
        ("uint3", "ints", 8),
        ("uint6", "ints", 64),
        ("int32", "floats", 1.5),
        ("bool", "floats", 1.0),
        ("int8", "doubles", 1.0),
    ],
)
def test_numbers_that_the_type_cannot_hold_are_refused(dtype, kind, bad) -> None:
    refused(
        value(dtype, (1,), **{kind: [bad]}),
        f"cannot be read as {dtype} from its {kind}: not all of its numbers",
    )


PACKED = [
    ("float16", np.array([1.5, -2, np.inf], np.float16)),
    ("float32", np.array([1.5, -2, np.nan], np.float32)),
    ("float64", np.array([1.5, -2])),
    ("int8", np.array([-128, 127], np.int8)),
    ("int16", np.array([-(2**15), 258], np.int16)),
    ("int32", np.array([-(2**31), 66051], np.int32)),
    ("int64", np.array([-(2**63), 1], np.int64)),
    ("uint8", np.array([0, 255], np.uint8)),
    ("uint16", np.array([258, 2**16 - 1], np.uint16)),
    ("uint32", np.array([66051, 2**32 - 1], np.uint32)),
    ("uint64", np.array([1, 2**64 - 1], np.uint64)),
    ("bool", np.array([True, False])),
]


@pytest.mark.parametrize(("dtype", "array"), PACKED, ids=[dtype for dtype, _ in PACKED])
def test_bytes_are_numbers_lowest_byte_first(dtype, array) -> None:
    found = read(value(dtype, array.shape, bytes=array.astype(array.dtype.newbyteorder("<")).tobytes()))
    assert found.dtype == HELD_AS[dtype]
    np.testing.assert_array_equal(found.numpy(), array)


@pytest.mark.parametrize(
    ("dtype", "data", "values"),
    [
        ("uint1", [0b10110001, 0b00000001], [1, 0, 0, 0, 1, 1, 0, 1, 1]),
        ("uint2", [0b11100100, 0b00000010], [0, 1, 2, 3, 2]),
        ("uint3", [0b10001111, 0b00000101], [7, 1, 6, 2]),
        ("uint4", [0x21, 0x0F], [1, 2, 15]),
        ("int4", [0x78, 0x0F], [-8, 7, -1]),
        ("uint6", [0b01111111, 0b00000000], [63, 1]),
    ],
)
def test_numbers_of_less_than_a_byte_follow_without_gaps(dtype, data, values) -> None:
    same(read(value(dtype, (len(values),), bytes=bytes(data))), values, HELD_AS[dtype])
    for length in (len(data) - 1, len(data) + 1):
        damaged = value(dtype, (len(values),), bytes=bytes([*data, 0][:length]))
        refused(damaged, f"cannot be read as {dtype} from its bytes: {length} bytes for")


def test_brain_floats_are_the_upper_halves_of_floats() -> None:
    upper = np.array([1.5, -2, np.inf], "<f4").view("<u4") >> 16
    same(
        read(value("bfloat16", (3,), bytes=upper.astype("<u2").tobytes())), [1.5, -2, np.inf], torch.bfloat16
    )


def test_values_take_the_shape_that_is_stated() -> None:
    same(read(value("int32", (2, 3), ints=range(6))), [[0, 1, 2], [3, 4, 5]], torch.int32)
    same(read(value("int32", (), ints=[7])), 7, torch.int32)
    assert read(value("float32", (0, 4))).shape == (0, 4)
    assert read(value("float16", (2, 0), bytes=b"")).shape == (2, 0)
    assert read(value("uint3", (0,), bytes=b"")).shape == (0,)


@pytest.mark.parametrize("shape", [(), (5,), (7,), (2, 4), (0,), (2**62, 4)])
def test_another_number_of_values_than_the_shape_has_is_refused(shape) -> None:
    refused(value("int32", shape, ints=range(6)), r"holds 6 numbers where its shape .* has")


def test_a_shape_that_no_memory_has_is_refused() -> None:
    refused(value("float32", (0, 2**63)), "has the impossible shape")


def test_bytes_that_are_no_whole_numbers_are_refused() -> None:
    refused(value("float16", (1,), bytes=b"abc"), "cannot be read as float16 from its bytes")
    refused(value("bfloat16", (1,), bytes=b"a"), "cannot be read as bfloat16 from its bytes")


def test_texts() -> None:
    assert read(value("string", (), strings=["valid"])) == "valid"
    assert read(value("string", (2,), strings=["a", "b"])) == ["a", "b"]
    refused(value("string", (), strings=[]), r"holds 0 texts where its shape \[\] has 1")
    refused(value("string", (3,), strings=["a"]), "holds 1 texts where")


def test_lists() -> None:
    made = MIL.Value()
    made.type.listType.type.CopyFrom(tensor_type("string"))
    made.type.listType.length.constant.size = 2
    for text in ("a", "b"):
        made.immediateValue.list.values.add().CopyFrom(value("string", (), strings=[text]))
    assert read(made) == ["a", "b"]


def test_numbers_of_an_unknown_type_are_refused() -> None:
    refused(value("float8e4m3fn", (1,), bytes=b"a"), "is a constant of the unknown type float8e4m3fn")


@pytest.mark.parametrize(
    "stated",
    [tensor_type("float32", (None,)), MIL.ValueType(listType=MIL.ListType(type=tensor_type("int8")))],
)
def test_a_constant_of_open_shape_or_no_tensor_is_refused(stated) -> None:
    refused(MIL.Value(type=stated), "is a constant of a type that no constant can have")


# -- the weight file


def blob(folder: Path, dtype: str, method: str, array) -> object:
    from coremltools.libmilstoragepython import _BlobStorageWriter

    (folder / "weights").mkdir(exist_ok=True)
    writer = _BlobStorageWriter(str(folder / "weights" / "weight.bin"))
    made = MIL.Value(type=tensor_type(dtype, array.shape))
    made.blobFileValue.fileName = "@model_path/weights/weight.bin"
    made.blobFileValue.offset = getattr(writer, f"write_{method}_data")(array.ravel())
    (folder / "net.mlpackage").mkdir(exist_ok=True)
    return made


STORED = [
    ("float32", "float", np.array([[1.5, -2, np.nan]], np.float32)),
    ("float16", "fp16", np.array([[1.5, -2, np.inf]], np.float16)),
    ("int8", "int8", np.array([-128, 127, 0], np.int8)),
    ("uint8", "uint8", np.array([[0], [255]], np.uint8)),
    ("int16", "int16", np.array([-(2**15), 258], np.int16)),
    ("uint16", "uint16", np.array([258, 2**16 - 1], np.uint16)),
    ("int32", "int32", np.array([-(2**31), 66051], np.int32)),
    ("uint32", "uint32", np.array([66051, 2**32 - 1], np.uint32)),
    *[
        (name, name, np.arange(count))
        for name, count in (("uint1", 2), ("uint2", 4), ("uint3", 8), ("uint6", 64))
    ],
    ("uint4", "uint4", np.arange(16).reshape(4, 4)),
    ("int4", "int4", np.arange(-8, 7).reshape(3, 5)),
]


def stored(tmp_path, dtype, method, array):
    whole = {"fp16": lambda a: a.view(np.uint16)}.get(method, lambda a: a)(array)
    if method in ("uint1", "uint2", "uint3", "uint4", "uint6", "int4"):
        whole = array.astype(mil.types.nptype_from_builtin(mil.types.string_to_builtin(dtype)))
    home = tmp_path / "net.mlpackage"
    home.mkdir(exist_ok=True)
    return blob(home, dtype, method, whole), home


def read_stored(made, home):
    return Constants(Package(home, None, home)).read(made, "w")


@pytest.mark.parametrize(("dtype", "method", "array"), STORED, ids=[dtype for dtype, _, _ in STORED])
def test_stored_numbers_of_every_type(dtype, method, array, tmp_path) -> None:
    found = read_stored(*stored(tmp_path, dtype, method, array))
    assert found.dtype == HELD_AS[dtype]
    np.testing.assert_array_equal(found.numpy(), array)


def test_stored_numbers_of_another_type_or_count_are_refused(tmp_path) -> None:
    made, home = stored(tmp_path, "float32", "float", np.ones(4, np.float32))
    for dtype in ("float16", "int32", "uint4", "int64", "bool"):
        other = MIL.Value(type=tensor_type(dtype, (4,)), blobFileValue=made.blobFileValue)
        with pytest.raises(
            RecipeError, match=f"cannot be read from @model_path/weights/weight.bin at 64 as {dtype}"
        ):
            read_stored(other, home)
    other = MIL.Value(type=tensor_type("float32", (2, 3)), blobFileValue=made.blobFileValue)
    with pytest.raises(RecipeError, match=r"holds 4 numbers where its shape \[2, 3\] has 6"):
        read_stored(other, home)


# -- types


def test_types_are_read_as_stated() -> None:
    tensor = tensor_type("float16", (2, None))
    assert program.type_of(tensor, "p") == TensorType("float16", (2, None))
    assert program.type_of(MIL.ValueType(stateType=MIL.StateType(wrappedType=tensor)), "p") == StateType(
        TensorType("float16", (2, None))
    )
    listed = MIL.ValueType(listType=MIL.ListType(type=tensor))
    assert program.type_of(listed, "p") == ListType(TensorType("float16", (2, None)), None)
    listed.listType.length.constant.size = 3
    assert program.type_of(listed, "p") == ListType(TensorType("float16", (2, None)), 3)
    table = MIL.ValueType()
    table.dictionaryType.SetInParent()
    assert program.type_of(table, "p") == DictionaryType()


def test_types_that_are_not_sound_are_refused() -> None:
    open_rank = tensor_type("float32", (None,))
    open_rank.tensorType.dimensions[0].unknown.variadic = True
    wrong_rank = tensor_type("float32", (2, 3))
    wrong_rank.tensorType.rank = 1
    unknown = tensor_type("float32", (2,))
    unknown.tensorType.dataType = 9999
    nested = MIL.ValueType(listType=MIL.ListType(type=MIL.ValueType(listType=MIL.ListType(type=open_rank))))
    tuple_ = MIL.ValueType()
    tuple_.tupleType.SetInParent()
    for stated, message in (
        (open_rank, "is a tensor of any rank"),
        (wrong_rank, "states 2 axes for a tensor of rank 1"),
        (unknown, "holds numbers of the unknown type 9999"),
        (
            MIL.ValueType(
                listType=MIL.ListType(
                    type=MIL.ValueType(stateType=MIL.StateType(wrappedType=tensor_type("int8")))
                )
            ),
            "holds something other than tensors",
        ),
        (nested, "is a tensor of any rank"),
        (tuple_, "is of type tupleType"),
        (MIL.ValueType(), "is of type None"),
    ):
        with pytest.raises(RecipeError, match=message):
            program.type_of(stated, "place")
