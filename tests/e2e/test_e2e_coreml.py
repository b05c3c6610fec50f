"""Core ML through the real `doit`: a package that is right is green, one with a planted fault is red and named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project_dir import REPOSITORY, ProjectDir
from safetensors.numpy import load_file, save_file

CODE = """\
import numpy as np
import torch


def load():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 16)).astype(np.float32)
    return {"x": x, "label": np.arange(40) % 8}


class Net(torch.nn.Module):
    output_names = ("scores", "energy")

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(16, 32)
        self.second = torch.nn.Linear(32, 8)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        scores = self.second(hidden)
        return scores, torch.tanh(scores) * 3
"""
MANIFEST: dict[str, Any] = {
    "model": "net",
    "source": {"module": "net:Net", "weights": "net.safetensors"},
    "data": {"evaluation": {"loader": "net:load"}},
    "export": {"dynamic": {"batch": [1, 64]}},
    "platforms": {
        "ios": {"runtime": "coreml", "precision": "float16"},
        "mac": {"runtime": "coreml"},
        "android": {"runtime": "onnxruntime"},
    },
}
# Written over `write`, through which every package passes, before anything else is imported.
SABOTAGE = """\
from modelbuild.runtimes.coreml.converter import write as module

honest = module.write


def write(spec, weights, to):
    {spec}
    honest(spec, weights, to)
    {package}


module.write = write
"""
SCALE = """\
import numpy as np
    from safetensors.numpy import load_file
    path = to / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    data, half = path.read_bytes(), load_file("{weights}")["second.weight"].astype(np.float16)
    assert data.count(half.tobytes()) <= 1
    path.write_bytes(data.replace(half.tobytes(), (half * np.float16({by})).tobytes()))"""
SWAP = """\
block = spec.mlProgram.functions["main"].block_specializations["CoreML6"]
    swapped = {"scores": "energy", "energy": "scores"}
    for operation in block.operations:
        for output in operation.outputs:
            output.name = swapped.get(output.name, output.name)
        if operation.type != "cast":
            for argument in operation.inputs.values():
                for binding in argument.arguments:
                    binding.name = swapped.get(binding.name, binding.name)"""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> ProjectDir:
    project = ProjectDir(tmp_path_factory.mktemp("coreml") / "project")
    project.write("dodo.py", (REPOSITORY / "dodo.py").read_text())
    project.write("net.py", CODE)
    project.write("manifests/net.json", json.dumps(MANIFEST))
    rng = np.random.default_rng(1)
    shapes = {"first.weight": (32, 16), "first.bias": (32,), "second.weight": (8, 32), "second.bias": (8,)}
    weights = {name: (rng.standard_normal(shape) / 3).astype(np.float32) for name, shape in shapes.items()}
    save_file(weights, project.root / "net.safetensors")
    result = project.doit()
    assert result.code == 0, result.text
    return project


def report(project: ProjectDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.root / ".cache/out/net/report.json").read_text())
    return found


def evidence() -> str:
    return "executed" if sys.platform == "darwin" else "interpreted"


def test_an_honest_package_is_green_with_its_evidence_and_every_pair(net: ProjectDir) -> None:
    found = report(net)
    assert {row["name"]: row["evidence"] for row in found["platforms"]} == {
        "ios": evidence(),
        "mac": evidence(),
        "android": "executed",
    }
    pairs = {(row["platform"], row["against"]) for row in found["verdicts"] if row["limit"] is not None}
    labels = ["android", "ios", *(["ios.float16-sums"] if sys.platform != "darwin" else []), "mac"]
    expected = {(one.partition(".")[0], two) for n, one in enumerate(labels) for two in labels[n + 1 :]}
    expected |= {(label.partition(".")[0], "reference") for label in labels}
    assert pairs == expected
    of_pairs = [row for row in found["verdicts"] if row["against"] in ("ios", "mac")]
    assert of_pairs
    assert {row["evidence"] for row in of_pairs} == {evidence()}


def test_the_run_says_how_it_was_checked(net: ProjectDir) -> None:
    line = net.doit().out.splitlines()[-1]
    if sys.platform != "darwin":
        assert "1 platform executed, 2 platforms interpreted" in line


def test_building_twice_gives_the_same_bytes(net: ProjectDir) -> None:
    result = net.doit("rebuild-check", "net:ios", "net:mac")
    assert (result.code, result.out.count("same bytes twice")) == (0, 2)


def sabotaged(net: ProjectDir, tmp_path: Path, spec: str = "pass", package: str = "pass") -> Any:
    """Build a copy of the project by a converter that writes a fault into every package."""
    project = net.copy_to(tmp_path / "project")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SABOTAGE.format(spec=spec, package=package))
    for platform in ("ios", "mac"):
        project.doit("forget", f"net:{platform}")
    result = project.doit(env={"PYTHONPATH": str(tmp_path / "site")})
    return project, result


@pytest.mark.skipif(sys.platform == "darwin", reason="the words below are those of the evaluator")
@pytest.mark.parametrize(
    "fault", ["a weight scaled by 1.01", "two outputs swapped", "an overflow of float16"]
)
def test_a_fault_in_the_package_is_red_and_names_platform_and_output(
    fault: str, net: ProjectDir, tmp_path: Path
) -> None:
    weights = tmp_path / "project" / "net.safetensors"
    scale = {"a weight scaled by 1.01": "1.01", "an overflow of float16": "60000"}
    if fault in scale:
        project, result = sabotaged(net, tmp_path, package=SCALE.format(weights=weights, by=scale[fault]))
    else:
        project, result = sabotaged(net, tmp_path, spec=SWAP)
    assert result.code == 1, result.text
    red = [row for row in report(project)["verdicts"] if not row["ok"]]
    outputs = {"an overflow of float16": {"scores"}}.get(fault, {"scores", "energy"})
    platforms = {"two outputs swapped": {"ios", "mac"}}.get(fault, {"ios"})
    assert {row["platform"] for row in red if row["against"] == "reference"} == platforms
    assert {row["output"] for row in red if row["against"] == "reference"} >= outputs
    assert "net:ios" in {row["target"] for row in red}
    closing = result.out[result.out.index("verdicts are red") :]
    assert "ios coremltools 9" in closing
    assert "output scores" in closing
    if fault == "an overflow of float16":
        assert 'Inf in "scores"' in closing
    assert (project.root / ".cache/out/net/report.html").exists()


def test_evidence_that_does_not_suffice_fails_the_build(net: ProjectDir, tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("here Core ML itself runs the package")
    project = net.copy_to(tmp_path / "project")
    manifest = json.loads(json.dumps(MANIFEST))
    manifest["platforms"]["ios"]["evidence"] = "executed"
    project.write("manifests/net.json", json.dumps(manifest))
    result = project.doit()
    assert result.code == 1
    assert "only interpreted, and the manifest demands that it is executed" in result.out
    assert '"required": false' in result.out
    manifest["platforms"]["ios"]["required"] = False
    project.write("manifests/net.json", json.dumps(manifest))
    result = project.doit()
    assert result.code == 0, result.text
    assert "warning: ios: only interpreted" in result.out


def test_a_module_that_overflows_in_float16_is_warned_of_and_red(net: ProjectDir, tmp_path: Path) -> None:
    project = net.copy_to(tmp_path / "project")
    weights = load_file(project.root / "net.safetensors")
    weights["first.weight"] = weights["first.weight"] * np.float32(60000)
    weights["second.weight"] = weights["second.weight"] / np.float32(60000)
    save_file(weights, project.root / "net.safetensors")
    result = project.doit()
    assert result.code == 1
    assert "pre-flight for float16: overflow in first" in result.out
    red = [row for row in report(project)["verdicts"] if not row["ok"]]
    assert {row["platform"] for row in red if row["against"] == "reference"} == {"ios"}


def test_an_option_that_cannot_be_is_refused_with_its_place(net: ProjectDir, tmp_path: Path) -> None:
    project = net.copy_to(tmp_path / "project")
    manifest = json.loads(json.dumps(MANIFEST))
    manifest["platforms"]["ios"]["precision"] = "fp16"
    project.write("manifests/net.json", json.dumps(manifest))
    result = project.doit()
    assert result.code == 3
    assert "manifests/net.json#/platforms/ios/precision" in result.err
    assert "float16" in result.err


def test_a_package_is_delivered_whole_and_opens(net: ProjectDir, tmp_path: Path) -> None:
    result = net.doit("deliver", "--to", str(tmp_path / "shelf"))
    assert result.code == 0, result.text
    (package,) = (tmp_path / "shelf").rglob("ios/model.mlpackage")
    x = tmp_path / "x.npz"
    np.savez(x, x=load_file(net.root / ".cache/out/net/data.evaluation/data.safetensors")["x"])
    z = tmp_path / "z.npz"
    np.savez(z, **load_file(net.root / ".cache/out/net/reference/outputs.safetensors"))
    result = ProjectDir(tmp_path).doit("coreml", str(package), "--inputs", str(x), "--against", str(z))
    assert result.code == 0, result.text
    assert "all hold" in result.out
