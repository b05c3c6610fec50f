"""A value inside a package is held to the very value of the ONNX file that it should equal, or to none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from followed import Followed, follow
from made import RUNTIME, Class, Recurrent, numbers
from torch import Tensor, nn

from modelbuild.equivalence import localise
from modelbuild.errors import RecipeError
from modelbuild.recipes import values
from modelbuild.runtimes.coreml.converter import identity

torch.set_num_threads(1)
ROUNDS = {"float32": None, "float16": "float16"}
# What an attention is made of in Core ML, what ONNX folds into constants, and a slice that takes all there is.
WITHOUT = {
    "mul",
    "matmul",
    "add",
    "softmax",
    "shape",
    "select",
    "real_div",
    "tile",
    "concat",
    "gather",
    "reshape",
}


@pytest.fixture(
    scope="module", params=[(n, p) for n in ("convnet", "plain1d", "encoder") for p in ROUNDS], ids="-".join
)
def followed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, Followed]:
    name, precision = request.param
    net = nets.NETS[name]
    made = follow(tmp_path_factory.mktemp(name), net.kind, net.inputs(), precision=precision)
    return name, precision, made


def test_every_value_that_matters_has_a_counterpart(followed: tuple[str, str, Followed]) -> None:
    name, _, made = followed
    compared, inside = made.compared(), made.inside
    alone = {node.kind for node in inside.nodes if not compared.keys() & {*node.gives}}
    assert alone <= (WITHOUT | {"slice_by_index"} if name == "encoder" else set())
    of_layers = {
        "conv",
        "conv_transpose",
        "linear",
        "layer_norm",
        "relu",
        "gelu",
        "max_pool",
        "tanh",
        "leaky_relu",
    }
    assert not alone & of_layers
    assert set(compared.values()) <= made.names.keys()


def test_an_honest_package_agrees_with_pytorch_on_all_of_them(followed: tuple[str, str, Followed]) -> None:
    _, precision, made = followed
    rounds = ROUNDS[precision]
    due, found, compared = made.due(*filter(None, [rounds])), made.found(), made.compared()
    for value, other in compared.items():
        if value in found:
            allowed = values.limits(due[other], rounds)
            assert localise.deviation(due[other].array, found[value], allowed).ok, (value, other)


@pytest.fixture(scope="module")
def convnet(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    return follow(tmp_path_factory.mktemp("convnet"), nets.NETS["convnet"].kind, nets.image_inputs())


def test_a_folded_normalisation_is_the_normalisation(convnet: Followed) -> None:
    node = next(node for node in convnet.inside.nodes if node.kind == "conv")
    other = convnet.inside.identity[node.gives[0]]
    assert convnet.names[other].module == "features.0.1" and "batch_norm" in convnet.names[other].op


def test_equal_names_prove_nothing(tmp_path: Path) -> None:
    """The two exports number an open axis otherwise, and so what is compared with it."""
    made = follow(tmp_path, nets.NETS["encoder"].kind, nets.encoder_inputs())
    renamed = {value: other for value, other in made.inside.identity.items() if value != other}
    assert any(value.startswith("eq_") and other.startswith("eq_") for value, other in renamed.items())


class Turned(nn.Module):
    """A transposition and back, with something between: Core ML computes that without either. x: [n, 6, 6]."""

    output_names = ("y",)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x.transpose(1, 2)).transpose(1, 2) * 2


SQUARES = {"x": numbers(4, 6, 6)}


def test_a_name_on_numbers_in_another_order_goes(tmp_path: Path) -> None:
    made = follow(tmp_path, Turned, SQUARES)
    assert [(node.kind, node.gives) for node in made.inside.nodes] == [("relu", ("relu",)), ("mul", ("y",))]
    assert made.names["relu"].op == "aten.relu"  # of [n, 6, 6] too, and turned
    assert set(made.inside.identity) == {"x", "y"}


def test_a_value_that_is_wrong_by_a_fault_keeps_its_name(
    convnet: Followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, wrong, honest = identity.exported.values, set[str](), convnet.inside.identity

    def off(*given: Any) -> Any:
        return {name: array * (-3 if name in wrong else 1) for name, array in genuine(*given).items()}

    def identities(name: str) -> Any:
        (tmp_path / name).mkdir()
        RUNTIME.convert(convnet.targets, tmp_path / name, convnet.params)
        return RUNTIME.inside(tmp_path / name).identity

    monkeypatch.setattr(identity.exported, "values", off)
    wrong |= {"relu_1"}  # alone, with all that is computed from it as it should be
    assert set(honest) - set(identities("alone")) == {"relu_1"}
    wrong |= {"max_pool2d_1", "getitem_6", "relu_2", "view", "linear"}
    assert identities("fault") == honest


def test_of_a_module_that_was_traced_the_ports_are_known(tmp_path: Path) -> None:
    made = follow(tmp_path, Recurrent, {"x": numbers(4, 7, 6)})
    assert made.inside.identity == {"x": "x", "output": "output"}


def test_without_the_onnx_file_the_ports_are_known_and_the_package_is_the_same(
    convnet: Followed, tmp_path: Path
) -> None:
    targets = {name: path for name, path in convnet.targets.items() if name != "onnx"}
    RUNTIME.convert(targets, tmp_path, convnet.params)
    assert RUNTIME.inside(tmp_path).identity == {"image": "image", "logits": "logits"}
    model = "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    assert (tmp_path / model).read_bytes() == (convnet.artifact / model).read_bytes()


def test_the_scores_of_a_classifier_stand_for_its_dictionary(tmp_path: Path) -> None:
    classes = {"output": "scores", "labels": ["a", "b", "c"]}
    made = follow(tmp_path, Class, {"x": numbers(4, 6)}, classes=classes)
    (scores,) = made.inside.outputs
    assert made.inside.identity[scores] == "scores" and made.inside.batch == 1
    found = RUNTIME.intermediates(made.artifact, made.few(1), (scores,), {"options": {}})[scores]
    np.testing.assert_allclose(found, RUNTIME.run(made.artifact, made.few(1), made.params).outputs["scores"])


def test_ports_go_by_their_own_names_where_core_ml_has_others(tmp_path: Path) -> None:
    made = follow(
        tmp_path, nets.NETS["convnet"].kind, nets.image_inputs(), names={"image": "picture", "logits": "out"}
    )
    assert {made.inside.identity[name] for name in ("picture", "out")} == {"image", "logits"}
    assert made.inside.inputs == ("picture",) and made.inside.outputs == ("out",)


def test_compressed_weights_leave_the_names(convnet: Followed, tmp_path: Path) -> None:
    step = {"kind": "palette", "bits": 2, "mode": "kmeans", "min_elements": 16}
    options = {"compression": [step], "deployment_target": "iOS16"}
    RUNTIME.convert(convnet.targets, tmp_path, {**convnet.params, "options": options})
    small = RUNTIME.inside(tmp_path)
    assert small.identity == convnet.inside.identity
    assert [node.kind for node in small.nodes] == [
        node.kind for node in convnet.inside.nodes
    ]  # unfolding is none


def test_the_file_is_in_order_and_missed(convnet: Followed, tmp_path: Path) -> None:
    told = json.loads((convnet.artifact / "identity.json").read_text())
    assert list(told) == sorted(told)
    shutil.copytree(convnet.artifact, tmp_path / "old")
    (tmp_path / "old" / "identity.json").unlink()
    with pytest.raises(RecipeError, match=r"cannot read identity\.json.*Build the artefact again"):
        RUNTIME.inside(tmp_path / "old")
