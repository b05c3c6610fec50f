"""Programs that cannot be computed as they stand: every error names the operation, its place and what is wrong."""

from __future__ import annotations

import random
from pathlib import Path

import mil
import numpy as np
import pytest
import torch
from mil import mb

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.kernels import KERNELS, Kernel, Tensors, kernel

F = np.float32
X = np.ones((2, 3), F)
N = np.array([1], np.int32)


@pytest.fixture
def made(tmp_path):
    """A package with one of each: a constant, a branch, a loop, an operation of many values."""

    def build(x, n):
        y = mb.add(x=x, y=np.arange(3, dtype=F), name="sum")
        chosen = mb.cond(
            pred=mb.less(x=mb.squeeze(x=n), y=np.int32(5)),
            _true_fn=lambda: mb.exp(x=y),
            _false_fn=lambda: mb.tanh(x=y),
            name="choice",
        )
        _, grown = mb.while_loop(
            _cond=lambda i, t: mb.less(x=i, y=n),
            _body=lambda i, t: (mb.add(x=i, y=N), mb.add(x=t, y=x)),
            loop_vars=(np.array([0], np.int32), chosen),
            name="rounds",
        )
        return mb.concat(values=[grown, x], axis=0, name="joined")

    return mil.package(build, {"x": X, "n": N}, tmp_path)


def block_of(package):
    (function,) = package.spec.mlProgram.functions.values()
    return function.block_specializations[function.opset]


def operation(package, type_: str):
    return next(each for each in block_of(package).operations if each.type == type_)


def refused(package, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        Evaluator(package)({"x": X, "n": N})
    assert caught.value.place.startswith("test.mlpackage") and "\n" not in str(caught.value)


def test_the_program_is_sound_to_begin_with(made) -> None:
    (found,) = Evaluator(made)({"x": X, "n": N}).values()
    np.testing.assert_allclose(found, np.concatenate([np.exp(X + np.arange(3)) + X, X]), rtol=1e-6)


# -- operations and arguments


def test_unknown_operations_are_all_named(made) -> None:
    for each, type_ in (("add", "blur"), ("concat", "sharpen")):
        operation(made, each).type = type_
    refused(
        made,
        'function "main" has operations that cannot be evaluated here: blur "sum", sharpen "joined". Check',
    )


def test_many_unknown_operations_are_counted(made) -> None:
    block = block_of(made)
    for number in range(9):
        block.operations.add(type="blur").outputs.add(name=f"b{number}").type.CopyFrom(
            operation(made, "add").outputs[0].type
        )
    refused(made, 'blur "b0", blur "b1", blur "b2", blur "b3", blur "b4" and 4 more')


def test_an_unknown_operation_inside_a_block_is_found(made) -> None:
    operation(made, "while_loop").blocks[1].operations[-1].type = "blur"
    refused(made, "cannot be evaluated here: blur")


@pytest.mark.parametrize(
    "name", ["random_bernoulli", "random_categorical", "random_normal", "random_uniform"]
)
def test_random_numbers_are_refused_with_what_to_do_instead(name, made) -> None:
    operation(made, "add").type = name
    refused(
        made,
        f'function "main" draws random numbers, which differ from run to run: {name} "sum". '
        "Draw the numbers outside the model and make them an input of it",
    )


def test_random_numbers_are_refused_even_with_a_seed() -> None:
    def build(x):
        return mb.random_normal(shape=mb.shape(x=x), mean=F(0), stddev=F(1), seed=np.int32(4))

    with pytest.raises(RecipeError, match="draws random numbers"):
        mil.evaluate(build, {"x": X})


def test_an_unknown_argument_is_refused(made) -> None:
    add = operation(made, "add")
    add.inputs["tilt"].CopyFrom(add.inputs["y"])
    refused(made, 'add "sum": has an argument "tilt", which is not supported here')


def test_a_missing_argument_is_refused(made) -> None:
    del operation(made, "add").inputs["y"]
    refused(made, 'add "sum": has no argument "y". The file is damaged')


def test_an_argument_without_a_value_is_missing(made) -> None:
    operation(made, "add").inputs["y"].ClearField("arguments")
    refused(made, 'add "sum": has no argument "y"')


def test_several_values_for_one_argument_are_refused(made) -> None:
    y = operation(made, "add").inputs["y"]
    y.arguments.add().CopyFrom(y.arguments[0])
    refused(made, 'add "sum": has 2 values for the argument "y", which takes one')
    for each in y.arguments:
        each.name = "x"
    refused(made, 'add "sum": has 2 values for the argument "y", which takes one')


def test_a_name_that_nothing_gives_is_refused(made) -> None:
    operation(made, "add").inputs["x"].arguments[0].name = "ghost"
    refused(made, 'add "sum": uses "ghost", which nothing before it gives. The file is damaged')


def test_a_name_that_only_a_later_operation_gives_is_refused(made) -> None:
    operation(made, "add").inputs["x"].arguments[0].name = "joined"
    refused(made, 'add "sum": uses "joined", which nothing before it gives')


def test_a_name_from_inside_a_block_is_not_seen_outside(made) -> None:
    inner = operation(made, "while_loop").blocks[1].operations[-1].outputs[0].name
    operation(made, "concat").inputs["values"].arguments[0].name = inner
    refused(made, f'concat "joined": uses "{inner}", which nothing before it gives')


def test_an_output_that_nothing_gives_is_refused(made) -> None:
    block_of(made).outputs[0] = "ghost"
    refused(made, 'the outputs: uses "ghost", which nothing before it gives')


def test_an_argument_in_a_form_that_does_not_fit_is_refused(made) -> None:
    concat = operation(made, "concat")
    concat.inputs["axis"].arguments[0].CopyFrom(operation(made, "add").inputs["y"].arguments[0])
    refused(made, 'concat "joined": cannot be computed')


# -- constants, branches and loops that are not whole


def test_a_constant_without_a_value_is_refused(made) -> None:
    del operation(made, "const").attributes["val"]
    refused(made, "const .*: has no value. The file is damaged")


def test_a_constant_of_no_result_is_refused(made) -> None:
    operation(made, "const").ClearField("outputs")
    refused(made, "const .*: gives 0 results instead of one")


def _no_condition(cond) -> None:
    del cond.inputs["pred"]


def _two_conditions(cond) -> None:
    cond.inputs["pred"].arguments.add().CopyFrom(cond.inputs["pred"].arguments[0])


def _one_block(each) -> None:
    del each.blocks[1]


def _three_blocks(each) -> None:
    each.blocks.add().CopyFrom(each.blocks[0])


def _block_of_no_result(each) -> None:
    each.blocks[1].ClearField("outputs")


def _block_of_inputs(cond) -> None:
    cond.blocks[0].inputs.add().CopyFrom(cond.outputs[0])


def _no_variables(loop) -> None:
    del loop.inputs["loop_vars"]


def _a_result_too_few(loop) -> None:
    del loop.outputs[1]


def _a_test_of_two_results(loop) -> None:
    loop.blocks[0].outputs.append(loop.blocks[0].outputs[0])


def _a_test_of_fewer_inputs(loop) -> None:
    del loop.blocks[0].inputs[1]


def _a_body_of_fewer_inputs(loop) -> None:
    del loop.blocks[1].inputs[1]


@pytest.mark.parametrize(
    ("type_", "damage", "message"),
    [
        ("cond", _no_condition, 'cond "choice": has no argument "pred"'),
        ("cond", _two_conditions, 'cond "choice": has no argument "pred"'),
        ("cond", _one_block, 'cond "choice": has 1 blocks instead of two'),
        ("cond", _three_blocks, 'cond "choice": has 3 blocks instead of two'),
        ("cond", _block_of_no_result, 'cond "choice": gives 1 results, and a block of it 0'),
        ("cond", _block_of_inputs, 'cond "choice": gives 1 results, and a block of it 1'),
        ("while_loop", _no_variables, 'while_loop "rounds": has 0 loop variables and 2 results'),
        ("while_loop", _a_result_too_few, 'while_loop "rounds": has 2 loop variables and 1 results'),
        ("while_loop", _one_block, 'while_loop "rounds": has 1 blocks instead of two'),
        ("while_loop", _three_blocks, 'while_loop "rounds": has 3 blocks instead of two'),
        ("while_loop", _a_test_of_two_results, "has a condition of 2 inputs and 2 results"),
        ("while_loop", _a_test_of_fewer_inputs, "has a condition of 1 inputs and 1 results"),
        ("while_loop", _a_body_of_fewer_inputs, "has a body of 1 inputs and 2 results"),
        ("while_loop", _block_of_no_result, "has a body of 2 inputs and 0 results"),
    ],
)
def test_branches_and_loops_that_are_not_whole_are_refused(type_, damage, message, made) -> None:
    damage(operation(made, type_))
    refused(made, message)


def test_blocks_where_none_belong_are_refused(made) -> None:
    operation(made, "add").blocks.add().CopyFrom(operation(made, "cond").blocks[0])
    refused(made, 'add "sum": has blocks, which only cond and while_loop have')


def test_a_type_that_is_not_known_is_refused(made) -> None:
    operation(made, "add").outputs[0].type.tensorType.dataType = mil.ct.proto.MIL_pb2.DataType.Value(
        "FLOAT8E4M3FN"
    )
    refused(made, '"sum": is of the type float8e4m3fn, which is not supported here')
    made.spec.mlProgram.functions["main"].inputs[0].type.tensorType.dataType = 9999
    refused(made, "holds numbers of the unknown type 9999")


# -- results are held to the types that the program states


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            torch.zeros(2, 3, dtype=torch.float16),
            r'"sum" comes out as float16\[2, 3\].*states float32\[2, 3\]',
        ),
        (torch.zeros(3, 2), r'"sum" comes out as float32\[3, 2\], and the program states float32\[2, 3\]'),
        (torch.zeros(6), r'"sum" comes out as float32\[6\]'),
        (torch.zeros(1, 2, 3), r'"sum" comes out as float32\[1, 2, 3\]'),
        (torch.zeros(2, 3, 1), r'"sum" comes out as float32\[2, 3, 1\]'),
        (None, '"sum" comes out as NoneType, and the program states numbers'),
        ("text", '"sum" comes out as str'),
        ((torch.zeros(2, 3),), '"sum" comes out as tuple'),
    ],
    ids=range(8),
)
def test_a_result_of_another_type_than_stated_names_operation_and_model(
    result, message, made, monkeypatch
) -> None:
    forms = {"x": torch.Tensor, "y": torch.Tensor}
    monkeypatch.setitem(KERNELS, "add", Kernel(lambda x, y: result, forms, frozenset("xy")))
    refused(made, f'test.mlpackage: add "sum": cannot be computed: .*{message}')


def test_a_known_result_of_another_type_is_found_when_the_program_is_made_ready(made, monkeypatch) -> None:
    operation(made, "add").inputs["x"].arguments[0].CopyFrom(operation(made, "add").inputs["y"].arguments[0])
    with pytest.raises(
        RecipeError, match=r'add "sum": .*"sum" comes out as float32\[3\], and .* float32\[2, 3\]'
    ):
        Evaluator(made)


def test_another_number_of_results_than_stated_is_refused(made) -> None:
    add = operation(made, "add")
    add.outputs.add().CopyFrom(add.outputs[0])
    add.outputs[1].name = "more"
    refused(made, 'add "sum": cannot be computed')


def test_an_open_axis_takes_any_length(tmp_path) -> None:
    package = mil.package(lambda x: mb.exp(x=x), {"x": X}, tmp_path, open_axes={"x": (0,)})
    for rows in (0, 1, 5):
        (found,) = Evaluator(package)({"x": np.ones((rows, 3), F)}).values()
        assert found.shape == (rows, 3)


# -- what a kernel is given


def test_arguments_come_in_the_form_that_a_kernel_asks_for(tmp_path, monkeypatch) -> None:
    seen: list[object] = []

    def probe(values: Tensors, axis: int, interleave: bool = False) -> torch.Tensor:
        seen[:] = [values, axis, interleave]
        return torch.cat(values, axis)

    monkeypatch.setitem(KERNELS, "concat", KERNELS["concat"])
    kernel("concat")(probe)
    Evaluator(mil.package(lambda x: mb.concat(values=[x, x], axis=1), {"x": X}, Path(tmp_path)))({"x": X})
    assert len(seen[0]) == 2 and seen[1:] == [1, False] and type(seen[1]) is int


def test_whatever_is_missing_from_a_program_there_is_no_other_kind_of_error(made) -> None:
    """Parts of the program are taken out or doubled at random: it is computed or refused, and nothing else."""
    whole, chance, refusals = made.spec.SerializeToString(), random.Random(1), 0
    for _ in range(150):
        made.spec.ParseFromString(whole)
        for _ in range(chance.randint(1, 2)):
            _damage(made.spec.mlProgram, chance)
        try:
            Evaluator(made)({"x": X, "n": N})
        except RecipeError:
            refusals += 1
    assert refusals > 50


def _damage(message, chance) -> None:
    """Go down from `message` some way at random, then take out or double what is there."""
    fields = message.ListFields()
    if not fields:
        return
    field, content = chance.choice(fields)
    if hasattr(content, "ListFields") and chance.random() < 0.9:
        _damage(content, chance)
    elif hasattr(content, "keys") and chance.random() < 0.9:
        entry = content[chance.choice(sorted(content))]
        if hasattr(entry, "ListFields"):
            _damage(entry, chance)
    elif hasattr(content, "append"):
        entry = chance.choice(content)
        if hasattr(entry, "ListFields") and chance.random() < 0.8:
            _damage(entry, chance)
        elif chance.random() < 0.5:
            content.append(entry)
        else:
            del content[chance.randrange(len(content))]
    else:
        message.ClearField(field.name)
