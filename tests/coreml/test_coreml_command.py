"""`doit coreml` within this process: what it takes from the command line and what it says."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

import mil
import numpy as np
import pytest
from doit.cmdparse import CmdParseError
from mil import mb

from modelbuild.commands import coreml
from modelbuild.commands.coreml import CoreML
from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.runtimes.coreml import standalone
from modelbuild.runtimes.coreml.converter.write import write

X = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Outputs of many kinds, in float32."""
    to = tmp_path_factory.mktemp("package") / "net.mlpackage"

    def build(x: Any) -> Any:
        return (
            mb.mul(x=x, y=np.float32(2), name="double"),
            mb.inverse(x=x, epsilon=np.float32(0), name="inverse"),
            mb.inverse(x=mb.mul(x=x, y=np.float32(0)), epsilon=np.float32(0), name="nothing"),
            mb.gather(x=x, indices=np.zeros((0,), np.int32), axis=0, name="empty"),
        )

    with tempfile.TemporaryDirectory() as folder:
        made = mil.package(build, {"x": X}, Path(folder))
        write(made.spec, Path(folder) / "weights", to)
    return str(to)


@pytest.fixture
def doit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command on words; gives its exit code, what it said, and what it said of errors."""
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", x=X)
    np.savez("z.npz", double=X * 2, theirs=X * 2)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["doit", "coreml", *words])
        code = CoreML().parse_execute([])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_words_are_taken_as_they_were_typed_and_in_any_order(doit: Any, package: str, tmp_path: Path) -> None:
    code, out, err = doit("--inputs=x.npz", package, "--output", "y.npz")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "net.mlpackage: ML Program, 5 operations of 3 kinds, interpreted"
    assert out.splitlines()[-1] == "wrote y.npz"
    with np.load(tmp_path / "y.npz") as file:
        np.testing.assert_array_equal(file["double"], X * 2)
    assert doit(package, "--inputs", "x.npz")[0] == 0


def test_words_given_by_a_caller_are_taken_where_the_command_line_is_another(
    doit: Any, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert CoreML().parse_execute([package, "--inputs", "x.npz"]) == 0
    assert "net.mlpackage" in capsys.readouterr().out


def test_an_option_that_is_none_is_refused_with_where_to_look(doit: Any) -> None:
    with pytest.raises(CmdParseError, match=r"--nothing not recognized.*doit help coreml"):
        doit("a", "--nothing")


def test_figures_tell_of_what_is_not_finite_and_of_what_is_not_there(doit: Any, package: str) -> None:
    lines = dict(line.split(maxsplit=1) for line in doit(package, "--inputs", "x.npz")[1].splitlines()[1:])
    assert lines["double"] == "float32[4, 3]  min 0  max 22  mean 11"
    assert lines["inverse"].startswith("float32[4, 3]  min 0.0909091  max 1  mean 0.27")
    assert lines["inverse"].endswith("  NOT FINITE: 1")
    assert lines["nothing"] == "float32[4, 3]  NOT FINITE: 12"
    assert lines["empty"] == "float32[0, 3]  []"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("PACKAGE", "PACKAGE", "--inputs", "x.npz"), 3, "one package and its --inputs"),
        (("--inputs", "x.npz"), 3, "one package and its --inputs"),
        (("PACKAGE",), 3, "one package and its --inputs"),
        (("PACKAGE", "--inputs", "x.npz", "--sums", "float61"), 3, "float61"),
        (("PACKAGE", "--inputs", "x.npz", "--map", "a=b"), 3, "--map and --tolerance go with --against"),
        (
            ("PACKAGE", "--inputs", "x.npz", "--tolerance", "rmse=1"),
            3,
            "--map and --tolerance go with --against",
        ),
        (("PACKAGE", "--inputs", "x.npz", "--against", "z.npz", "--map", "=b"), 3, "NAME=VALUE"),
        (("PACKAGE", "--inputs", "x.npz", "--against", "z.npz", "--map", "a="), 3, "NAME=VALUE"),
        (("PACKAGE", "--inputs", "x.npz", "--against", "z.npz", "--tolerance", "rmse=a"), 3, "not a number"),
        (("PACKAGE", "--inputs", "x.npz", "--against", "z.npz", "--tolerance", "rmse=nan"), 3, "rmse"),
        (
            ("PACKAGE", "--inputs", "x.npz", "--against", "z.npz", "--tolerance", "cosine=0"),
            3,
            "met by anything",
        ),
        (("PACKAGE", "--inputs", "x.npz", "--watch", "doubel"), 3, 'Did you mean "double"'),
        (("PACKAGE", "--inputs", "x.npz", "--function", "mian"), 3, 'Did you mean "main"'),
        (("x.npz", "--inputs", "x.npz"), 1, "x.npz"),
    ],
)
def test_what_is_refused_is_one_line_and_an_exit_code(
    doit: Any, package: str, words: tuple[str, ...], code: int, says: str
) -> None:
    found, out, err = doit(*(package if word == "PACKAGE" else word for word in words))
    assert (found, out) == (code, "")
    assert err.startswith("ERROR: ") and says in err


def test_the_function_the_sums_and_what_is_watched_reach_the_evaluator(
    doit: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    honest = standalone.evaluated

    def told(path: Path, inputs: Any, sums: Any, watch: Any, function: Any) -> Any:
        asked.append((path.name, [*inputs], sums, list(watch), function))
        return honest(path, inputs, sums, watch, function)

    monkeypatch.setattr(standalone, "evaluated", told)
    doit(package, "--inputs", "x.npz")
    doit(
        package,
        "--inputs",
        "x.npz",
        "--sums",
        "float16",
        "--watch",
        "x",
        "--watch",
        "inverse",
        "--function",
        "main",
    )
    assert asked == [
        ("net.mlpackage", ["x"], "float32", [], ""),
        ("net.mlpackage", ["x"], "float16", ["x", "inverse"], "main"),
    ]


def test_watched_values_are_shown_with_the_outputs(doit: Any, package: str) -> None:
    out = doit(package, "--inputs", "x.npz", "--watch", "x")[1]
    assert any(line.startswith("  x  float32[4, 3]") for line in out.splitlines())


def test_every_verdict_is_a_line_and_one_that_is_red_is_an_exit_code(doit: Any, package: str) -> None:
    code, out, _ = doit(package, "--inputs", "x.npz", "--against", "z.npz", "--map", "double=theirs")
    assert code == 1
    lines = out.splitlines()
    assert "  holds  double  max_abs 0, limit" in out
    assert "         double  l1 0, for information" in out
    assert "  RED    inverse  " in out
    red = sum(line.startswith("  RED ") for line in lines)
    told = sum(line.startswith(("  RED ", "  holds")) for line in lines)
    assert lines[-1] == f"{red} of {told} verdicts are red"


def test_a_verdict_on_no_output_names_the_package(doit: Any, package: str) -> None:
    np.savez("none.npz")
    code, out, _ = doit(package, "--inputs", "x.npz", "--against", "none.npz")
    assert code == 1
    assert "  RED    net.mlpackage:package  the reference has no outputs: nothing was compared" in out


def test_a_text_is_shown_as_it_is(doit: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = standalone.evaluated
    label = {"label": np.asarray("cat")}
    monkeypatch.setattr(
        standalone, "evaluated", lambda *given: dataclasses.replace(honest(*given), outputs=label)
    )
    assert doit(package, "--inputs", "x.npz")[1].splitlines()[1:] == ["  label  <U3[]  cat"]


def test_without_limits_of_its_own_it_is_the_derived_ones_that_are_named() -> None:
    assert coreml._demand({}) == RuntimeDemand(None, place="--tolerance")


def test_limits_are_those_of_the_command_line(doit: Any, package: str) -> None:
    out = doit(package, "--inputs", "x.npz", "--against", "z.npz", "--tolerance", "max_abs=1e-3")[1]
    assert "may differ by max_abs 0.001: from the command line" in out


def test_control_characters_do_not_reach_the_terminal(
    doit: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = standalone.evaluated

    def named(*given: Any) -> Any:
        done = honest(*given)
        done.outputs["a\x1b[2Jb"] = done.outputs["double"]  # type: ignore[index]
        return done

    monkeypatch.setattr(standalone, "evaluated", named)
    out = doit(package, "--inputs", "x.npz")[1]
    assert "\x1b" not in out and "[2Jb" in out


def test_a_reader_that_goes_away_is_no_error(
    doit: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise BrokenPipeError

    silenced: list[Any] = []
    monkeypatch.setattr("modelbuild.commands.coreml._say", closed)
    monkeypatch.setattr("modelbuild.commands.coreml.silence", silenced.append)
    assert doit(package, "--inputs", "x.npz") == (0, "", "")
    assert silenced == [sys.stdout]
