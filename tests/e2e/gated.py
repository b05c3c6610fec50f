"""A project of three operations and two platforms, one of them a third party's whose converter errs when told to."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from project_dir import ProjectDir, Result

DATA = """\
import numpy as np

from shop.net import scores


def load(samples=120, wrong=0):
    x = np.random.default_rng(5).standard_normal((samples, 4)).astype(np.float32)
    label = scores(x).argmax(1).astype(np.int64)
    label[:wrong] = (label[:wrong] + 1) % 3
    return {"x": x, "label": label}
"""

NET = """\
import numpy as np

MIX = np.sin(np.arange(32, dtype=np.float32)).reshape(4, 8)
SHIFT = np.cos(np.arange(8, dtype=np.float32))
SCORE = np.cos(np.arange(24, dtype=np.float32) * 1.7).reshape(8, 3)


def scores(x):
    return np.maximum(x @ MIX + SHIFT, 0) @ SCORE
"""

# In a distribution of its own, found by its entry point.
RUNTIME = '''\
"""ONNX Runtime with a converter that errs where the platform says "fault"."""

from modelbuild.runtimes.onnxruntime import OnnxRuntime


def _plain(options):
    return {name: value for name, value in options.items() if name != "fault"}


class Spoilt(OnnxRuntime):
    def modules(self):
        return ("modelbuild.runtimes.onnxruntime",)

    def conversion(self, options):
        found = super().conversion(_plain(options))
        return found._replace(options={**found.options, "fault": options.get("fault", "")})

    def runs(self, options):
        return super().runs(_plain(options))

    def convert(self, model, out, params):
        super().convert(model, out, {**params, "options": _plain(params["options"])})
        FAULTS[params["options"]["fault"]](out / "model.onnx")


def _weights(path, name, change):
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    (tensor,) = (each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(tensor))), name))
    onnx.save(model, path)


def _leaky(path):
    import onnx

    model = onnx.load(path)
    (node,) = (each for each in model.graph.node if each.op_type == "Relu")
    node.op_type = "LeakyRelu"
    onnx.save(model, path)


FAULTS = {
    "": lambda path: None,
    "scaled": lambda path: _weights(path, "score", lambda w: w * w.dtype.type(1.05)),
    "swapped": lambda path: _weights(path, "mix", lambda w: w[:, [1, 0, *range(2, w.shape[1])]]),
    "shifted": lambda path: _weights(path, "shift", lambda w: w + w.dtype.type(0.05)),
    "leaky": _leaky,
    "not a number": lambda path: _weights(path, "score", lambda w: w * w.dtype.type("nan")),
    "slightly": lambda path: _weights(path, "score", lambda w: w * w.dtype.type(1.0002)),
}
RUNTIME = Spoilt()
'''
METADATA = "Metadata-Version: 2.1\nName: spoilt\nVersion: 1.0\n"
ENTRY_POINTS = "[modelbuild.runtimes]\nspoilt = spoilt_runtime:RUNTIME\n"

MANIFEST: dict[str, Any] = {
    "model": "tiny",
    "source": {"onnx": "models/tiny.onnx"},
    "data": {"evaluation": {"loader": "shop.data:load"}},
    "platforms": {"phone": {"runtime": "onnxruntime"}, "device": {"runtime": "spoilt"}},
    "gates": {
        "task": {"metric": "accuracy", "min": 0.9},
        "runtime": {"tolerance": "auto", "decision_flips": 0},
    },
}


class GatedDir(ProjectDir):
    """A project in which the runtime "spoilt" is installed."""

    @classmethod
    def create(cls, root: Path, onnx_model: bytes = b"") -> GatedDir:
        project = cls(ProjectDir.create(root, onnx_model).root)
        project.write("shop/data.py", DATA)
        project.write("shop/net.py", NET)
        project.path("models/tiny.onnx").write_bytes(onnx_model or network(project.path("shop/net.py")))
        project.write("manifests/tiny.json", json.dumps(MANIFEST, indent=1))
        project.write("site/spoilt_runtime.py", RUNTIME)
        project.write("site/spoilt-1.0.dist-info/METADATA", METADATA)
        project.write("site/spoilt-1.0.dist-info/entry_points.txt", ENTRY_POINTS)
        project.write("site/spoilt-1.0.dist-info/RECORD", "spoilt_runtime.py,,\n")
        return project

    def environment(self, more: Any = None) -> dict[str, str]:
        found = super().environment(more)
        paths = [str(self.path("site")), found.get("PYTHONPATH", "")]
        return {**found, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def spoil(self, fault: str, **more: Any) -> None:
        """Let the converter of the platform "device" make the mistake called so."""
        self.manifest(lambda m: m["platforms"].update(device={"runtime": "spoilt", "fault": fault, **more}))

    def typed(self, line: str) -> Result:
        """Run a command line that was shown, as somebody would in the project's folder."""
        words = line.split()
        assert words[0] == "python", line
        command = [sys.executable, *words[1:]]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, timeout=120
        )
        return Result(done.returncode, done.stdout, done.stderr)


def network(weights: Path) -> bytes:
    """Four inputs, three classes; the weights are those of shop/net.py."""
    found = runpy.run_path(str(weights))
    names = {"mix": found["MIX"], "shift": found["SHIFT"], "score": found["SCORE"]}
    nodes = [
        helper.make_node("Gemm", ["x", "mix", "shift"], ["mixed"], name="mixing"),
        helper.make_node("Relu", ["mixed"], ["folded"], name="folding"),
        helper.make_node("MatMul", ["folded", "score"], ["scores"], name="scoring"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in names.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))
