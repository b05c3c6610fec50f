"""What a platform may say about Core ML, and that the package then is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from made import BATCH, RUNTIME, Class, Kinds, Made, Scores, Two, Weights, make, numbers
from torch import Tensor, nn

from modelbuild.errors import ManifestError, RecipeError

X = {"x": numbers(5, 6)}
TWO = {"left": numbers(5, 3, 4), "right": numbers(5, 4, seed=1)}
KINDS = {"x": numbers(5, 6), "i": np.arange(30).reshape(5, 6)}
LINEAR = {"kind": "linear", "symmetric": True, "min_elements": 2048}
PALETTE = {"kind": "palette", "bits": 4, "mode": "kmeans", "min_elements": 2048}
PRUNE = {"kind": "prune", "sparsity": 0.5, "min_elements": 2048}
HALF = 1e-2
FLOAT32 = 65568  # of ArrayFeatureType.ArrayDataType


def names(ports: Any) -> list[str]:
    return [port.name for port in ports]


# -- deployment target and precision


@pytest.mark.parametrize(
    ("target", "version", "precision"),
    [
        ("iOS15", 6, "float16"),
        ("iOS16", 7, "float32"),
        ("iOS17", 8, "float16"),
        ("iOS18", 9, "float32"),
    ],
)
def test_a_package_of_every_deployment_target(
    tmp_path: Path, target: str, version: int, precision: str
) -> None:
    made = make(tmp_path, Scores, X, deployment_target=target, precision=precision)
    assert made.spec.specificationVersion == version
    assert all(error <= (1e-6 if precision == "float32" else HALF) for error in made.errors().values())
    assert made.dtypes("linear") == {precision}
    ports = [*made.spec.description.input, *made.spec.description.output]
    assert [port.type.multiArrayType.dataType for port in ports] == [FLOAT32] * 3  # whatever is inside


@pytest.mark.parametrize("keep", [["linear_1"], ["softmax", "relu"]])
def test_operations_kept_in_float32_are(tmp_path: Path, keep: list[str]) -> None:
    made = make(tmp_path, Scores, X, precision="mixed", keep_float32=keep)
    kept = {"softmax": made.dtypes("softmax"), "relu": made.dtypes("relu"), "linear_1": made.dtypes("linear")}
    assert {name for name, dtypes in kept.items() if "float32" in dtypes} == {*keep}
    assert "float16" in made.dtypes("linear")  # the first layer is not asked for
    assert all(0 < error < HALF for error in made.errors().values())


def test_an_operation_to_keep_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'"softmx".* Did you mean "softmax"\?'):
        make(tmp_path, Scores, X, precision="mixed", keep_float32=["softmax", "softmx"])


# -- names


def test_names_are_core_mls_outside_and_ours_inside(tmp_path: Path) -> None:
    made = make(tmp_path, Scores, X, names={"x": "features", "scores": "p"})
    assert names(made.spec.description.input) == ["features"]
    assert names(made.spec.description.output) == ["p", "hidden"]
    assert all(error < 1e-6 for error in made.errors().values())


def test_names_may_change_places(tmp_path: Path) -> None:
    made = make(tmp_path, Scores, X, names={"x": "hidden", "hidden": "x"})
    assert (names(made.spec.description.input), names(made.spec.description.output)) == (
        ["hidden"],
        ["scores", "x"],
    )
    assert all(error < 1e-6 for error in made.errors().values())


def test_a_name_that_core_ml_has_no_letters_for(tmp_path: Path) -> None:
    made = make(tmp_path, Two, TWO)
    assert names(made.spec.description.output) == ["left_sum", "pairs"]
    assert all(error < 1e-6 for error in made.errors().values())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"score": "p"}, '"names" names "score".* Did you mean "scores"'),
        ({"x": "hidden"}, '"x" and "hidden" would both be called "hidden"'),
        ({"scores": "hidden"}, '"scores" and "hidden" would both be called "hidden"'),
    ],
)
def test_names_that_are_refused(tmp_path: Path, given: dict[str, str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make(tmp_path, Scores, X, names=given)


def test_a_name_of_ours_that_core_ml_would_change(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="inputs var_0x where 0x was asked for"):
        make(tmp_path, Scores, {"0x": X["x"]})


class Odd(nn.Module):
    """x: [n, 6] -> what Core ML cannot have, or what it can."""

    def __init__(self, which: str) -> None:
        super().__init__()
        self.which, self.layer = which, nn.Linear(6, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = torch.relu(self.layer(x))
        return {
            "same": {"y": y, "z": y},
            "passed": {"y": y, "z": x},
            "called": {"x": y},
            "double": {"y": y.double()},
            "constant": {"y": y, "z": torch.ones(x.shape[0], 3)},
            "view": {"y": y, "z": y.reshape(-1, 2, 3)},
            "summed": {"y": y, "z": y.sum(0)},
        }[self.which]


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("same", 'output "z" is nothing but "y"'),
        ("passed", 'output "z" is nothing but "x"'),
        ("called", '"x" is an input and an output'),
        ("double", 'output "y" comes out as float32 where the module gives float64'),
    ],
)
def test_outputs_that_core_ml_cannot_have(tmp_path: Path, which: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make(tmp_path, Odd, X, {"which": which}).run()


def test_an_output_without_the_sample_axis(tmp_path: Path) -> None:
    params = nets.params()
    (tmp_path / "artifact").mkdir()
    targets = nets.targets(tmp_path, Odd("summed"), X, {"which": "summed"})
    RUNTIME.convert(targets, tmp_path / "artifact", {**params, "export": BATCH})
    with pytest.raises(RecipeError, match=r'output "z" has shape \(6,\) for 5 samples'):
        RUNTIME.run(tmp_path / "artifact", X, params)


@pytest.mark.parametrize("which", ["constant", "view"])
def test_outputs_that_are_odd_but_possible(tmp_path: Path, which: str) -> None:
    assert all(error < 1e-6 for error in make(tmp_path, Odd, X, {"which": which}).errors().values())


# -- shapes


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"left": {"axes": [[1, 8], [2, 6], 4]}},
        {"left": {"axes": [[1, 8], [2, 6], [2, 8]]}, "right": {"axes": [[1, 8], [2, 8]]}},
        {"left": {"axes": [2, 3, 4]}, "right": {"axes": [2, 4]}},
    ],
)
def test_axes_of_several_inputs(tmp_path: Path, shapes: dict[str, Any]) -> None:
    made = make(tmp_path, Two, TWO, shapes=shapes)
    assert all(error < 1e-6 for error in made.errors().values())
    for name, shape in shapes.items():
        port = next(each for each in made.spec.description.input if each.name == name)
        ranges = port.type.multiArrayType.shapeRange.sizeRanges
        spans = [(axis, axis) if isinstance(axis, int) else tuple(axis) for axis in shape["axes"]]
        fixed = [(size, size) for size in port.type.multiArrayType.shape]
        assert ([(each.lowerBound, each.upperBound) for each in ranges] or fixed) == spans


def test_a_range_is_open_for_every_length_in_it(tmp_path: Path) -> None:
    made = make(tmp_path, Two, TWO, shapes={"left": {"axes": [[1, 8], [2, 6], 4]}})
    for length in (2, 6):
        left = numbers(3, length, 4)
        outputs = made.run({"left": left, "right": TWO["right"][:3]}).outputs
        np.testing.assert_allclose(outputs["left.sum"], left.sum(2), atol=1e-6)
    for length in (1, 7):
        with pytest.raises(RecipeError, match=r'input "left" has shape \(3, '):
            made.run({"left": numbers(3, length, 4), "right": TWO["right"][:3]})


def test_an_axis_that_has_one_length_in_the_data_is_open_all_the_same(tmp_path: Path) -> None:
    made = make(
        tmp_path, Two, {**TWO, "left": numbers(5, 1, 4)}, shapes={"left": {"axes": [[1, 8], [1, 6], 4]}}
    )
    left = numbers(5, 3, 4)
    np.testing.assert_allclose(made.run({**TWO, "left": left}).outputs["left.sum"], left.sum(2), atol=1e-6)


def test_enumerated_shapes_and_no_others(tmp_path: Path) -> None:
    shapes = {"left": {"enumerated": [[1, 3, 4], [1, 5, 4]]}}
    made = make(tmp_path, Two, TWO, export={}, shapes=shapes)
    assert all(error < 1e-6 for error in made.errors().values())
    kept = made.spec.description.input[0].type.multiArrayType.enumeratedShapes.shapes
    assert [[*shape.shape] for shape in kept] == shapes["left"]["enumerated"]
    with pytest.raises(RecipeError, match='input "left" has shape'):
        made.run({**TWO, "left": numbers(5, 4, 4)})


def test_enumerated_shapes_of_two_inputs(tmp_path: Path) -> None:
    shapes = {"left": {"enumerated": [[1, 3, 4], [4, 3, 4]]}, "right": {"enumerated": [[1, 4], [4, 4]]}}
    made = make(tmp_path, Two, TWO, deployment_target="iOS18", shapes=shapes)
    assert all(error < 1e-6 for error in made.errors().values())  # 5 samples in calls of 4 and 1


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"lft": {"axes": [1, 3, 4]}}, '"shapes" names "lft".* Did you mean "left"'),
        ({"left": {"axes": [1, 3]}}, 'input "left" have [2] axes, and its data have 3'),
        ({"left": {"enumerated": [[1, 3, 4], [1, 3]]}}, 'input "left" have [2, 3] axes'),
        (
            {"left": {"axes": [1, [4, 6], 4]}},
            'axis 1 of input "left" is to be (4, 6), and the evaluation data',
        ),
        (
            {"left": {"enumerated": [[1, 4, 4], [1, 5, 4]]}},
            'no shape of input "left" is that of the evaluation',
        ),
        (
            {"left": {"enumerated": [[1, 2, 4], [1, 5, 4]]}},
            'no shape of input "left" is that of the evaluation',
        ),
        ({"left": {"axes": [2, 3, 4]}, "right": {"axes": [3, 4]}}, "no number of samples in common"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(tmp_path: Path, shapes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=".*".join(re.escape(part) for part in words.split(".*"))):
        make(tmp_path, Two, TWO, export={}, shapes=shapes)


# -- classes


@pytest.fixture(scope="module")
def unclassified(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("unclassified"), Class, X, export={})


@pytest.mark.parametrize("labels", [["cat", "dog", "eel"], [7, 3, 5]])
def test_a_classifier_gives_what_the_plain_package_gives(
    tmp_path: Path, unclassified: Made, labels: list[Any]
) -> None:
    made = make(tmp_path, Class, X, classes={"output": "scores", "labels": labels})
    np.testing.assert_array_equal(made.run().outputs["scores"], unclassified.run().outputs["scores"])
    assert all(error < 1e-6 for error in made.errors().values())
    described = made.spec.description
    assert described.predictedFeatureName == "classLabel"
    kind = described.output[0].type.WhichOneof("Type")
    assert kind == ("int64Type" if isinstance(labels[0], int) else "stringType")
    assert [port.type.multiArrayType.shape[0] for port in described.input] == [1]


def test_a_classifier_in_float16(tmp_path: Path) -> None:
    classes = {"output": "scores", "labels": ["cat", "dog", "eel"]}
    made = make(tmp_path, Class, X, classes=classes, precision="float16", names={"x": "pixels"})
    assert all(0 < error < HALF for error in made.errors().values())


@pytest.mark.parametrize(
    ("kind", "classes", "options", "words"),
    [
        (Class, ["a", "b"], {}, 'output "scores" has shape [1, 3], and 2 classes are named'),
        (Scores, ["a", "b", "c"], {}, "a classifier has one output, and the module has scores, hidden"),
        (Class, ["a", "b", "c"], {"shapes": {"x": {"axes": [2, 6]}}}, "a classifier takes one sample a call"),
    ],
)
def test_classes_that_do_not_fit_are_refused(
    tmp_path: Path, kind: type, classes: list[str], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError, match=re.escape(words)):
        make(tmp_path, kind, X, classes={"output": "scores", "labels": classes}, **options)


def test_classes_of_an_output_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'"score", which the model does not have\. Did you mean "scores"'):
        make(tmp_path, Class, X, classes={"output": "score", "labels": ["a", "b", "c"]})


# -- metadata


def test_the_package_says_of_itself_what_the_manifest_says(tmp_path: Path) -> None:
    said = {
        "author": "A. Author",
        "license": "Apache-2.0",
        "version": "1.2",
        "description": "Counts, in a way.",
    }
    about = make(tmp_path, Scores, X, metadata=said).spec.description.metadata
    found = (about.author, about.license, about.versionString, about.shortDescription)
    assert found == tuple(said.values())


# -- compression

STEPS = [
    ("iOS16", [LINEAR], {"constexpr_affine_dequantize"}),
    ("iOS16", [{**LINEAR, "symmetric": False}], {"constexpr_affine_dequantize"}),
    ("iOS18", [LINEAR], {"constexpr_blockwise_shift_scale"}),
    ("iOS16", [PALETTE], {"constexpr_lut_to_dense"}),
    ("iOS16", [{**PALETTE, "bits": 8, "mode": "uniform"}], {"constexpr_lut_to_dense"}),
    ("iOS16", [PRUNE], {"constexpr_sparse_to_dense"}),
    ("iOS18", [PRUNE, PALETTE], {"constexpr_lut_to_sparse", "constexpr_sparse_to_dense"}),
    ("iOS18", [PRUNE, LINEAR], {"constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense"}),
    ("iOS18", [PALETTE, LINEAR], {"constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"}),
    (
        "iOS18",
        [PRUNE, PALETTE, LINEAR],
        {"constexpr_lut_to_sparse", "constexpr_sparse_to_dense", "constexpr_blockwise_shift_scale"},
    ),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("plain"), Weights, {"x": numbers(4, 64)})


def weight_bytes(made: Made) -> int:
    return sum(path.stat().st_size for path in made.folder.rglob("weight.bin"))


@pytest.mark.parametrize(("target", "steps", "kinds"), STEPS, ids=range(len(STEPS)))
def test_compressed_weights(
    tmp_path: Path, plain: Made, target: str, steps: list[dict[str, Any]], kinds: set[str]
) -> None:
    made = make(tmp_path, Weights, plain.inputs, deployment_target=target, compression=steps)
    assert {each.type for each in made.operations() if each.type.startswith("constexpr_")} == kinds
    assert weight_bytes(made) < 0.8 * weight_bytes(plain)
    (error,) = made.errors().values()
    assert 1e-5 < error < (0.2 if PRUNE in steps else 0.05)


@pytest.mark.parametrize("step", [LINEAR, PRUNE], ids=lambda step: step["kind"])
def test_a_step_that_finds_no_weight_is_refused(tmp_path: Path, step: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r'step 0 \("\w+"\) found no weight of 4097 numbers'):
        make(tmp_path, Weights, {"x": numbers(4, 64)}, compression=[{**step, "min_elements": 4097}])


def test_a_second_step_that_finds_no_weight_is_refused(tmp_path: Path) -> None:
    steps = [PRUNE, {**LINEAR, "min_elements": 4097}]
    with pytest.raises(RecipeError, match=r'step 1 \("linear"\) found no weight'):
        make(tmp_path, Weights, {"x": numbers(4, 64)}, compression=steps, deployment_target="iOS18")


# -- dtypes at the border


@pytest.mark.parametrize(("dtype", "precision"), [("int64", "float32"), ("int32", "float16")])
def test_outputs_of_every_kind_come_back_in_the_dtype_of_the_module(
    tmp_path: Path, dtype: str, precision: str
) -> None:
    made = make(tmp_path, Kinds, {**KINDS, "i": KINDS["i"].astype(dtype)}, precision=precision)
    outputs = made.run().outputs
    kinds = {name: str(array.dtype) for name, array in outputs.items()}
    assert kinds == {"best": "int64", "positive": "bool", "next": dtype, "scaled": "float32"}
    for name in ("best", "positive", "next"):
        np.testing.assert_array_equal(outputs[name], made.want[name])
    np.testing.assert_allclose(outputs["scaled"], made.want["scaled"], rtol=2e-3)


@pytest.mark.parametrize(
    ("name", "dtype"), [("x", "float64"), ("x", "float16"), ("i", "bool"), ("i", "int8"), ("i", "uint8")]
)
def test_an_input_dtype_that_core_ml_has_not(tmp_path: Path, name: str, dtype: str) -> None:
    with pytest.raises(
        RecipeError, match=f'input "{name}" is {dtype}, and Core ML takes float32, int64, int32'
    ):
        make(tmp_path, Kinds, {**KINDS, name: KINDS[name].astype(dtype)})


def test_a_number_beyond_32_bits_is_refused_when_it_is_run(tmp_path: Path) -> None:
    made = make(tmp_path, Kinds, KINDS)
    for value in (2**31, -(2**31) - 1):
        inputs = {**KINDS, "i": np.where(KINDS["i"] == 3, value, KINDS["i"])}
        with pytest.raises(RecipeError, match='input "i" has values that do not fit int32'):
            made.run(inputs)


# -- options that contradict each other, before anything is built


@pytest.mark.parametrize(
    ("options", "place", "words"),
    [
        ({"precison": "float16"}, "precison", 'Did you mean "precision"'),
        ({"precision": "float"}, "precision", 'Did you mean "float32"'),
        ({"deployment_target": "iOS14"}, "deployment_target", "is not one of iOS15"),
        ({"compute_units": "gpu"}, "compute_units", "is not one of all"),
        ({"accumulation": ["float64"]}, "accumulation", "is not one of float32"),
        ({"accumulation": []}, "accumulation", "is empty"),
        ({"precision": "mixed"}, "keep_float32", "nothing says which"),
        ({"precision": "float16", "keep_float32": ["softmax"]}, "keep_float32", 'precision is "float16"'),
        ({"keep_float32": ["softmax"]}, "keep_float32", 'precision is "float32"'),
        ({"metadata": {"autor": "me"}}, "metadata", 'Did you mean "author"'),
        ({"names": {"a": "x", "b": "x"}}, "names", '"x" is given to two'),
        ({"names": {"a": "x y"}}, "names/a", '"x y" is no name for Core ML'),
        ({"names": {"a": "1x"}}, "names/a", '"1x" is no name for Core ML'),
        ({"names": {"a": ""}}, "names/a", '"" is no name for Core ML'),
        ({"shapes": {"x": {"axes": [1], "enumerated": [[1]]}}}, "shapes/x", "has axes and enumerated"),
        ({"shapes": {"x": {}}}, "shapes/x", "has nothing"),
        ({"shapes": {"x": {"axes": [1, [4, 2]]}}}, "shapes/x", r"\[4, 2\] is empty"),
        (
            {"shapes": {"x": {"enumerated": [[1]]}, "y": {"enumerated": [[1]]}}},
            "shapes",
            "the shapes of x and y",
        ),
        ({"classes": {"output": "y", "labels": ["a", "b", "a"]}}, "classes/labels", '"a" is there twice'),
        ({"classes": {"output": "y", "labels": ["a", 1]}}, "classes/labels", "are texts and numbers"),
        ({"deployment_target": "iOS15", "compression": [LINEAR]}, "compression", "from iOS 16 on"),
        ({"deployment_target": "iOS17", "compression": [PRUNE, LINEAR]}, "compression", "from iOS 18 on"),
    ],
)
def test_options_are_refused_before_anything_is_built(
    options: dict[str, Any], place: str, words: str
) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        RUNTIME.conversion(options)
    assert caught.value.place == f"options/{place}"


# -- ways of running


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ({}, {"": None}),
        ({"precision": "float16"}, {"": "float16", "float16-sums": "float16-sums"}),
        (
            {"precision": "mixed", "keep_float32": ["softmax"]},
            {"": "float16", "float16-sums": "float16-sums"},
        ),
        ({"precision": "float16", "accumulation": ["float32"]}, {"": "float16"}),
        ({"precision": "float16", "accumulation": ["float16"]}, {"": "float16-sums"}),
        (
            {"precision": "float16", "accumulation": ["float16", "float32"]},
            {"": "float16", "float16-sums": "float16-sums"},
        ),
    ],
)
def test_a_run_for_every_way_of_adding_up(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], ways: dict[str, str | None]
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert {name: way.rounds for name, way in RUNTIME.runs(options).items()} == ways


def test_on_a_mac_there_is_one_way_and_core_mls_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    (way,) = RUNTIME.runs({"precision": "float16"}).values()
    assert (dict(way.options), way.rounds) == ({"precision": "float16"}, "float16-sums")
    assert dict(RUNTIME.runs({})[""].options) == {}


# -- batches


@pytest.mark.parametrize(
    ("export", "batch", "calls"),
    [
        (BATCH, None, [5]),
        (BATCH, 2, [2, 2, 1]),
        ({"dynamic": {"batch": [2, 4]}}, None, [4, 2]),
        ({"dynamic": {"batch": [3, 3]}}, None, [3, 3]),
        ({}, None, [1] * 5),
    ],
)
def test_samples_go_in_batches_that_the_package_takes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    export: dict[str, Any],
    batch: int | None,
    calls: list[int],
) -> None:
    from modelbuild.runtimes.coreml import check

    seen: list[int] = []

    class Spy(check.Evaluator):
        def __call__(self, inputs: Any, state: Any = None) -> Any:
            seen.append(len(inputs["x"]))
            return super().__call__(inputs, state)

    monkeypatch.setattr(check, "Evaluator", Spy)
    made = make(tmp_path, Scores, X, export=export, **({} if batch is None else {"batch": batch}))
    assert all(error < 1e-6 for error in made.errors().values())
    assert seen == calls


def test_a_batch_that_the_package_does_not_take(tmp_path: Path) -> None:
    made = make(tmp_path, Scores, X, export={"dynamic": {"batch": [1, 4]}}, batch=5)
    with pytest.raises(RecipeError, match="takes batches of 1 to 4, the platform says 5"):
        made.run()


@pytest.mark.parametrize("axes", [[[1, 8], [4, 6]], [[1, 8], [6, 9]]])
def test_a_range_that_the_module_cannot_compute_at_both_ends_is_refused(
    axes: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="forward failed on"):
        make(tmp_path, Scores, X, shapes={"x": {"axes": axes}})


def test_a_range_too_large_to_try_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="too large to be tried"):
        make(tmp_path, Scores, X, shapes={"x": {"axes": [[1, 8], [6, 1000000000]]}})


def test_a_module_is_kept_in_float32_by_its_path(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", Scores, X, precision="float16").errors()
    kept = make(tmp_path / "kept", Scores, X, precision="mixed", keep_float32=["first"]).errors()
    assert kept != whole
    with pytest.raises(
        RecipeError, match=r'no operation of that type, name or module\. Did you mean "first"'
    ):
        make(tmp_path / "none", Scores, X, precision="mixed", keep_float32=["frist"])
