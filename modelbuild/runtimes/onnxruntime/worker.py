"""Runs models in whatever ONNX Runtime is installed beside it: in this process, or as a program of its own.

It imports ONNX Runtime, NumPy and the standard library and nothing of modelbuild, so that an isolated environment
with any version runs this very file: `python worker.py` answers requests on standard input until that ends. A
message is 8 bytes of length, that much JSON, and the raw bytes (C order, little-endian) of each of its "arrays".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import onnxruntime

VERSION: str = onnxruntime.__version__

PROVIDER = "CPUExecutionProvider"
LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
FATAL = 4
HEAD = 8
ASSIGNMENT = "session.record_ep_graph_assignment_info"
# Rewrites for processors of one kind: a file that keeps them would not load on another.
MACHINE_BOUND = ["NchwcTransformer"]


class Session:
    """One loaded model. `inputs` and `outputs`: (name, ONNX Runtime's type, shape); `placement`: node -> provider."""

    def __init__(self, model: str | bytes, optimisation: str = "all", threads: int = 1) -> None:
        """Load from a path or from bytes; raise what ONNX Runtime raises."""
        self.version = VERSION
        settings = _settings(optimisation, threads)
        settings.add_session_config_entry(ASSIGNMENT, "1")
        self._session = onnxruntime.InferenceSession(model, settings, providers=[PROVIDER])
        self.inputs, self.outputs = _ports(self._session.get_inputs()), _ports(self._session.get_outputs())
        self.placement = _placement(self._session)

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Outputs in the model's order, for the arrays in `feed` by name."""
        return list(self._session.run([name for name, _, _ in self.outputs], dict(feed)))


def save(model: str, out: str, optimisation: str = "all") -> None:
    """Write the file `model` in ORT format to `out`, optimised for every processor and not for this one."""
    settings = _settings(optimisation, 1)
    settings.optimized_model_filepath = out
    settings.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model, settings, providers=[PROVIDER], disabled_optimizers=[*MACHINE_BOUND])


def _settings(optimisation: str, threads: int) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[optimisation])
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.use_deterministic_compute = True
    settings.log_severity_level = FATAL
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return settings


def _ports(nodes: Sequence[Any]) -> list[tuple[str, str, tuple[Any, ...]]]:
    return [(node.name, node.type, tuple(node.shape)) for node in nodes]


def _placement(session: Any) -> dict[str, str]:
    """Node -> provider as the session itself tells it; empty where this ONNX Runtime cannot tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    parts = session.get_provider_graph_assignment_info()
    return {node.name: str(part.ep_name) for part in parts for node in part.get_nodes() if node.name}


# -- as a program


def send(stream: BinaryIO, message: Mapping[str, Any], arrays: Sequence[tuple[str, Any]] = ()) -> None:
    """Write one message; `arrays`: (name, array)."""
    described = [{"name": name, "dtype": str(a.dtype), "shape": list(a.shape)} for name, a in arrays]
    head = json.dumps({**message, "arrays": described}).encode()
    stream.write(len(head).to_bytes(HEAD, "big") + head)
    for _, array in arrays:
        stream.write(np.ascontiguousarray(array).tobytes())
    stream.flush()


def receive(stream: BinaryIO) -> tuple[Any, dict[str, Any]] | None:
    """The next message and its arrays by name; None where the stream has ended. Raises EOFError in mid-message."""
    head = stream.read(HEAD)
    if not head:
        return None
    if len(head) != HEAD:
        raise EOFError("the message ends in its own length")
    message = json.loads(_exactly(stream, int.from_bytes(head, "big")))
    arrays = {each["name"]: _array(stream, each) for each in message.pop("arrays")}
    return message, arrays


def _array(stream: BinaryIO, described: Mapping[str, Any]) -> Any:
    dtype, shape = np.dtype(described["dtype"]), described["shape"]
    data = _exactly(stream, dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
    return np.frombuffer(data, dtype).reshape(shape)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError(f"the message ends after {len(data)} of {size} bytes")
    return data


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until `requests` ends: {"open": settings}, {"save": settings}, or {"run": true} with the inputs."""
    session: Session | None = None
    while (request := receive(requests)) is not None:
        message, arrays = request
        try:
            if "open" in message:
                session = Session(**message["open"])
                told = {
                    name: getattr(session, name) for name in ("inputs", "outputs", "placement", "version")
                }
                send(answers, told)
            elif "save" in message:
                save(**message["save"])
                send(answers, {"version": VERSION})
            elif session is not None:
                names = [name for name, _, _ in session.outputs]
                send(answers, {}, list(zip(names, session.run(arrays), strict=True)))
            else:
                raise RuntimeError("no model is open")
        except Exception as error:  # whatever it is, who asked has to hear of it
            send(answers, {"error": str(error) or type(error).__name__, "version": VERSION})


if __name__ == "__main__":
    import os

    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not fall among the answers
    serve(sys.stdin.buffer, _answers)
