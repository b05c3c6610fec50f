"""A call: what it takes and gives, what can be watched, several functions, classifiers."""

from __future__ import annotations

from pathlib import Path

import mil
import numpy as np
import pytest
import torch
from mil import mb

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.evaluator.ops.classification import classify

COVERS = {"classify": ("float32",)}

F = np.float32
X, K = np.arange(6, dtype=F).reshape(2, 3), np.array([3], np.int32)


@pytest.fixture
def evaluator(tmp_path):
    return Evaluator(
        mil.package(
            lambda x, k: (mb.exp(x=x, name="powers"), mb.add(x=k, y=k, name="twice")),
            {"x": X, "k": K},
            tmp_path,
        )
    )


def refused(call, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        call()
    assert caught.value.place == "test.mlpackage"


def test_outputs_come_by_name_with_the_types_that_the_program_states(evaluator) -> None:
    found = evaluator({"x": X, "k": K})
    assert {name: (each.dtype, each.shape) for name, each in found.items()} == {
        "powers": (np.dtype("float32"), (2, 3)),
        "twice": (np.dtype("int32"), (1,)),
    }
    np.testing.assert_allclose(found["powers"], np.exp(X), rtol=1e-6)


# -- inputs


def test_a_missing_input_is_named(evaluator) -> None:
    refused(lambda: evaluator({"x": X}), 'input "k" is missing; given: x. Names are matched exactly')
    refused(lambda: evaluator({}), 'input "x" is missing; given: nothing')


def test_an_input_too_many_is_named(evaluator) -> None:
    refused(lambda: evaluator({"x": X, "k": K, "y": X}), 'the model has no input "y"')
    refused(lambda: evaluator({"X": X, "k": K}), 'the model has no input "X". Known: k, x')


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            X.astype(np.float64),
            r'input "x" is float64\[2, 3\], the program takes float32\[2, 3\]. Nothing is cast',
        ),
        (X.astype(np.float16), r"is float16\[2, 3\]"),
        (X.astype(np.int32), r"is int32\[2, 3\]"),
        (X.astype(">f4"), r"is >f4\[2, 3\]|is float32\[2, 3\]"),
        (X.T, r"is float32\[3, 2\]"),
        (X[None], r"is float32\[1, 2, 3\]"),
        (X[:0], r"is float32\[0, 3\]"),
        (X.ravel(), r"is float32\[6\]"),
        (X.tolist(), r"is float64\[2, 3\]"),
        (None, r"is object\[\]"),
        (np.array([["a"] * 3] * 2), r"is <U1\[2, 3\]"),
        (X.astype(object), r"is object\[2, 3\]"),
    ],
    ids=range(12),
)
def test_an_input_of_another_type_or_shape_is_refused(x, message, evaluator) -> None:
    refused(lambda: evaluator({"x": x, "k": K}), message)


def test_inputs_may_lie_in_memory_as_they_like(evaluator) -> None:
    for x in (
        np.asfortranarray(X),
        np.ascontiguousarray(X.T).T,
        X[:, ::-1][:, ::-1],
        np.repeat(X, 2, 1)[:, ::2],
    ):
        np.testing.assert_allclose(evaluator({"x": x, "k": K})["powers"], np.exp(X), rtol=1e-6)
    frozen = X.copy()
    frozen.flags.writeable = False
    evaluator({"x": frozen, "k": K})


def test_an_input_of_no_axes(tmp_path) -> None:
    package = mil.package(lambda x: mb.exp(x=x), {"x": X[0]}, tmp_path)
    for named in (package.spec.mlProgram.functions["main"].inputs[0], exp_of(package).outputs[0]):
        named.type.tensorType.rank = 0
        named.type.tensorType.ClearField("dimensions")
    (found,) = Evaluator(package)({"x": np.array(0, F)}).values()
    assert found.shape == () and found == 1


def exp_of(package):
    (function,) = package.spec.mlProgram.functions.values()
    return next(
        each for each in function.block_specializations[function.opset].operations if each.type == "exp"
    )


def test_a_call_leaves_its_inputs_and_the_next_call_alone(tmp_path) -> None:
    package = mil.package(lambda x: (mb.identity(x=x), mb.fill(shape=[2], value=F(7))), {"x": X}, tmp_path)
    evaluator = Evaluator(package)
    x = X.copy()
    for _ in range(2):
        same, constant = evaluator({"x": x}).values()
        np.testing.assert_array_equal(same, X)
        np.testing.assert_array_equal(constant, [7, 7])
        same[:], constant[:] = -1, -1
    np.testing.assert_array_equal(x, X)


def test_a_constant_that_is_written_into_is_whole_again_in_the_next_call(tmp_path) -> None:
    def build(k):
        return mb.scatter(
            data=mb.fill(shape=[4], value=F(1)), indices=k, updates=np.array([9], F), mode="update"
        )

    evaluator = Evaluator(mil.package(build, {"k": K}, tmp_path))
    for place in (3, 0):
        (found,) = evaluator({"k": np.array([place], np.int32)}).values()
        np.testing.assert_array_equal(found, np.where(np.arange(4) == place, F(9), F(1)))


# -- watching


def test_values_inside_are_watched(tmp_path) -> None:
    def build(x):
        inner = mb.mul(x=mb.add(x=x, y=F(1), name="first"), y=F(2), name="second")
        return mb.exp(x=inner, name="last")

    evaluator = Evaluator(mil.package(build, {"x": X}, tmp_path), watch=["first", "second", "x", "last"])
    found = evaluator({"x": X})
    assert set(evaluator.watched) == {"first", "second", "x", "last"}
    for name, want in (("first", X + 1), ("second", (X + 1) * 2), ("x", X), ("last", found["last"])):
        np.testing.assert_array_equal(evaluator.watched[name], want)


def test_a_constant_may_be_watched(tmp_path) -> None:
    package = mil.package(lambda x: mb.add(x=x, y=mb.const(val=F(4), name="four")), {"x": X}, tmp_path)
    evaluator = Evaluator(package, watch=["four"])
    evaluator({"x": X})
    assert evaluator.watched["four"] == 4


def test_a_branch_that_was_not_taken_leaves_nothing_to_watch(tmp_path) -> None:
    def build(x, k):
        return mb.cond(
            pred=mb.greater(x=mb.squeeze(x=k), y=np.int32(0)),
            _true_fn=lambda: mb.add(x=x, y=F(1), name="yes"),
            _false_fn=lambda: mb.sub(x=x, y=F(1), name="no"),
        )

    evaluator = Evaluator(mil.package(build, {"x": X, "k": K}, tmp_path), watch=["yes", "no"])
    evaluator({"x": X, "k": K})
    np.testing.assert_array_equal(evaluator.watched["yes"], X + 1)
    assert evaluator.watched["no"] is None


def test_what_is_not_there_cannot_be_watched(tmp_path) -> None:
    package = mil.package(lambda x: mb.exp(x=x, name="result"), {"x": X}, tmp_path)
    refused(lambda: Evaluator(package, watch=["resul"]), 'no operation gives "resul". Did you mean "result"')


# -- functions


def functions(folder: Path) -> Package:
    from coremltools.converters.mil.mil import Program

    program = Program()
    spec = [mb.TensorSpec((2, 3))]
    for name, body in (("main", lambda x: mb.add(x=x, y=F(1))), ("double", lambda x: mb.mul(x=x, y=F(2)))):
        program.add_function(name, mb.function(input_specs=spec, opset_version=mil.ct.target.iOS18)(body))
    (folder / "weights").mkdir()
    made = mil.Model_pb2.Model(specificationVersion=9)
    made.mlProgram.CopyFrom(mil.MILProtoExporter(program, str(folder / "weights"), 9).export())
    return Package(folder / "test.mlpackage", made, folder)


def test_a_function_is_chosen_by_name_or_by_the_file(tmp_path) -> None:
    package = functions(tmp_path)

    def result(**more):
        (found,) = Evaluator(package, **more)({"x": X}).values()
        return found

    np.testing.assert_array_equal(result(), X + 1)
    np.testing.assert_array_equal(result(function="double"), X * 2)
    package.spec.description.defaultFunctionName = "double"
    np.testing.assert_array_equal(result(), X * 2)
    np.testing.assert_array_equal(result(function="main"), X + 1)
    refused(lambda: result(function="doubl"), 'has no function "doubl". Did you mean "double"')


def test_a_function_of_an_op_set_that_is_not_there_is_refused(tmp_path) -> None:
    package = functions(tmp_path)
    package.spec.mlProgram.functions["main"].opset = "CoreML5"
    refused(lambda: Evaluator(package), 'function "main" is of opset "CoreML5" and has no block for it')
    package = mil.package(lambda x: mb.exp(x=x), {"x": X}, tmp_path)
    function = package.spec.mlProgram.functions["main"]
    function.block_specializations["Linear"].CopyFrom(function.block_specializations[function.opset])
    function.opset = "Linear"
    refused(lambda: Evaluator(package), 'function "main" is of an unknown opset "Linear"')


def test_a_model_of_another_kind_has_no_functions(tmp_path) -> None:
    package = Package(tmp_path / "test.mlpackage", mil.Model_pb2.Model(specificationVersion=4), tmp_path)
    refused(lambda: Evaluator(package), "holds a model of no kind, not an ML Program")


# -- classifiers


def classifier(labels, folder):
    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.softmax(x, -1)

    with mil.warnings.catch_warnings():
        mil.warnings.simplefilter("ignore")
        model = mil.ct.convert(
            torch.jit.trace(Net(), torch.zeros(1, 3)),
            inputs=[mil.ct.TensorType("x", shape=(1, 3))],
            classifier_config=mil.ct.ClassifierConfig(labels),
            minimum_deployment_target=mil.ct.target.iOS16,
            compute_precision=mil.ct.precision.FLOAT32,
            skip_model_load=True,
        )
    return Evaluator(Package(folder / "test.mlpackage", model.get_spec(), folder))


@pytest.mark.parametrize("labels", [["cat", "dog", "owl"], [7, -2, 2**40]])
def test_a_classifier_gives_a_class_and_the_probability_of_each(labels, tmp_path) -> None:
    evaluator = classifier(labels, tmp_path)
    for best in range(3):
        x = np.array([[0.5, 0.25, 0.125]], F)
        x[0, best] = 3
        label, table = evaluator({"x": x}).values()
        odds = np.exp(x[0]) / np.exp(x[0]).sum()
        assert label == labels[best] and list(table) == labels
        assert isinstance(label, str) or (label.dtype == np.int64 and label.shape == ())
        np.testing.assert_allclose(list(table.values()), odds, rtol=1e-6)


def test_of_equal_probabilities_the_first_class_is_given() -> None:
    assert classify(torch.tensor([[0.25, 0.375, 0.375]]), ["a", "b", "c"])[0] == "b"


def test_as_many_classes_as_probabilities() -> None:
    for labels in (["a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match=f"2 probabilities for {len(labels)} classes"):
            classify(torch.ones(2), labels)
    with pytest.raises(ValueError, match="there is no class to choose from"):
        classify(torch.ones(0), [])
