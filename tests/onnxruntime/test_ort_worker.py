"""The worker: its messages, what becomes of one that dies, and that nothing else gets among its answers."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from runtime_conformance import dense, dense_answer, dense_inputs, tokens, tokens_inputs, write_onnx

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import RUNTIME, isolated, sessions, worker
from modelbuild.runtimes.onnxruntime.options import Options

DTYPES = (
    "float16", "float32", "float64", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
)  # fmt: skip


def through(message: dict[str, Any], arrays: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    stream = io.BytesIO()
    worker.send(stream, message, list(arrays.items()))
    stream.seek(0)
    found = worker.receive(stream)
    assert found is not None
    assert worker.receive(stream) is None
    return found


def same(one: Any, other: Any) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


# -- messages


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4)])
def test_arrays_arrive_as_they_were(dtype: str, shape: tuple[int, ...]) -> None:
    given = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    message, arrays = through({"run": True}, {"ä b": given, "other": np.float32([1.5])})
    assert message == {"run": True}
    assert list(arrays) == ["ä b", "other"]
    assert same(arrays["ä b"], given)
    assert same(arrays["other"], np.float32([1.5]))


def test_bits_that_are_no_number_arrive() -> None:
    bits = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0x00000001, 0x7F800000], np.uint32)
    assert same(through({}, {"x": bits.view(np.float32)})[1]["x"], bits.view(np.float32))


def test_arrays_that_do_not_lie_in_one_piece_arrive() -> None:
    given = np.arange(24, dtype=np.int64).reshape(4, 6)
    for view in (given.T, given[::-1, ::2], np.broadcast_to(given[:1], (5, 6)), given.astype(">i8")):
        assert np.array_equal(through({}, {"x": view})[1]["x"], view)


def test_a_message_that_was_cut_off_is_an_error() -> None:
    stream = io.BytesIO()
    worker.send(stream, {"run": True}, [("x", np.arange(3.0))])
    whole = stream.getvalue()
    for size in range(1, len(whole)):
        with pytest.raises(EOFError, match="the message ends"):
            worker.receive(io.BytesIO(whole[:size]))
    assert worker.receive(io.BytesIO()) is None


# -- a worker in this very environment


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """An environment whose Python is the one that runs the tests."""
    program = tmp_path / "environment" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    return tmp_path / "environment"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "onnx", dense()) / "model.onnx"


def test_a_session_is_what_it_is_in_this_process(here: Path, model: Path) -> None:
    feed = dense_inputs()
    ours = worker.Session(str(model))
    with sessions.opened(model, Options(), str(here)) as theirs:
        for name in ("inputs", "outputs", "placement", "version"):
            assert getattr(theirs, name) == getattr(ours, name)
        for _ in range(2):
            assert all(same(a, b) for a, b in zip(theirs.run(feed), ours.run(feed), strict=True))


def test_large_arrays_go_there_and_back(here: Path, tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1 << 20]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", ports[:1], ports[1:])
    negated = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = write_onnx(tmp_path / "onnx", negated) / "model.onnx"
    x = np.random.default_rng(0).standard_normal((8, 1 << 20)).astype(np.float32)
    with sessions.opened(path, Options(), str(here)) as session:
        assert same(session.run({"x": x})[0], -x)


def test_options_reach_the_worker(here: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    ask = isolated.Worker.ask

    def spy(self: isolated.Worker, message: Any, arrays: Any = None) -> Any:
        asked.append(message)
        return ask(self, message, arrays)

    monkeypatch.setattr(isolated.Worker, "ask", spy)
    with sessions.opened(model, Options(("basic",), (2,)), str(here)):
        pass
    assert asked == [{"open": {"model": str(model), "optimisation": "basic", "threads": 2}}]


@pytest.mark.parametrize(("level", "threads"), [("all", 1), ("basic", 2)])
def test_options_reach_onnx_runtime(
    model: Path, monkeypatch: pytest.MonkeyPatch, level: str, threads: int
) -> None:
    seen: list[Any] = []

    class Seen(onnxruntime.InferenceSession):
        def __init__(self, path: Any, settings: Any, **others: Any) -> None:
            seen.append(settings)
            super().__init__(path, settings, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Seen)
    worker.Session(str(model), level, threads)
    (settings,) = seen
    assert settings.graph_optimization_level.name == f"ORT_ENABLE_{level.upper()}"
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (threads, 1)
    assert settings.use_deterministic_compute
    assert settings.log_severity_level == worker.FATAL
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_what_onnx_runtime_says_comes_back_in_words(here: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with (
        pytest.raises(
            RecipeError, match=f"version {onnxruntime.__version__} does not load the model: "
        ) as caught,
        sessions.opened(tmp_path / "model.onnx", Options(), str(here)),
    ):
        pass
    assert caught.value.place == "onnxruntime"
    assert "lower opset" in caught.value.remedy
    assert "Traceback" not in str(caught.value)


def test_a_model_that_stops_says_why(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    RUNTIME.convert({"onnx": write_onnx(tmp_path / "onnx", tokens())}, out, {"options": {}})
    inputs = tokens_inputs()
    with pytest.raises(RecipeError, match=r"the model stopped: .*indices element out of data bounds"):
        RUNTIME.run(out, {**inputs, "ids": inputs["ids"] + 100}, {"options": {}, "environment": str(here)})


def test_after_an_error_the_worker_goes_on(here: Path, model: Path) -> None:
    with isolated.started(here) as process:
        with pytest.raises(isolated.AnswerError, match="no model is open") as caught:
            process.ask({"run": True})
        assert caught.value.version == onnxruntime.__version__
        session = isolated.Session(process, str(model), "all", 1)
        with pytest.raises(isolated.AnswerError):
            session.run({"x": np.zeros((1, 5), np.float32)})
        np.testing.assert_allclose(
            session.run(dense_inputs())[0], dense_answer(dense_inputs())["logits"], rtol=0, atol=1e-5
        )


def test_the_worker_sees_nothing_of_the_build(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('the wrong one')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with isolated.started(here) as process, pytest.raises(isolated.AnswerError, match="no model is open"):
        process.ask({"run": True})
    code = (
        f"import runpy, sys; runpy.run_path({worker.__file__!r});"
        "print(*({'modelbuild', 'torch', 'onnx'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# -- a worker that goes wrong


def instead(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Have workers run `code`; `worker` in it runs the real one."""
    text = f"import os, runpy, sys\n\ndef worker():\n    runpy.run_path({worker.__file__!r}, run_name='__main__')\n\n"
    (folder / "program.py").write_text(text + code)
    monkeypatch.setattr(isolated, "PROGRAM", folder / "program.py")


NOISE = """
import onnxruntime
class Loud(onnxruntime.InferenceSession):
    def run(self, *args):
        print("printed")
        sys.stdout.flush()
        os.write(1, b"written, and as long as a message would be")
        return super().run(*args)
onnxruntime.InferenceSession = Loud
worker()
"""


def test_what_a_library_prints_is_not_an_answer(
    here: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(tmp_path, monkeypatch, NOISE)
    feed = dense_inputs()
    with sessions.opened(model, Options(), str(here)) as session:
        for _ in range(2):
            assert np.allclose(session.run(feed)[0], dense_answer(feed)["logits"], atol=1e-5)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "os.write(2, b'first\\nout of luck\\n'); os.kill(os.getpid(), 9)",
            "was killed by signal 9: out of luck",
        ),
        ("sys.stdin.buffer.read(8); os.kill(os.getpid(), 11)", "was killed by signal 11"),
        ("raise SystemExit(3)", "ended with exit code 3"),
        (
            "import no_such_module",
            "ended with exit code 1: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("os.write(1, bytes(5)); sys.exit(0)", "ended with exit code 0"),
        ("os.write(1, (9).to_bytes(8, 'big') + b'{\"error'); sys.exit(4)", "ended with exit code 4"),
        ("os.write(1, (3).to_bytes(8, 'big') + b'{]}'); sys.stdin.buffer.read()", "ended with exit code 0"),
    ],
)
def test_a_worker_that_is_gone_is_named_with_its_last_words(
    here: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    instead(tmp_path, monkeypatch, code)
    with pytest.raises(RecipeError) as caught, sessions.opened(model, Options(), str(here)):
        pass
    assert caught.value.place == "onnxruntime"
    assert caught.value.fact == f"the worker {words}"
    assert caught.value.remedy


def test_files_beside_the_program_are_not_modules(
    here: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(tmp_path, monkeypatch, "worker()")
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong one')\n")
    with sessions.opened(model, Options(), str(here)) as session:
        assert session.version == onnxruntime.__version__


def test_a_worker_that_dies_while_it_is_asked(here: Path, model: Path) -> None:
    """The message is larger than a pipe holds: it is what could not be written that must not show."""
    x = np.zeros((100_000, 6), np.float32)
    with (
        pytest.raises(RecipeError, match="the worker was killed by signal 9"),
        isolated.started(here) as process,
    ):
        session = isolated.Session(process, str(model), "all", 1)
        process._process.kill()
        process._process.wait()
        session.run({"x": x})


def test_a_worker_ends_with_its_context(here: Path) -> None:
    with isolated.started(here) as process:
        with pytest.raises(isolated.AnswerError):
            process.ask({"run": True})
        assert process._process.poll() is None
    assert process._process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(process._process.pid, 0)


def test_a_worker_ends_with_the_error_in_its_context(here: Path) -> None:
    with pytest.raises(KeyError), isolated.started(here) as process:
        raise KeyError
    with pytest.raises(ProcessLookupError):
        os.kill(process._process.pid, 0)
    assert process._said.closed
