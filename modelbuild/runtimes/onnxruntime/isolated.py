"""A session in another ONNX Runtime: the worker as a process of an isolated environment, kept for many batches."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import worker

PROGRAM = Path(worker.__file__)
ALONE = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


class AnswerError(Exception):
    """What the worker answered when ONNX Runtime raised; `version` is that of its ONNX Runtime."""

    def __init__(self, message: str, version: str) -> None:
        super().__init__(message)
        self.version = version


class Worker:
    """A running worker; see worker.py for what it answers."""

    def __init__(self, environment: Path) -> None:
        self._name = environment.name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        env = {name: value for name, value in os.environ.items() if name not in ALONE}
        self._process = subprocess.Popen(
            [str(environment / "bin" / "python"), "-I", "-B", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**env, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, message: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> Any:
        """The answer, as (message, arrays). Raises AnswerError for an error, RecipeError when the worker is gone."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None and answers is not None
        try:
            worker.send(cast("BinaryIO", requests), message, list((arrays or {}).items()))
            answer = worker.receive(cast("BinaryIO", answers))
        except (OSError, EOFError, ValueError):
            answer = None
        if answer is None:
            raise self._gone()
        if "error" in answer[0]:
            raise AnswerError(answer[0]["error"], answer[0]["version"])
        return answer

    def _gone(self) -> RecipeError:
        self._hang_up()
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read()[-4000:].decode(errors="replace").strip().splitlines()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        last = f": {lines[-1]}" if lines else ""
        return RecipeError(
            "onnxruntime", f"the worker {how}{last}", "Its environment is made anew when deleted"
        )

    def close(self) -> None:
        """End it."""
        self._hang_up()
        self._process.wait()
        self._said.close()

    def _hang_up(self) -> None:
        """It ends by itself when nobody can ask any more."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what it died without reading is still to be written
                    stream.close()


class Session:
    """What worker.Session is, in the worker's process."""

    def __init__(self, process: Worker, model: str, optimisation: str, threads: int) -> None:
        """Load the file `model`. Raises AnswerError."""
        self._process = process
        told, _ = process.ask({"open": {"model": model, "optimisation": optimisation, "threads": threads}})
        self.inputs, self.outputs = _ports(told["inputs"]), _ports(told["outputs"])
        self.placement: Mapping[str, str] = told["placement"]
        self.version: str = told["version"]

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Outputs in the model's order. Raises AnswerError."""
        _, arrays = self._process.ask({"run": True}, feed)
        return [arrays[name] for name, _, _ in self.outputs]


def _ports(told: list[Any]) -> list[tuple[str, str, tuple[Any, ...]]]:
    return [(name, kind, tuple(shape)) for name, kind, shape in told]


@contextmanager
def started(environment: Path) -> Iterator[Worker]:
    """A worker in the environment installed in folder `environment`, ended afterwards."""
    process = Worker(environment)
    try:
        yield process
    finally:
        process.close()
