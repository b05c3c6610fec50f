"""Files that are no Core ML models, damaged ones and hostile ones: always an error in words, of one kind."""

from __future__ import annotations

import json
import os
import random
import struct
from pathlib import Path

import mil
import numpy as np
import pytest
from mil import mb

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator import mlpackage
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator

F = np.float32
X = np.ones((2, 16), F)
WEIGHT = np.arange(64, dtype=F).reshape(4, 16) / 8


def build(x):
    return mb.linear(x=x, weight=WEIGHT, bias=np.ones(4, F))


def manifest(path: object = "model.mlmodel") -> str:
    entry = {"name": "model.mlmodel", "path": path}
    return json.dumps(
        {"fileFormatVersion": "1.0.0", "itemInfoEntries": {"1": entry}, "rootModelIdentifier": "1"}
    )


def written(folder: Path) -> Path:
    """A whole package on disk: its manifest, its model file and a weight file."""
    path = folder / "net.mlpackage"
    data = path / "Data"
    data.mkdir(parents=True)
    spec = mil.package(build, {"x": X}, data).spec
    assert (data / "weights" / "weight.bin").is_file()
    (data / "model.mlmodel").write_bytes(spec.SerializeToString())
    (path / "Manifest.json").write_text(manifest())
    return path


def results(path: Path):
    (value,) = Evaluator(mlpackage.read(path))({"x": X}).values()
    return value


def refused(path: Path, message: str = ".") -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        results(path)
    assert caught.value.place.startswith(path.name) and "\n" not in str(caught.value)


def test_a_whole_package_is_read(tmp_path) -> None:
    np.testing.assert_array_equal(results(written(tmp_path)), X @ WEIGHT.T + 1)


def test_a_model_file_alone_is_read_with_its_weights_beside_it(tmp_path) -> None:
    np.testing.assert_array_equal(results(written(tmp_path) / "Data" / "model.mlmodel"), X @ WEIGHT.T + 1)


def test_a_package_that_coremltools_writes_is_read(tmp_path) -> None:
    data = tmp_path / "Data"
    spec = mil.package(build, {"x": X}, data).spec
    spec.description.input.add(name="x").type.multiArrayType.dataType = 65568
    mil.ct.models.utils.save_spec(spec, str(tmp_path / "saved.mlpackage"), weights_dir=str(data / "weights"))
    np.testing.assert_array_equal(results(tmp_path / "saved.mlpackage"), X @ WEIGHT.T + 1)


# -- the folder


def test_what_is_not_there_is_refused(tmp_path) -> None:
    refused(tmp_path / "none.mlpackage", "is no file")


def test_a_folder_without_manifest_is_refused(tmp_path) -> None:
    path = written(tmp_path)
    (path / "Manifest.json").unlink()
    refused(path, "a folder without a Manifest.json, so not an .mlpackage")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        b'"a"',
        b"[" * 100000,
        b'{"rootModelIdentifier": "1"}',
        b'{"itemInfoEntries": {}, "rootModelIdentifier": "1"}',
        b'{"itemInfoEntries": {"1": {}}, "rootModelIdentifier": "1"}',
        b'{"itemInfoEntries": {"1": "x"}, "rootModelIdentifier": "1"}',
        b'{"itemInfoEntries": {"1": {"path": "a"}}, "rootModelIdentifier": ["1"]}',
        b'{"itemInfoEntries": [], "rootModelIdentifier": 0}',
        b'{"itemInfoEntries": {"1": {"path": "a"}}, "rootModelIdentifier": "1", "rootModelIdentifier": "2"}',
    ],
    ids=range(15),
)
def test_a_damaged_manifest_is_refused(text, tmp_path) -> None:
    path = written(tmp_path)
    (path / "Manifest.json").write_bytes(text)
    refused(path, "its Manifest.json names no model")


@pytest.mark.parametrize("name", ["../../outside.mlmodel", "{outside}", "a/../../../outside.mlmodel"])
def test_a_manifest_that_names_a_file_outside_is_refused(name, tmp_path) -> None:
    path = written(tmp_path)
    outside = tmp_path / "outside.mlmodel"
    outside.write_bytes((path / "Data" / "model.mlmodel").read_bytes())
    (path / "Manifest.json").write_text(manifest(name.format(outside=outside)))
    refused(path, "names .*, which lies outside the package")


@pytest.mark.parametrize(
    "name", ["gone.mlmodel", "", ".", "weights", 5, None, ["a"], "x" * 5000, "a\0b"], ids=range(9)
)
def test_a_manifest_that_names_no_file_is_refused(name, tmp_path) -> None:
    path = written(tmp_path)
    (path / "Manifest.json").write_text(manifest(name))
    refused(path)


def test_a_link_that_leads_outside_is_refused(tmp_path) -> None:
    path = written(tmp_path)
    model = path / "Data" / "model.mlmodel"
    model.rename(tmp_path / "outside.mlmodel")
    model.symlink_to(tmp_path / "outside.mlmodel")
    refused(path, 'names "model.mlmodel", which lies outside the package')


def test_links_that_lead_in_a_circle_are_refused(tmp_path) -> None:
    path = written(tmp_path)
    model = path / "Data" / "model.mlmodel"
    model.unlink()
    model.symlink_to(model)
    refused(path)


def test_what_is_no_regular_file_is_refused(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.mlmodel")
    refused(tmp_path / "pipe.mlmodel", "is no file")


# -- the model file


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"hello", b"\xff" * 64, b"{}", b"\x08\x07", b"PK\x03\x04" + b"\0" * 40]
)
def test_what_is_no_model_is_refused(content, tmp_path) -> None:
    (tmp_path / "net.mlmodel").write_bytes(content)
    refused(tmp_path / "net.mlmodel", "Core ML model")


def test_another_kind_of_model_is_refused(tmp_path) -> None:
    spec = mil.Model_pb2.Model(specificationVersion=4)
    spec.neuralNetwork.layers.add(name="a").activation.ReLU.SetInParent()
    (tmp_path / "net.mlmodel").write_bytes(spec.SerializeToString())
    refused(
        tmp_path / "net.mlmodel", "holds a neuralNetwork, not an ML Program. Convert it for iOS 15 or later"
    )


def test_a_model_file_that_is_too_large_is_refused(tmp_path, monkeypatch) -> None:
    path = written(tmp_path)
    monkeypatch.setattr(mlpackage, "LIMITS", type("Few", (), {"arrays_bytes": 10}))
    refused(path, "has a model file of more than 10 bytes")


def test_a_model_file_that_is_cut_off_is_refused_wherever_it_ends(tmp_path) -> None:
    path = written(tmp_path)
    model = path / "Data" / "model.mlmodel"
    whole = model.read_bytes()
    for length in range(0, len(whole), 7):
        model.write_bytes(whole[:length])
        refused(path)


def test_single_bytes_that_are_wrong_never_lead_to_another_kind_of_error(tmp_path) -> None:
    path = written(tmp_path)
    model = path / "Data" / "model.mlmodel"
    whole, chance = model.read_bytes(), random.Random(0)
    refusals = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        model.write_bytes(damaged)
        try:
            results(path)
        except RecipeError:
            refusals += 1
    assert refusals > 100


# -- the weight file


def weights(path: Path) -> Path:
    return path / "Data" / "weights" / "weight.bin"


def test_weights_that_are_gone_are_refused(tmp_path) -> None:
    path = written(tmp_path)
    weights(path).unlink()
    refused(path, 'has no "weight.bin"')


@pytest.mark.parametrize("length", [0, 10, 64, 100, 128, 192, 200])
def test_weights_that_are_cut_off_are_refused(length, tmp_path) -> None:
    path = written(tmp_path)
    weights(path).write_bytes(weights(path).read_bytes()[:length])
    refused(path, "cannot be read from @model_path/weights/weight.bin at 64 as float32")


@pytest.mark.parametrize(
    ("size", "offset"),
    [(2**63, 128), (2**64 - 64, 128), (256, 2**64 - 64), (2**62, 2**64 - 2**62 + 64), (2**40, 0)],
)
def test_a_weight_file_that_lies_about_itself_is_refused(size, offset, tmp_path) -> None:
    path = written(tmp_path)
    data = bytearray(weights(path).read_bytes())
    struct.pack_into("<QQ", data, 64 + 8, size, offset)
    weights(path).write_bytes(data)
    refused(path, "cannot be read from")


def changed(path: Path, **fields) -> None:
    """The blob of the model's weights, with other fields."""
    model = path / "Data" / "model.mlmodel"
    spec = mil.Model_pb2.Model.FromString(model.read_bytes())
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                value = operation.attributes["val"] if operation.type == "const" else None
                if value is not None and value.WhichOneof("value") == "blobFileValue":
                    for name, content in fields.items():
                        setattr(value.blobFileValue, name, content)
    model.write_bytes(spec.SerializeToString())


@pytest.mark.parametrize("offset", [0, 1, 63, 65, 10**9, 2**63, 2**64 - 1])
def test_an_offset_at_which_nothing_starts_is_refused(offset, tmp_path) -> None:
    path = written(tmp_path)
    changed(path, offset=offset)
    refused(path, f"cannot be read from @model_path/weights/weight.bin at {offset} as float32")


@pytest.mark.parametrize(
    "name",
    [
        "{outside}",
        "@model_path/../../outside.bin",
        "@model_path/weights/../../../outside.bin",
        "@model_path/{outside}",
        "@model_path//{outside}",
        "weights/weight.bin",
        "",
        "@model_path",
        "file://{outside}",
    ],
)
def test_weights_outside_the_package_are_not_opened(name, tmp_path) -> None:
    path = written(tmp_path)
    weights(path).rename(tmp_path / "outside.bin")
    changed(path, fileName=name.format(outside=tmp_path / "outside.bin"))
    refused(path, "takes weights from .*, outside the package")


@pytest.mark.parametrize("name", ["", "weights", "gone.bin", "a\0b", "x" * 5000], ids=range(5))
def test_weights_that_no_file_holds_are_refused(name, tmp_path) -> None:
    path = written(tmp_path)
    changed(path, fileName=f"@model_path/{name}")
    refused(path, "has no|is no file's name")


def test_a_link_from_the_weights_to_the_outside_is_not_followed(tmp_path) -> None:
    path = written(tmp_path)
    weights(path).rename(tmp_path / "outside.bin")
    weights(path).symlink_to(tmp_path / "outside.bin")
    refused(path, 'names "weight.bin", which lies outside the package')
