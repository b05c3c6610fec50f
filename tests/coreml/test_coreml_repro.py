"""The program that goes with an excerpt of a package, as somebody runs it who has the folder and nothing else."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from followed import Followed, follow
from made import RUNTIME, Recurrent, make, numbers
from torch import Tensor, nn
from torch.nn import functional

from modelbuild.recipes import repro_coreml, values
from modelbuild.runtimes import base

torch.set_num_threads(1)
ONNX: Any = base.find("onnxruntime")


@pytest.fixture(scope="module")
def convnet(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    return follow(tmp_path_factory.mktemp("convnet"), nets.NETS["convnet"].kind, nets.image_inputs())


def pack(out: Path, made: Followed, reads: Any, gives: Any, artifact: Path | None = None) -> Path:
    """The folder that a finding is told in: the part, what feeds it, what is due, and finding.json."""
    out.mkdir(exist_ok=True)
    due, identity = made.due(), made.inside.identity
    shipped = RUNTIME.excerpt(artifact or made.artifact, out, reads, gives)
    named = [{"name": value, "reference": identity[value]} for value in reads]
    given = [
        {
            "name": value,
            "reference": identity[value],
            "limits": asdict(values.limits(due[identity[value]], None)),
        }
        for value in gives
    ]
    ONNX.excerpt(
        made.targets["onnx"], out, tuple(p["reference"] for p in named), tuple(p["reference"] for p in given)
    )
    (out / "shipped.onnx").rename(out / "reference.onnx")
    told(out, shipped, named, given, {value: due[identity[value]].array for value in (*reads, *gives)})
    return out


def told(out: Path, shipped: str, reads: Any, gives: Any, arrays: Any) -> None:
    for file, side in (("inputs.npz", reads), ("expected.npz", gives)):
        np.savez(out / file, **{f"value_{number}": arrays[port["name"]] for number, port in enumerate(side)})
    about = {
        "operation": "conv",
        "shipped": shipped,
        "reference": "reference.onnx",
        "inputs": reads,
        "values": gives,
    }
    (out / "finding.json").write_text(json.dumps({"reproduce": about}))


def tried(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(repro_coreml, "HERE", folder)
    return repro_coreml.main([*arguments])


def faulty(made: Followed, to: Path) -> Path:
    """The artefact with the first record of its weight file doubled."""
    shutil.copytree(made.artifact, to)
    (weights,) = to.rglob("weight.bin")
    data = bytearray(weights.read_bytes())
    size, start = struct.unpack_from("<QQ", data, 64 + 8)
    data[start : start + size] = (np.frombuffer(data[start : start + size], np.float32) * 2).tobytes()
    weights.write_bytes(bytes(data))
    return to


def test_the_program_shows_a_fault_and_none_in_the_reference(convnet: Followed, tmp_path: Path) -> None:
    broken = faulty(convnet, tmp_path / "broken")
    changed = [
        n for n, a in convnet.found(artifact=broken).items() if not np.array_equal(a, convnet.found()[n])
    ]
    node = next(node for node in convnet.inside.nodes if node.gives[0] in changed)
    folder = pack(tmp_path / "folder", convnet, node.reads, node.gives, broken)
    shutil.copyfile(repro_coreml.__file__, folder / "reproduce.py")
    for arguments, code, said in (([], 1, "reproduced"), (["reference"], 0, "not reproduced")):
        command = [sys.executable, "-I", "-B", "reproduce.py", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (code, said)
        assert f"  {node.gives[0]}: max_abs " in done.stdout or arguments


def test_without_a_fault_it_says_so(
    convnet: Followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pack(tmp_path / "folder", convnet, ("image",), ("logits",))
    assert tried(folder, monkeypatch) == 0
    assert tried(folder, monkeypatch, "reference") == 0
    arrays = dict(np.load(folder / "expected.npz"))
    for wrong in (arrays["value_0"] + 1e-3, arrays["value_0"][:1]):
        np.savez(folder / "expected.npz", value_0=wrong)
        assert tried(folder, monkeypatch) == 1


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_abs": 1.0, "rmse": 1.0}, 0),
        ({"max_abs": 1.0, "rmse": 1e-4}, 1),
        ({"max_abs": 1e-4, "rmse": 1.0}, 1),
    ],
)
def test_it_holds_a_value_to_both_limits(
    convnet: Followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Any, code: int
) -> None:
    folder = pack(tmp_path / "folder", convnet, ("image",), ("logits",))
    np.savez(folder / "expected.npz", value_0=dict(np.load(folder / "expected.npz"))["value_0"] + 1e-3)
    about = json.loads((folder / "finding.json").read_text())
    about["reproduce"]["values"][0]["limits"] = limits
    (folder / "finding.json").write_text(json.dumps(about))
    assert tried(folder, monkeypatch) == code


def test_what_it_cannot_do_it_says(
    tmp_path: Path, convnet: Followed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pack(tmp_path / "folder", convnet, ("image",), ("logits",))
    (folder / "reference.onnx").write_bytes(b"")
    assert tried(folder, monkeypatch, "reference") == 2
    assert "ONNX Runtime does not run reference.onnx" in capsys.readouterr().out
    assert tried(folder, monkeypatch, "both") == 2
    assert "usage: python reproduce.py [shipped|reference]" in capsys.readouterr().out
    shutil.rmtree(folder / "shipped.mlpackage")
    assert tried(folder, monkeypatch) == 2
    assert "cannot be tried here: " in capsys.readouterr().out


def test_an_operation_that_nothing_evaluates_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(tmp_path / "made", Recurrent, {"x": numbers(4, 7, 6)}, export={"dynamic": {"batch": [4, 4]}})
    shipped = RUNTIME.excerpt(made.folder, tmp_path, ("x",), ("output",))
    ports = [
        [{"name": name, "reference": name, "limits": {"max_abs": 1.0, "rmse": 1.0}}]
        for name in ("x", "output")
    ]
    told(tmp_path, shipped, *ports, {**made.inputs, **made.want})
    assert tried(tmp_path, monkeypatch) == 2
    assert 'coremltools cannot evaluate "while_loop" outside of macOS' in capsys.readouterr().out


class Image(nn.Module):
    """Convolutions and poolings in many settings; x: [n, 4, 9, 9]."""

    output_names = ("a", "b", "c", "d", "e", "f", "g")

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 6, 3, stride=2, padding=(1, 0), dilation=2, groups=2)
        self.b = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
        self.c, self.e = nn.Conv2d(4, 6, (3, 5), padding="same"), nn.BatchNorm2d(4)
        self.w = nn.Parameter(torch.randn(9, 9))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = torch.relu(x)
        return (
            self.a(x),
            self.b(x),
            self.c(x),
            functional.max_pool2d(x, 3, 2, 1),
            functional.avg_pool2d(self.e(y), 3, 2, 1, count_include_pad=False),
            functional.avg_pool2d(x, 2, 2, 1) + 1,
            torch.matmul(y, y.transpose(2, 3)) @ self.w,
        )


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_it_computes_as_the_evaluator_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    made = make(tmp_path / "made", Image, {"x": numbers(3, 4, 9, 9)}, precision=precision)
    inside = RUNTIME.inside(made.folder)
    assert {"conv", "conv_transpose", "max_pool", "avg_pool", "batch_norm", "matmul"} <= {
        n.kind for n in inside.nodes
    }
    shipped = RUNTIME.excerpt(made.folder, tmp_path, inside.inputs, inside.outputs)
    found = RUNTIME.intermediates(made.folder, made.inputs, inside.outputs, {"options": {}})
    sizes = {
        name: 1e-6 + np.abs(a).max() * (5e-3 if precision == "float16" else 2e-6) for name, a in found.items()
    }
    reads = [{"name": "x", "reference": "x"}]
    limits = {name: dict.fromkeys(("max_abs", "rmse"), float(size)) for name, size in sizes.items()}
    gives = [{"name": name, "reference": name, "limits": limits[name]} for name in inside.outputs]
    told(tmp_path, shipped, reads, gives, {**made.inputs, **found})
    assert tried(tmp_path, monkeypatch) == 0


def test_on_macos_core_ml_runs_it(
    convnet: Followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As far as can be had without one: that it is asked, and for what."""
    import coremltools

    folder = pack(tmp_path / "folder", convnet, ("image",), ("logits",))
    asked = []

    class Predicting(coremltools.models.MLModel):  # type: ignore[misc]
        def __init__(self, path: str, skip_model_load: bool = False) -> None:
            asked.append(skip_model_load)
            super().__init__(path, skip_model_load=True)

        def predict(self, feed: Any) -> Any:
            return {
                "logits": convnet.found()["logits"],
                **{name: asked.append(a.dtype) for name, a in feed.items()},
            }

    monkeypatch.setattr(coremltools.models, "MLModel", Predicting)
    convnet.found()  # before the platform is another
    values_of = convnet.found("logits")
    monkeypatch.setattr(Followed, "found", lambda self, *names, **_: values_of)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert tried(folder, monkeypatch) == 0
    assert asked == [False, np.float32] and "Core ML" in capsys.readouterr().out
