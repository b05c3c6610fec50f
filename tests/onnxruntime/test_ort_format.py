"""ORT files made canonical: the same bytes from every process, the same answers, and nothing unknown passes."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from ort_models import Feed, branches, exported, quantised, weights

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import flatbuffer, worker
from modelbuild.runtimes.onnxruntime.ort_format import NAMED, SCHEMA, canonical

# One process for all models: most of its time is the start.
SAVE = """
import sys
sys.path.insert(0, sys.argv[1])
import worker
for model, out in zip(sys.argv[2::2], sys.argv[3::2]):
    worker.save(model, out)
"""
NAMES = ("convnet", "encoder", "plain1d", "branches", "qdq")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Feed]]:
    folder, found = tmp_path_factory.mktemp("models"), {}
    made: dict[str, tuple[onnx.ModelProto, Feed]] = {name: exported(name) for name in NAMES[:3]}
    made |= {"branches": (branches(), {"x": weights(4, 6)}), "qdq": (quantised(), {"x": weights(4, 6)})}
    for name, (each, feed) in made.items():
        onnx.save(each, folder / f"{name}.onnx")
        found[name] = (folder / f"{name}.onnx", feed)
    return found


@pytest.fixture(scope="module")
def files(
    models: dict[str, tuple[Path, Feed]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[bytes]]:
    """Each model as three processes wrote it."""
    runs = [tmp_path_factory.mktemp("run") for _ in range(3)]
    for run in runs:
        pairs = [str(path) for name, (source, _) in models.items() for path in (source, run / name)]
        subprocess.run([sys.executable, "-c", SAVE, str(Path(worker.__file__).parent), *pairs], check=True)
    return {name: [(run / name).read_bytes() for run in runs] for name in models}


@pytest.fixture(scope="module")
def plain(files: dict[str, list[bytes]]) -> bytes:
    return canonical(files["branches"][0])


def answers(data: bytes, feed: Feed) -> list[bytes]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    return [each.tobytes() for each in session.run(None, feed)]


@pytest.mark.parametrize("name", NAMES)
def test_every_process_gives_the_same_bytes(files: dict[str, list[bytes]], name: str) -> None:
    assert len({canonical(data) for data in files[name]}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_model_answers_as_before(
    files: dict[str, list[bytes]], models: dict[str, tuple[Path, Feed]], name: str
) -> None:
    data, feed = files[name][0], models[name][1]
    assert answers(canonical(data), feed) == answers(data, feed)


@pytest.mark.parametrize("name", NAMES)
def test_canonical_bytes_stay(files: dict[str, list[bytes]], name: str) -> None:
    once = canonical(files[name][0])
    assert canonical(once) == once


def tables(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from tables(each)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_looked_up_by_name_may_come_in_any_order(files: dict[str, list[bytes]], name: str) -> None:
    session = flatbuffer.read(files[name][0], SCHEMA)
    shuffled = set()
    for table in tables(session):
        for field in NAMED.keys() & {key for key, value in table.items() if len(value) > 1}:
            random.Random(1).shuffle(table[field])
            table[field].reverse()
            shuffled.add(field)
    assert {"initializers", "node_args", "op_kernel_type_str_args"} <= shuffled
    other = flatbuffer.write(session, SCHEMA)
    assert other != canonical(files[name][0])
    assert canonical(other) == canonical(files[name][0])


@pytest.mark.parametrize("field", ["nodes", "node_edges"])
def test_what_has_an_order_keeps_it(plain: bytes, field: str) -> None:
    session = flatbuffer.read(plain, SCHEMA)
    session["model"]["graph"][field].reverse()
    again = flatbuffer.read(canonical(flatbuffer.write(session, SCHEMA)), SCHEMA)
    assert again == session


def test_nothing_is_lost(files: dict[str, list[bytes]]) -> None:
    for data in (each for several in files.values() for each in several):
        before, after = flatbuffer.read(data, SCHEMA), flatbuffer.read(canonical(data), SCHEMA)
        assert in_order(before) == in_order(after)


def in_order(value: Any) -> Any:
    """Independent of `canonical`: every list of named things as a mapping."""
    if isinstance(value, dict):
        return {key: in_order(each) for key, each in value.items()}
    if isinstance(value, list):
        plain = [in_order(each) for each in value]
        named = [str(each) for each in plain] if plain and isinstance(plain[0], dict) else plain
        return sorted(named) if plain and isinstance(plain[0], dict) and "op_type" not in plain[0] else named
    return bytes(value)


def test_weights_lie_on_multiples_of_16(plain: bytes) -> None:
    assert weights(6, 6).tobytes() in plain
    whole = memoryview(plain)
    start = np.frombuffer(whole, np.uint8).ctypes.data
    raw = [each["raw_data"] for each in tables(flatbuffer.read(plain, SCHEMA)) if "raw_data" in each]
    assert len(raw) > 3
    assert {(np.frombuffer(each, np.uint8).ctypes.data - start) % 16 for each in raw if len(each)} == {0}


# -- what is refused


def refused(data: bytes, what: str) -> None:
    with pytest.raises(RecipeError) as caught:
        canonical(data)
    assert caught.value.place == "onnxruntime"
    assert what in caught.value.fact
    assert caught.value.remedy


def test_other_letters_are_refused(plain: bytes) -> None:
    refused(plain[:4] + b"TFL3" + plain[8:], "ORTM")


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x08\0\0\0ORTM"])
def test_what_ends_too_early_is_refused(data: bytes) -> None:
    with pytest.raises(RecipeError):
        canonical(data)


def test_every_truncation_is_refused(plain: bytes) -> None:
    for size in range(0, len(plain), 97):
        with pytest.raises(RecipeError):
            canonical(plain[:size])


def test_damage_never_gives_anything_but_a_file_or_an_error(plain: bytes) -> None:
    chance, outcomes = random.Random(0), set()
    for _ in range(600):
        damaged = bytearray(plain)
        at = chance.randrange(0, len(damaged) - 4)
        damaged[at : at + 4] = struct.pack(
            "<I", chance.choice([0, 1, 4, 2**31, 2**32 - 1, chance.randrange(2**16)])
        )
        try:
            canonical(bytes(damaged))
            outcomes.add("file")
        except RecipeError:
            outcomes.add("error")
    assert outcomes == {"file", "error"}


def written(tables: dict[str, str], value: dict[str, Any]) -> bytes:
    """A file by another schema than ours, that ours then reads."""
    return flatbuffer.write(value, flatbuffer.schema(tables, "InferenceSession", b"ORTM", {}))


def test_a_field_past_the_last_is_refused() -> None:
    newer = {"InferenceSession": "a:string b:string c:string d:string more:string"}
    refused(written(newer, {"more": b"new"}), "not known")


def test_a_long_list_of_fields_is_refused_even_where_all_are_absent() -> None:
    """Many tables may share one such list, so that a small file takes long."""
    long = struct.pack("<HH", 65534, 4) + bytes(65530)
    data = struct.pack("<I", 8 + len(long)) + b"ORTM" + long
    refused(data + struct.pack("<i", len(long)), "not known")


def test_a_field_outside_of_its_table_is_refused() -> None:
    """The table says that it ends after its head; what follows is no part of it."""
    vtable = struct.pack("<HHH", 6, 4, 4)
    table = struct.pack("<iI", 8, 4) + struct.pack("<I", 1) + b"7\0"
    refused(struct.pack("<I", 16) + b"ORTM" + vtable + b"\0\0" + table, "outside of its table")


def test_a_deprecated_field_is_refused() -> None:
    older = {"InferenceSession": "a:string b:string session_state:string"}
    refused(written(older, {"session_state": b""}), "field 2 of InferenceSession")


def typed(number: int, value: bool = True) -> bytes:
    """A file whose only value has the type `number`."""
    schema = {
        "InferenceSession": "ort_version:string model:Model",
        "Model": "a:string b:string c:string d:string e:string f:string g:string graph:Graph",
        "Graph": "a:string node_args:[ValueInfo]",
        "ValueInfo": "name:string doc_string:string type:TypeInfo",
        "TypeInfo": "denotation:string value_type:uint8 value:Any",
        "Any": "elem_type:int32",
    }
    kind = {"value_type": bytes([number])} | ({"value": {}} if value else {})
    return written(schema, {"model": {"graph": {"node_args": [{"name": b"x", "type": kind}]}}})


def test_an_unknown_type_is_refused() -> None:
    canonical(typed(1))
    refused(typed(4), "value is of type 4, which is not known")
    refused(typed(0), "value is of type 0, which is not known")
    refused(typed(1, value=False), "value has a type and no value")


def nested(depth: int) -> bytes:
    kind: dict[str, Any] = {"value_type": b"\1", "value": {}}
    for _ in range(depth):
        kind = {"value_type": b"\2", "value": {"elem_type": kind}}
    value = {"name": b"x", "type": kind}
    return flatbuffer.write({"model": {"graph": {"node_args": [value]}}}, SCHEMA)


def test_deep_nesting_is_refused() -> None:
    canonical(nested(28))
    refused(nested(40), "nested more than 64 deep")
    refused(nested(200), "nested more than 64 deep")


def test_shared_tables_do_not_blow_up() -> None:
    """A list of ten references to one table, which has such a list, and so on: a small file of 10^6 tables."""
    out = bytearray(struct.pack("<I", 0) + b"ORTM")
    out += struct.pack("<HHHH", 8, 8, 0, 4)  # InferenceSession: model
    out += struct.pack("<HHHHHHHHHH", 20, 8, 0, 0, 0, 0, 0, 0, 0, 4)  # Model: graph
    out += struct.pack("<HHHHH", 10, 8, 0, 0, 4)  # Graph: nodes
    out += struct.pack("<HH11H", 26, 8, *[0] * 10, 4)  # Node: attributes
    out += struct.pack("<HH13H", 30, 8, *[0] * 12, 4)  # Attribute: graphs
    vtables = {"session": 8, "model": 16, "graph": 36, "node": 46, "attribute": 72}

    def table(kind: str) -> int:
        at = len(out)
        out.extend(struct.pack("<iI", at - vtables[kind], 4))  # its one field refers to what comes next
        return at

    def ten() -> None:
        out.extend(struct.pack("<I", 10) + b"".join(struct.pack("<I", 40 - 4 * index) for index in range(10)))

    struct.pack_into("<I", out, 0, table("session"))
    table("model")
    for _ in range(2):
        for kind in ("graph", "node", "attribute"):
            table(kind)
            ten()
    out.extend(struct.pack("<i", len(out) - vtables["session"]) + bytes(4))
    refused(bytes(out), "overlap")


def test_a_string_without_an_end_is_refused() -> None:
    data = flatbuffer.write({"ort_version": b"seven"}, SCHEMA)
    refused(data.replace(b"seven\0", b"seven!"), "no end")


def test_two_of_one_name_are_refused() -> None:
    graph = {"initializers": [{"name": b"w"}, {"name": b"v"}, {"name": b"w"}]}
    refused(flatbuffer.write({"model": {"graph": graph}}, SCHEMA), 'two of initializers are called "w"')


def test_tensors_in_another_file_are_refused() -> None:
    graph = {"initializers": [{"name": b"w", "external_data_offset": bytes(8)}]}
    refused(flatbuffer.write({"model": {"graph": graph}}, SCHEMA), 'the tensor "w" lies in another file')


def test_a_default_that_is_written_out_is_left_out() -> None:
    spelt_out = {"initializers": [{"name": b"w", "external_data_offset": b"\xff" * 8, "data_type": bytes(4)}]}
    left_out = {"initializers": [{"name": b"w"}]}
    one, other = (flatbuffer.write({"model": {"graph": graph}}, SCHEMA) for graph in (spelt_out, left_out))
    assert one != other
    assert canonical(one) == canonical(other)


def test_a_vtable_longer_than_the_schema_is_refused_even_where_its_slots_are_empty() -> None:
    """All tables may share one: each would pay nothing for reading 64 KiB."""
    longer = flatbuffer.schema(
        {"InferenceSession": " ".join(f"f{n}:int64" for n in range(40))}, "InferenceSession", b"ORTM", {}
    )
    data = bytearray(flatbuffer.write({"f0": b"", "f39": b"\1" * 8} | {"f0": b"\1" * 8}, longer))
    root = struct.unpack_from("<I", data)[0]
    vtable = root - struct.unpack_from("<i", data, root)[0]
    for slot in (0, 39):
        struct.pack_into("<H", data, vtable + 4 + 2 * slot, 0)
    with pytest.raises(RecipeError, match="field 4 of InferenceSession is set"):
        canonical(bytes(data))
