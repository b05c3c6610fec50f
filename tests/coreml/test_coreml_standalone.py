"""The stand-alone evaluation of a package, and its command, apart from every project."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mil
import numpy as np
import pytest
from mil import mb

from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.errors import CommandError, RecipeError
from modelbuild.runtimes.coreml import standalone
from modelbuild.runtimes.coreml.converter.write import write
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.program import TensorType
from modelbuild.runtimes.coreml.evaluator.widen import holds_half, widened

Array = np.ndarray[Any, Any]
DOIT = Path(sys.executable).with_name("doit")
RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((6, 5)).astype(np.float32)
X = RNG.standard_normal((9, 5)).astype(np.float32)


def dense(half: bool) -> Any:
    def build(x: Any, ids: Any) -> Any:
        if half:
            x = mb.cast(x=x, dtype="fp16", name="narrow")
        hidden = mb.relu(
            x=mb.linear(x=x, weight=WEIGHT.astype(np.float16) if half else WEIGHT), name="hidden"
        )
        score = mb.cast(x=hidden, dtype="fp32", name="score") if half else mb.identity(x=hidden, name="score")
        return score, mb.add(x=ids, y=np.int32(1), name="next")

    return build


def inputs() -> dict[str, Array]:
    return {"x": X, "ids": np.arange(9, dtype=np.int32)}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A package on disk for each precision."""
    root, found = tmp_path_factory.mktemp("packages"), {}
    for name in ("float32", "float16"):
        with tempfile.TemporaryDirectory() as folder:
            made = mil.package(
                dense(name == "float16"), inputs(), Path(folder), open_axes={"x": [0], "ids": [0]}
            )
            found[name] = root / f"{name}.mlpackage"
            write(made.spec, Path(folder) / "weights", found[name])
    return found


def truth() -> dict[str, Array]:
    return {"score": np.maximum(X @ WEIGHT.T, 0), "next": np.arange(1, 10, dtype=np.int32)}


def judge(
    path: Path, others: Mapping[str, Array], names: Mapping[str, str] | None = None, **asked: float
) -> dict[tuple[str, str], Any]:
    done = standalone.evaluated(path, inputs(), "float32")
    demand = RuntimeDemand(asked or None, place="--tolerance")
    rows = standalone.compared(done, others, names or {}, demand)
    return {(row.output, row.metric): row for row in rows}


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_limits_are_derived_from_the_package_and_an_honest_one_holds(
    precision: str, packages: dict[str, Path]
) -> None:
    found = judge(packages[precision], truth())
    assert all(row.ok for row in found.values())
    assert {row.evidence for row in found.values() if row.platform} == {"interpreted"}
    limit = found["score", "max_abs"].limit
    assert 0 < limit < (1e-4 if precision == "float32" else 2e-2)
    assert ("float16 arithmetic" in found["score", "tolerance"].detail) is (precision == "float16")


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_weight_off_by_a_hundredth_is_red(precision: str, packages: dict[str, Path]) -> None:
    off = {**truth(), "score": np.maximum(X @ (WEIGHT * 1.01).T, 0)}
    found = judge(packages[precision], off)
    assert not found["score", "max_abs"].ok
    assert found["next", "max_abs"].ok


def test_outputs_are_matched_by_exact_names_or_as_mapped(packages: dict[str, Path]) -> None:
    theirs = {"Score": truth()["score"], "next": truth()["next"]}
    found = judge(packages["float32"], theirs)
    assert not found["Score", "missing"].ok
    assert not found["score", "extra"].ok
    assert all(row.ok for row in judge(packages["float32"], theirs, {"score": "Score"}).values())


def test_a_missing_output_another_shape_and_a_nan_are_red(packages: dict[str, Path]) -> None:
    for name, change, kind in (
        ("score", lambda a: a[:5], "samples"),
        ("score", lambda a: a[:, :3], "length"),
        ("score", lambda a: a[:, :3, None], "shape"),
        ("score", lambda a: np.where(a > 1, np.nan, a).astype(np.float32), "nan"),
        ("next", lambda a: a.astype(np.float32), "dtype"),
    ):
        found = judge(packages["float32"], {**truth(), name: change(truth()[name])})
        assert not found[name, kind].ok
    assert not judge(packages["float32"], {"score": truth()["score"]})["next", "extra"].ok


def test_limits_of_the_command_line_take_the_place_of_derived_ones(packages: dict[str, Path]) -> None:
    found = judge(packages["float16"], truth(), max_abs=1e-6)
    assert not found["score", "max_abs"].ok
    assert found["score", "max_abs"].limit == 1e-6
    assert "from the command line" in found["score", "max_abs"].detail
    with pytest.raises(CommandError, match="would pass a constant"):
        judge(packages["float32"], truth(), max_abs=100.0)


@pytest.mark.parametrize("names", [{"scores": "score"}, {"score": "scores"}])
def test_a_map_of_names_that_are_none_is_refused(names: dict[str, str], packages: dict[str, Path]) -> None:
    with pytest.raises(CommandError, match='Did you mean "score"'):
        judge(packages["float32"], truth(), names)


def test_wider_numbers_are_brought_in_only_where_no_value_changes(packages: dict[str, Path]) -> None:
    exact = {"x": X.astype(np.float64), "ids": np.arange(9)}
    done = standalone.evaluated(packages["float32"], exact, "float32")
    np.testing.assert_allclose(done.outputs["score"], truth()["score"], atol=1e-5)
    for spoilt in ({**exact, "x": X.astype(np.float64) + 1e-12}, {**exact, "ids": np.arange(9) + 2**40}):
        with pytest.raises(CommandError, match="Nothing is cast"):
            standalone.evaluated(packages["float32"], spoilt, "float32")


def test_a_widened_program_is_the_same_in_float64(packages: dict[str, Path]) -> None:
    package = standalone.mlpackage.read(packages["float16"])
    assert holds_half(package)
    assert not holds_half(standalone.mlpackage.read(packages["float32"]))
    wide = Evaluator(widened(package))({"x": X.astype(np.float64), "ids": np.arange(9, dtype=np.int32)})
    expected = np.maximum(X.astype(np.float64) @ WEIGHT.astype(np.float16).astype(np.float64).T, 0)
    assert wide["score"].dtype == np.float64
    np.testing.assert_allclose(wide["score"], expected, rtol=1e-14)


def test_the_backend_and_both_sources_of_noise_are_told(packages: dict[str, Path]) -> None:
    found = [judge(packages[name], truth()) for name in ("float32", "float16")]
    backends = [each["score", "max_abs"].backend for each in found]
    assert backends == ["evaluator", "evaluator, float32 sums"]
    single, half = (each["score", "tolerance"] for each in found)
    assert "fp64" in single.detail and "fp64" not in half.detail
    assert float(single.detail.partition("inputs moved 1 ulp ")[2].partition(")")[0]) > 0


def test_what_is_computed_again_is_computed_alike(
    packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Told(Evaluator):
        def __init__(self, package: Any, accumulation: Any, watch: Any = (), function: str = "") -> None:
            asked.append((accumulation, function))
            super().__init__(package, accumulation, watch, function)

    monkeypatch.setattr(standalone, "Evaluator", Told)
    done = standalone.evaluated(packages["float16"], inputs(), "float16", function="main")
    rows = standalone.compared(done, truth(), {}, RuntimeDemand(None, place="--tolerance"))
    assert asked == [("float16", "main")] * 3
    assert rows[0].backend == "evaluator, float16 sums"


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_without_a_second_computation_only_units_in_the_last_place_are_allowed(
    precision: str, packages: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RecipeError("x", "no kernel for that in float64", "")

    done = standalone.evaluated(packages[precision], inputs(), "float32")
    monkeypatch.setattr(standalone, "Evaluator", fails)
    rows = standalone.compared(done, done.outputs, {}, RuntimeDemand(None, place="--tolerance"))
    (row,) = [row for row in rows if (row.output, row.metric) == ("score", "max_abs")]
    (told,) = [row for row in rows if (row.output, row.metric) == ("score", "tolerance")]
    assert "float16 arithmetic (" not in told.detail and "fp64" not in told.detail
    assert row.limit == pytest.approx(4 * np.spacing(np.abs(done.outputs["score"]).max()))


def test_texts_are_not_compared(packages: dict[str, Path]) -> None:
    done = standalone.evaluated(packages["float32"], inputs(), "float32")
    labelled = dataclasses.replace(done, outputs={**done.outputs, "label": np.asarray("cat")})
    demand = RuntimeDemand(None, place="--tolerance")
    assert all(row.ok for row in standalone.compared(labelled, truth(), {}, demand))


def test_theirs_may_be_wider_where_no_value_changes(packages: dict[str, Path]) -> None:
    exact = standalone.evaluated(packages["float32"], inputs(), "float32").outputs["score"].astype(np.float64)
    wide = {"score": exact, "next": np.arange(1, 10)}
    assert all(row.ok for row in judge(packages["float32"], wide).values())
    assert not judge(packages["float32"], {**wide, "score": exact + 1e-12})["score", "dtype"].ok


@pytest.mark.parametrize(
    ("array", "dtype", "fits"),
    [
        (np.array([-5, 2**31 - 1]), "int32", True),
        (np.array([-5, 2**31]), "int32", False),
        (np.array([-5, 2**15 - 1]), "int16", True),
        (np.array([2**15]), "int16", False),
        (np.array([2**16 - 1]), "uint16", True),
        (np.array([-1]), "uint16", False),
        (np.array([0.5, np.nan, np.inf]), "float32", True),
        (np.array([0.1]), "float32", False),
        (np.array([1e300]), "float32", False),
        (np.array([0.5], np.float32), "float16", False),
        (np.array([1, 2]), "float32", False),
        (np.array([1.0, 2.0]), "int32", False),
    ],
)
def test_numbers_are_narrowed_only_where_all_of_them_fit(array: Array, dtype: str, fits: bool) -> None:
    found = standalone._as_stated(array, TensorType(dtype, array.shape))
    assert found.dtype == (dtype if fits else array.dtype)
    np.testing.assert_array_equal(found, array)
    assert standalone._as_stated(array, None) is array


def test_the_scores_of_a_classifier_come_in_the_order_of_its_classes() -> None:
    found = standalone._arrays({"scores": {"dog": 0.25, "cat": 0.75}, "label": "cat"})
    assert found["scores"].tolist() == [0.25, 0.75]
    assert found["label"].shape == () and found["label"] == "cat"


@pytest.mark.parametrize(
    "content", [b"", b"no archive", b"PK\x03\x04 and no more", b"\x93NUMPY\x01\x00 and no more"]
)
def test_what_holds_no_arrays_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(CommandError, match="cannot be read as named arrays"):
        standalone.arrays(tmp_path / "x.npz")


def test_a_file_that_claims_more_than_memory_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> None:
        raise MemoryError

    np.savez(tmp_path / "x.npz", x=X)
    monkeypatch.setattr(np, "load", read)
    with pytest.raises(CommandError, match="cannot be read as named arrays"):
        standalone.arrays(tmp_path / "x.npz")


def test_a_damaged_file_of_arrays_is_refused_or_read(tmp_path: Path) -> None:
    """Every byte in turn, as far as each names an array still."""
    np.savez_compressed(tmp_path / "whole.npz", x=np.arange(40, dtype=np.float32))
    whole, refused = (tmp_path / "whole.npz").read_bytes(), 0
    for number in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[number] ^= 0xFF
        (tmp_path / "x.npz").write_bytes(spoilt)
        try:
            standalone.arrays(tmp_path / "x.npz")
        except CommandError:
            refused += 1
    assert refused > len(whole) / 2


def test_one_array_without_a_name_a_folder_and_nothing_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "p.npz", x=np.array([{}], dtype=object))
    for name in ("x.npy", "p.npz", "", "missing.npz"):
        with pytest.raises(CommandError, match="cannot be read as named arrays"):
            standalone.arrays(tmp_path / name)


def test_a_file_of_arrays_that_is_too_large_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "x.npz", x=X)
    size = (tmp_path / "x.npz").stat().st_size
    monkeypatch.setattr(standalone, "LIMITS", standalone.LIMITS._replace(arrays_bytes=size))
    assert standalone.arrays(tmp_path / "x.npz").keys() == {"x"}
    monkeypatch.setattr(standalone, "LIMITS", standalone.LIMITS._replace(arrays_bytes=size - 1))
    with pytest.raises(CommandError, match=f"has more than {size - 1} bytes"):
        standalone.arrays(tmp_path / "x.npz")


def test_what_the_disk_refuses_is_said(tmp_path: Path, packages: dict[str, Path]) -> None:
    done = standalone.evaluated(packages["float32"], inputs(), "float32", ["hidden"])
    for place in (tmp_path, tmp_path / "none" / "y.npz"):
        with pytest.raises(CommandError, match="cannot be written"):
            standalone.write(place, done)
    standalone.write(tmp_path / "y.npz", done)
    assert standalone.arrays(tmp_path / "y.npz").keys() == {"hidden", "score", "next"}


def test_objects_are_not_written_as_pickles(tmp_path: Path, packages: dict[str, Path]) -> None:
    done = standalone.evaluated(packages["float32"], inputs(), "float32")
    broken = dataclasses.replace(done, outputs={"x": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        standalone.write(tmp_path / "y.npz", broken)


# -- the command


def doit(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONWARNINGS": "", "COLUMNS": "160"}
    return subprocess.run(
        [DOIT, "coreml", *args], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "x.npz", **inputs())
    np.savez(tmp_path / "z.npz", theirs=truth()["score"], next=truth()["next"])
    return tmp_path


def test_the_command_evaluates_writes_summarises_and_judges(folder: Path, packages: dict[str, Path]) -> None:
    package = str(packages["float16"])
    first = ("--inputs", "x.npz", "--output", "y.npz", "--watch", "hidden")
    done = doit(folder, package, *first, "--against", "z.npz", "--map", "score=theirs")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(
        "float16.mlpackage: ML Program, 5 operations of 4 kinds, interpreted, float32 sums"
    )
    assert any(line.strip().startswith("score  float32[9, 6]  min 0  max ") for line in lines)
    assert lines[-1] == "all hold"
    with np.load(folder / "y.npz") as written:
        assert {name: written[name].dtype for name in written.files} == {
            "score": np.float32,
            "next": np.int32,
            "hidden": np.float16,
        }
    red = doit(
        folder, package, *first, "--against", "z.npz", "--map=score=theirs", "--tolerance", "max_abs=1e-7"
    )
    assert red.returncode == 1
    assert "RED    score  max_abs" in red.stdout
    assert red.stdout.splitlines()[-1] == "1 of 3 verdicts is red"


def test_the_command_needs_no_project_and_loads_nothing_to_refuse(folder: Path) -> None:
    for args, code, words in (
        ((), 3, "one package and its --inputs are needed"),
        (("a.mlpackage",), 3, "one package and its --inputs are needed"),
        (("a.mlpackage", "--inputs", "none.npz"), 3, "cannot be read as named arrays"),
        (("a.mlpackage", "--inputs", "x.npz"), 3, "there is no such file"),
        (("a.mlpackage", "--inputs", "x.npz", "--output", "x.npz"), 3, "would be overwritten"),
        (("a.mlpackage", "--inputs", "x.npz", "--sums", "float64"), 3, "float64"),
        (("a.mlpackage", "--inputs", "x.npz", "--nothing", "1"), 3, "--nothing not recognized"),
        (("a.mlpackage", "--inputs", "x.npz", "--map", "a=b"), 3, "go with --against"),
        (("a.mlpackage", "--inputs", "x.npz", "--against", "z.npz", "--map", "a"), 3, "NAME=VALUE"),
        (
            ("a.mlpackage", "--inputs", "x.npz", "--against", "z.npz", "--tolerance", "max_abs=x"),
            3,
            "not a number",
        ),
        (("a.mlpackage", "--inputs", "x.npz", "--against", "z.npz", "--tolerance", "max_ab=1"), 3, "max_abs"),
        (
            ("a.mlpackage", "--inputs", "x.npz", "--against", "z.npz", "--tolerance", "cosine=0"),
            3,
            "met by anything",
        ),
    ):
        done = doit(folder, *args)
        assert done.returncode == code, (args, done)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_pickles_are_not_read(folder: Path, packages: dict[str, Path]) -> None:
    np.savez(folder / "p.npz", x=np.array([{"a": 1}], dtype=object))
    done = doit(folder, str(packages["float32"]), "--inputs", "p.npz")
    assert done.returncode == 3
    assert "cannot be read as named arrays" in done.stderr


def test_a_place_that_cannot_be_written_is_said(folder: Path, packages: dict[str, Path]) -> None:
    done = doit(folder, str(packages["float32"]), "--inputs", "x.npz", "--output", "no/such/y.npz")
    assert done.returncode == 3
    assert "no/such/y.npz: cannot be written: there is no such folder" in done.stderr


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"shape": [4, 5]}, "takes [4, 5]"),
        ({"ranges": [(1, 8), (5, 5)]}, "takes [1 to 8, 5]"),
        ({"ranges": [(1, -1), (6, 6)]}, "takes [1 to any, 6]"),
        ({"enumerated": [[4, 5], [8, 5]]}, "takes [4, 5] or [8, 5]"),
        ({"ranges": [(1, -1), (5, 5)]}, ""),
        ({"enumerated": [[4, 5], [9, 5]]}, ""),
        ({}, ""),
    ],
)
def test_only_shapes_that_the_package_lets_in_are_evaluated(
    described: dict[str, Any], words: str, packages: dict[str, Path]
) -> None:
    package = standalone.mlpackage.read(packages["float32"])
    feature = package.spec.description.input.add(name="x")
    kind = feature.type.multiArrayType
    kind.shape.extend(described.get("shape", []))
    for low, high in described.get("ranges", []):
        kind.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
    for shape in described.get("enumerated", []):
        kind.enumeratedShapes.shapes.add(shape=shape)
    kind.SetInParent()
    if not words:
        standalone.interface.check(package, inputs())
        return
    with pytest.raises(RecipeError) as caught:
        standalone.interface.check(package, inputs())
    assert words in caught.value.fact
