"""The same package, byte for byte, from any process and folder, with nothing in it of when and where it was made."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import coremltools
import pytest
import torch
from made import RUNTIME, Noisy, Recurrent, Weights, files, make, numbers

from modelbuild.runtimes.coreml.converter.write import write

HERE = Path(__file__).parent
PALETTE = {"kind": "palette", "bits": 4, "mode": "kmeans", "min_elements": 2048}
WAYS: dict[str, Any] = {
    "float32": (Weights, {}, {}),
    "float16": (Weights, {}, {"precision": "float16", "metadata": {"author": "A. Author"}}),
    "compressed": (Weights, {}, {"compression": [PALETTE]}),
    "traced": (Recurrent, {"kind": "GRU"}, {"precision": "float16"}),
}
INPUTS = {Weights: {"x": numbers(4, 64)}, Recurrent: {"x": numbers(4, 7, 6)}}
ALL = "import sys; from pathlib import Path; import test_coreml_bytes as t; t.make_all(Path(sys.argv[1]))"


def make_all(folder: Path) -> None:
    for name, (kind, args, options) in WAYS.items():
        make(folder / name, kind, INPUTS[kind], args, **options)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders, each with a package of every kind, made in another process with another hash seed."""
    home = tmp_path_factory.mktemp("bytes")
    folders = [home / "one", home / "a longer name" / "two"]
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ALL, str(folder)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for folder, seed in zip(folders, ("1", "2"), strict=True)
    ]
    assert [each.wait() for each in running] == [0, 0]
    return folders


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_write_the_same(twice: list[Path], way: str) -> None:
    one, two = (files(folder / way / "artifact") for folder in twice)
    package = "model.mlpackage/Data/com.apple.CoreML"
    assert {
        "io.json",
        "modules.json",
        "identity.json",
        "model.mlpackage/Manifest.json",
        f"{package}/model.mlmodel",
    } < one.keys()
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


@pytest.mark.parametrize("way", WAYS)
def test_no_place_and_no_date_is_in_any_file(twice: list[Path], way: str) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    dates = [day.isoformat().encode() for day in (today, today - datetime.timedelta(1))]
    for name, data in files(twice[0] / way / "artifact").items():
        assert not any(date in data for date in dates), name
        for place in (str(twice[0]), str(HERE.parents[1]), "/tmp/", "/home/", "site-packages", sys.prefix):
            assert place.encode() not in data, (name, place)


@pytest.mark.parametrize("way", WAYS)
def test_coremltools_opens_it(twice: list[Path], way: str) -> None:
    package = twice[0] / way / "artifact" / "model.mlpackage"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = coremltools.models.MLModel(str(package), skip_model_load=True)
    written = (package / "Data/com.apple.CoreML/model.mlmodel").read_bytes()
    assert opened.get_spec().SerializeToString(deterministic=True) == written


def test_the_manifest_names_every_file_by_an_identifier_of_its_own(twice: list[Path]) -> None:
    package = twice[0] / "float32" / "artifact" / "model.mlpackage"
    manifest = json.loads((package / "Manifest.json").read_text())
    items = manifest["itemInfoEntries"]
    assert all(re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", key) for key in items)
    assert {item["path"] for item in items.values()} == {
        "com.apple.CoreML/model.mlmodel",
        "com.apple.CoreML/weights",
    }
    assert items[manifest["rootModelIdentifier"]]["name"] == "model.mlmodel"
    assert all((package / "Data" / item["path"]).exists() for item in items.values())


def test_only_the_day_is_left_out_of_what_coremltools_notes(tmp_path: Path) -> None:
    made = make(tmp_path, Weights, INPUTS[Weights])
    noted = dict(made.spec.description.metadata.userDefined)
    assert noted["com.github.apple.coremltools.version"] == coremltools.__version__
    spec = type(made.spec)()
    spec.CopyFrom(made.spec)
    spec.description.metadata.userDefined["com.github.apple.coremltools.conversion_date"] = "2001-02-03"
    write(spec, None, tmp_path / "again.mlpackage")
    assert spec.description.metadata.userDefined["com.github.apple.coremltools.conversion_date"]
    first, again = (files(each)["Data/com.apple.CoreML/model.mlmodel"] for each in packages(made, tmp_path))
    assert first == again


def packages(made: Any, folder: Path) -> list[Path]:
    return [made.folder / "model.mlpackage", folder / "again.mlpackage"]


def test_what_a_module_draws_at_random_is_the_same_every_time(tmp_path: Path) -> None:
    one = make(tmp_path / "one", Noisy, {"x": numbers(4, 6)})
    torch.manual_seed(7)
    two = make(tmp_path / "two", Noisy, {"x": numbers(4, 6)})
    assert files(one.folder) == files(two.folder)


def test_the_toolchain_that_the_bytes_depend_on_is_named() -> None:
    assert RUNTIME.toolchain() == ("coremltools", "torch")
