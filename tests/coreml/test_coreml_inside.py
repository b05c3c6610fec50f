"""The operations of a package, and a part of one as a package of its own."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import coremltools
import nets
import numpy as np
import pytest
import torch
from coremltools.converters.mil.frontend.milproto.load import load
from followed import Followed, follow
from made import RUNTIME, Recurrent, Weights, files, make, numbers
from torch import Tensor, nn

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator import mlpackage
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["float32", "float16"])
def convnet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    folder = tmp_path_factory.mktemp(request.param)
    return follow(folder, nets.NETS["convnet"].kind, nets.image_inputs(), precision=request.param)


class Kinds(nn.Module):
    """A truth value, a whole number, two results of one operation, and a reshaping between."""

    output_names = ("y", "best")

    def forward(self, x: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        one, two = torch.split(torch.where(i > 6, x, -x), [2, 4], 1)
        return (two.reshape(-1, 2, 2) * one.unsqueeze(1)).flatten(1), (i + 1).argmax(1)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    data = {"x": numbers(4, 6), "i": np.random.default_rng(0).integers(0, 10, (4, 6))}
    return follow(tmp_path_factory.mktemp("kinds"), Kinds, data)


# -- operations


def test_operations_are_in_order_and_read_no_constants(convnet: Followed) -> None:
    inside = convnet.inside
    there = {*inside.inputs}
    for node in inside.nodes:
        assert {*node.reads} <= there and node.gives and not {*node.gives} & there
        there |= {*node.gives}
    assert inside.outputs == ("logits",) and inside.batch is None
    assert [node.kind for node in inside.nodes if not node.layout] == [
        *("conv", "relu", "max_pool") * 2, "conv", "relu", "linear"
    ]  # fmt: skip
    assert {node.kind for node in inside.nodes if node.layout} <= {"reshape", "cast"}
    assert not any("weight" in name or "bias" in name for node in inside.nodes for name in node.reads)


def test_a_loop_is_one_operation(tmp_path: Path) -> None:
    made = make(tmp_path, Recurrent, {"x": numbers(4, 7, 6)})
    inside = RUNTIME.inside(made.folder)
    (loop,) = [node for node in inside.nodes if node.kind == "while_loop"]
    assert not loop.layout and len(loop.gives) > 1 and {*loop.reads}
    assert not {"sigmoid", "scatter"} & {node.kind for node in inside.nodes}
    assert set(made.package.functions) == {"main"}


@pytest.mark.parametrize(
    ("export", "options", "batch"),
    [
        ({}, {}, 1),
        ({"dynamic": {"batch": [4, 4]}}, {}, 4),
        ({"dynamic": {"batch": [1, 4]}}, {}, 4),
        ({"dynamic": {"batch": [1, 64]}}, {}, None),
        ({}, {"shapes": {"x": {"enumerated": [[2, 64], [5, 64]]}}}, 5),
    ],
)
def test_the_number_of_samples_is_told_where_it_is_not_open(
    tmp_path: Path, export: Any, options: Any, batch: int | None
) -> None:
    made = make(tmp_path, Weights, {"x": numbers(5, 64)}, export=export, **options)
    assert RUNTIME.inside(made.folder).batch == batch


# -- excerpts


def cut(made: Followed, out: Path, reads: Any, gives: Any) -> mlpackage.Package:
    out.mkdir(exist_ok=True)
    return mlpackage.read(out / RUNTIME.excerpt(made.artifact, out, tuple(reads), tuple(gives)))


def called(package: mlpackage.Package, values: Any) -> dict[str, Any]:
    evaluator = Evaluator(package)
    ports = evaluator.function.inputs
    return evaluator({port.name: values[port.name].astype(port.type.dtype) for port in ports})  # type: ignore[union-attr]


def test_each_operation_by_itself_gives_what_it_gives_inside(convnet: Followed, tmp_path: Path) -> None:
    each_by_itself(convnet, tmp_path)


def test_truth_values_and_several_results_are_cut_out_too(kinds: Followed, tmp_path: Path) -> None:
    each_by_itself(kinds, tmp_path)
    given = {name: array.dtype.kind for name, array in kinds.found().items()}
    assert set(given.values()) == {"b", "f", "i"}
    assert any(len(node.gives) > 1 for node in kinds.inside.nodes)


def each_by_itself(made: Followed, tmp_path: Path) -> None:
    values = {**made.found(), **made.few()}
    for node in made.inside.nodes:
        package = cut(made, tmp_path / "out", node.reads, node.gives)
        found = called(package, values)
        assert [*found] == [*node.gives]
        for name, array in found.items():
            np.testing.assert_allclose(array, values[name].astype(array.dtype), atol=1e-6, rtol=1e-3)
            assert str(array.dtype) in ("float32", "int32")  # Core ML has no more at its borders
        opened(package)


def opened(package: mlpackage.Package) -> None:
    """As coremltools opens and understands it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = coremltools.models.MLModel(str(package.path), skip_model_load=True)
    spec = model.get_spec()
    assert load(spec, spec.specificationVersion, model.weights_dir).functions["main"].operations


def test_a_part_of_several_operations_keeps_to_what_it_needs(convnet: Followed, tmp_path: Path) -> None:
    inside = convnet.inside
    start = next(node for node in inside.nodes if node.kind == "max_pool").gives
    end = [node for node in inside.nodes if node.kind == "max_pool"][1].gives
    package = cut(convnet, tmp_path, start, end)
    body = package.functions["main"].body
    kinds = [each.type for each in body.operations if each.type not in ("const", "cast")]
    assert kinds == ["conv", "relu", "max_pool"]
    values = {**convnet.found(), **convnet.few()}
    assert np.ptp(values[end[0]]) > 0.1
    np.testing.assert_allclose(called(package, values)[end[0]], values[end[0]], rtol=1e-3, atol=1e-6)
    sizes = [
        sum(p.stat().st_size for p in each.rglob("weight.bin")) for each in (package.path, convnet.artifact)
    ]
    assert 0 < sizes[0] < sizes[1]  # the weights of these alone


def test_the_same_excerpt_has_the_same_bytes(convnet: Followed, tmp_path: Path) -> None:
    for name in ("one", "two"):
        cut(convnet, tmp_path / name, ("image",), ("logits",))
        cut(convnet, tmp_path / name, ("image",), ("logits",))  # and writes over what is there
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert not any(str(tmp_path).encode() in data for data in files(tmp_path / "one").values())


def test_an_excerpt_has_the_artefacts_own_weights(convnet: Followed, tmp_path: Path) -> None:
    """A fault in a weight file is in the excerpt too."""
    (weights,) = convnet.artifact.rglob("weight.bin")
    kept = weights.read_bytes()
    conv = next(node for node in convnet.inside.nodes if node.kind == "conv")
    before = called(
        cut(convnet, tmp_path / "one", conv.reads, conv.gives), {**convnet.found(), **convnet.few()}
    )
    (record,) = first_weight(convnet, conv.name)
    start, size = struct.unpack_from("<QQ", kept, record + 8)[::-1]
    try:
        weights.write_bytes(kept[:start] + bytes(size) + kept[start + size :])
        after = called(
            cut(convnet, tmp_path / "two", conv.reads, conv.gives), {**convnet.found(), **convnet.few()}
        )
    finally:
        weights.write_bytes(kept)
    (name,) = conv.gives
    assert np.abs(before[name] - after[name]).max() > 0.1


def first_weight(made: Followed, name: str) -> list[int]:
    """Where the record of the weight of operation `name` lies."""
    spec = made.package.spec.mlProgram.functions["main"]
    operations = spec.block_specializations[spec.opset].operations
    by_output = {each.outputs[0].name: each for each in operations}
    conv = next(
        e for e in operations if e.attributes["name"].immediateValue.tensor.strings.values[:] == [name]
    )
    weight = by_output[conv.inputs["weight"].arguments[0].name]
    return [weight.attributes["val"].blobFileValue.offset]


def test_compressed_weights_are_cut_out_as_they_are(tmp_path: Path) -> None:
    step = {"kind": "palette", "bits": 4, "mode": "kmeans", "min_elements": 2048}
    made = make(
        tmp_path / "made", Weights, {"x": numbers(4, 64)}, compression=[step], deployment_target="iOS16"
    )
    inside = RUNTIME.inside(made.folder)
    node = next(node for node in inside.nodes if node.kind == "linear")
    package = mlpackage.read(tmp_path / RUNTIME.excerpt(made.folder, tmp_path, node.reads, node.gives))
    kinds = [each.type for each in package.functions["main"].body.operations]
    assert any(kind.startswith("constexpr_") for kind in kinds)
    want = RUNTIME.intermediates(made.folder, made.inputs, node.gives, {"options": {}})
    np.testing.assert_allclose(called(package, made.inputs)[node.gives[0]], want[node.gives[0]], atol=1e-6)


def test_a_loop_is_cut_out_whole(tmp_path: Path) -> None:
    made = make(tmp_path / "made", Recurrent, {"x": numbers(4, 7, 6)}, export={"dynamic": {"batch": [4, 4]}})
    package = mlpackage.read(tmp_path / RUNTIME.excerpt(made.folder, tmp_path, ("x",), ("output",)))
    np.testing.assert_allclose(called(package, made.inputs)["output"], made.want["output"], atol=1e-6)


@pytest.mark.parametrize(
    ("reads", "gives", "words"),
    [
        (("relu_1",), ("max_pool2d",), r'from "relu_1": "image" is needed\. Read "image" as well'),
        (("imag",), ("logits",), r'"imag" is no value of the package\. Did you mean "image"'),
        (("image",), ("image",), 'nothing computes "image" from "image"'),
        (("image",), ("p_module_head_bias",), 'nothing computes "p_module_head_bias" from "image"'),
        (("image",), (), "no value is asked for"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_out_is_refused(tmp_path: Path, reads: Any, gives: Any, words: str) -> None:
    made = make(tmp_path / "made", nets.NETS["convnet"].kind, nets.image_inputs())
    with pytest.raises(RecipeError, match=words):
        RUNTIME.excerpt(made.folder, tmp_path, reads, gives)


def test_a_weight_file_that_is_none_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path / "made", nets.NETS["convnet"].kind, nets.image_inputs())
    (weights,) = made.folder.rglob("weight.bin")
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(RecipeError, match=r"weight\.bin holds no weight at \d+.*damaged"):
        RUNTIME.excerpt(made.folder, tmp_path, ("image",), ("logits",))
