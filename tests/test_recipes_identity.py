"""From a value of the ONNX file back to its module, its operation and its node in PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nets
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from modelbuild import dataset
from modelbuild.errors import RecipeError
from modelbuild.recipes import export, identity, opset
from modelbuild.recipes.identity import Name, Names

torch.set_num_threads(1)


class Tricky(nn.Module):
    """Inputs and outputs that go by names of nodes, results out of tuples, a clone, and two calls of one layer."""

    output_names = ("y", "relu_1", "most", "copy")

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, left: Tensor, relu_1: Tensor) -> tuple[Tensor, ...]:
        a = torch.relu(left)
        b = torch.relu(a + relu_1)
        _, tail = torch.split(b, [1, 2], 1)
        return self.layer(self.layer(a) * b), tail, torch.max(b, 1).values, a.clone()


def made(module: nn.Module, inputs: Any, version: int = 18) -> export.Exported:
    settings = export.Settings(version, 1, 64)
    return export.exported(module.eval(), dataset.DataSet(inputs, {}), settings, "here")


@pytest.fixture(scope="module")
def convnet() -> export.Exported:
    return made(nets.NETS["convnet"].module(width=2), nets.image_inputs())


@pytest.fixture(scope="module")
def encoder() -> export.Exported:
    return made(nets.NETS["encoder"].module(layers=1), nets.encoder_inputs())


@pytest.fixture(scope="module")
def tricky() -> export.Exported:
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).numpy()
    return made(Tricky(), {"relu": rows, "clone": rows})


def test_a_value_is_led_back_to_module_operation_and_node(convnet: export.Exported) -> None:
    values = convnet.names.values
    assert values["image"] == Name("", "", "image")
    normed = Name("features.2.1", "aten._native_batch_norm_legit_no_training", "getitem_3")
    assert values["getitem_3"] == normed  # the convolution in front of it is part of it now
    assert values["relu_1"] == Name("features.2.2", "aten.relu", "relu_1")
    assert values["logits"] == Name("head", "aten.linear", "linear")
    assert convnet.names.origins["getitem_3"] == "features.2.1|aten.batch_norm.default|0/1"


def test_every_value_of_the_outermost_graph_is_there_and_no_weight(encoder: export.Exported) -> None:
    graph = encoder.model.graph
    given = {value for node in graph.node for value in node.output} | {port.name for port in graph.input}
    assert encoder.names.values.keys() == given
    assert not encoder.names.values.keys() & {each.name for each in graph.initializer}


def test_what_is_inside_of_an_operation_has_its_module_and_no_node(encoder: export.Exported) -> None:
    inside = {value: name for value, name in encoder.names.values.items() if value.startswith("val_")}
    assert inside and not any(name.fx for name in inside.values())
    attention = Name("layers.0.self_attn", "aten.scaled_dot_product_attention", "")
    assert attention in inside.values() and Name("layers.0.linear1", "aten.linear", "") in inside.values()
    assert not inside.keys() & encoder.names.origins.keys()


def test_inputs_and_outputs_are_known_by_their_place_and_not_by_their_name(tricky: export.Exported) -> None:
    values = tricky.names.values
    assert (values["relu"].fx, values["clone"].fx) == ("left", "relu_1")
    assert values["y"].fx == "linear_1" and values["y"].module == "layer"
    assert values["relu_1"].op == "aten.split_with_sizes" and values["relu_1"].fx.startswith("getitem")
    assert values["most"].op == "aten.max" and values["copy"].op == "aten.clone"
    split = next(node for node in tricky.model.graph.node if node.op_type == "Split")
    # The exporter says nothing of the other half; it belongs where its twin does.
    assert values[split.output[0]] == Name("", "aten.split_with_sizes", "")


def test_origins_are_those_of_calls_one_of_several_results(tricky: export.Exported) -> None:
    origins = tricky.names.origins
    assert origins["y"] == "layer|aten.linear.default|1/2"
    assert origins["most"] == "|aten.max.dim|0/1#0/2"
    assert len(set(origins.values())) == len(origins)


@pytest.mark.parametrize("version", [17, 20])
def test_names_survive_another_operator_set(convnet: export.Exported, version: int) -> None:
    again = made(nets.NETS["convnet"].module(width=2), nets.image_inputs(), version)
    assert opset.version(again.model) == version
    assert again.names == convnet.names


def test_a_value_that_a_conversion_puts_in_belongs_to_what_reads_it() -> None:
    nodes = [helper.make_node("Split", ["x"], ["a", "b"], axis=0), helper.make_node("Add", ["a", "b"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]))
    before = Names(
        {"x": Name("", "", "x"), "y": Name("sum", "aten.add", "add"), "gone": Name()}, {"gone": "o", "y": "p"}
    )
    after = before.of(model)
    new = Name("sum", "aten.add")
    assert after.values == {"x": Name("", "", "x"), "a": new, "b": new, "y": before.values["y"]}
    assert after.origins == {"y": "p"}


def test_a_given_onnx_file_has_its_values_and_nothing_from_pytorch(convnet: export.Exported) -> None:
    names = identity.unknown(convnet.model)
    assert set(names.values.values()) == {Name("", "", "")} and names.origins == {}
    assert names.values.keys() == convnet.names.values.keys()


def test_the_file_is_what_was_written(tmp_path: Path, convnet: export.Exported) -> None:
    export.write(tmp_path, convnet.model, convnet.names)
    assert identity.read(tmp_path) == convnet.names
    told = json.loads((tmp_path / "names.json").read_text())
    assert told["values"]["relu"] == {"module": "features.0.2", "op": "aten.relu", "fx": "relu"}
    assert list(told["values"]) == sorted(told["values"])
    assert not any(node.metadata_props for node in onnx.load(tmp_path / "model.onnx").graph.node)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"values": {"a": {"modul": ""}}, "origins": {}}'])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(RecipeError, match=r"cannot read names\.json"):
        identity.read(tmp_path)
