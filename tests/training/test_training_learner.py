"""The student with what is learnt beside it: outputs, hidden states, teacher forcing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelbuild import network
from modelbuild.errors import RecipeError
from modelbuild.training.batch import Batch
from modelbuild.training.learner import Learner


class Net(nn.Module):
    """[n, 3], [n, 3] -> [n, 2]; hidden layers of every kind of result."""

    output_names = ("y",)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
        self.recurrent = nn.LSTM(2, 2, batch_first=True)
        self.idle = nn.Linear(1, 1)
        self.empty, self.named = Fixed(()), Fixed({"x": torch.zeros(1)})

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        found = self.body(a - b)
        self.recurrent(found[:, None])
        self.empty(), self.named()
        return found


class Fixed(nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self) -> Any:
        return self.value


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


BATCH = Batch({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, 3)}, {"teacher.d": torch.ones(2)})


def test_it_gives_what_the_student_gives(net: Net) -> None:
    given = Learner(net)(BATCH)
    assert list(given) == ["y"]
    assert torch.equal(given["y"], network.run(net, list(BATCH.inputs.values()))["y"])


def test_hidden_states_come_by_path_after_the_outputs(net: Net) -> None:
    given = Learner(net, ["body.2", "body.0", "body.2"])(BATCH)
    assert list(given) == ["y", "hidden.body.2", "hidden.body.0"]
    assert torch.equal(given["hidden.body.2"], given["y"])


def test_a_hidden_state_is_what_the_layer_gave_whatever_changes_it_afterwards(net: Net) -> None:
    hidden = Learner(net, ["body.0"])(BATCH)["hidden.body.0"]
    assert torch.equal(hidden, net.body[0](BATCH.inputs["a"] - BATCH.inputs["b"])) and hidden.min() < 0


def test_gradients_flow_from_a_hidden_state_into_the_student(net: Net) -> None:
    Learner(net, ["body.0"])(BATCH)["hidden.body.0"].sum().backward()
    assert net.body[0].weight.grad is not None and net.body[2].weight.grad is None


def test_of_several_results_the_first_is_the_hidden_state(net: Net) -> None:
    assert Learner(net, ["recurrent"])(BATCH)["hidden.recurrent"].shape == (2, 1, 2)


@pytest.mark.parametrize(("path", "kind"), [("empty", "tuple"), ("named", "dict")])
def test_a_layer_that_gives_no_tensor_is_refused(net: Net, path: str, kind: str) -> None:
    with pytest.raises(RecipeError, match=f'"{path}" gives {kind}, not a tensor. Name a layer'):
        Learner(net, [path])(BATCH)


def test_a_path_that_is_not_there_is_told_with_those_there_are(net: Net) -> None:
    with pytest.raises(RecipeError, match=r'Net: it has no layer "body.O". Did you mean "body.2"\?'):
        Learner(net, ["body.O"])
    with pytest.raises(
        RecipeError, match=r"Known: body, body.0, body.1, body.2, empty, idle, named, recurrent\."
    ):
        Learner(net, ["encoder.layers"])
    with pytest.raises(RecipeError, match='no layer ""'):
        Learner(net, [""])


def test_a_path_refused_leaves_no_hook_behind(net: Net) -> None:
    with pytest.raises(RecipeError):
        Learner(net, ["body.0", "head"])
    assert not net.body[0]._forward_hooks


def test_a_module_of_two_names_is_found_under_either(net: Net) -> None:
    net.again = net.body[2]
    given = Learner(net, ["again", "body.2"])(BATCH)
    assert torch.equal(given["hidden.again"], given["hidden.body.2"])


def test_a_layer_that_forward_does_not_come_by_is_refused(net: Net) -> None:
    with pytest.raises(RecipeError, match='forward does not come by the layer "idle"'):
        Learner(net, ["body.0", "idle"])(BATCH)


def test_no_state_of_an_earlier_step_is_taken_for_one_of_this(net: Net) -> None:
    learner = Learner(net, ["body.2"])
    learner(BATCH)
    net.body = nn.Sequential(nn.Linear(3, 2))  # its third layer is gone, and the hook with it
    with pytest.raises(RecipeError, match=r'does not come by the layer "body\.2"'):
        learner(BATCH)


def test_closed_it_shows_nothing_more(net: Net) -> None:
    learner = Learner(net, ["body.0"])
    learner.close()
    assert list(learner(BATCH)) == ["y"] and not net.body[0]._forward_hooks


def test_student_and_projections_are_trained_and_kept_together(net: Net) -> None:
    learner = Learner(net, projections=nn.Linear(4, 8))
    parts = {name.partition(".")[0] for name in learner.state_dict()}
    assert parts == {"student", "projections"}
    assert network.parameters(learner) == network.parameters(net) + 40


class Forced(nn.Module):
    """Adds `d`, 10 where it is not told, to the first input."""

    def forward(self, a: Tensor, b: Tensor, d: Tensor | None = None, **more: Tensor) -> Tensor:
        if d is not None and len(d) != len(a):
            raise ValueError("lengths")
        return a[:, 0] + (10 if d is None else d) + sum(more.values())


def test_what_the_teacher_said_is_given_while_training_and_only_then() -> None:
    learner = Learner(Forced(), forced={"d": "d"})
    assert learner.train()(BATCH)["output"].tolist() == [1, 4]
    assert learner.eval()(BATCH)["output"].tolist() == [10, 13]
    assert Learner(Forced(), forced={"other": "d"})(BATCH)["output"].tolist() == [11, 14]


class Strict(nn.Module):
    def forward(self, a: Tensor, b: Tensor, durations: Tensor) -> Tensor:
        return a


def test_a_keyword_that_forward_does_not_take_is_refused(net: Net) -> None:
    with pytest.raises(
        RecipeError, match=r'Net: teacher_forcing names "d", which forward does not take\. Known: a, b'
    ):
        Learner(net, forced={"d": "d"})


def test_a_keyword_that_forward_cannot_do_without_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r'cannot do without it. Let forward take "durations: Tensor \| None'
    ):
        Learner(Strict(), forced={"durations": "d"})


def test_a_batch_without_what_is_forced_is_refused() -> None:
    with pytest.raises(RecipeError, match=r'no target "teacher.e". Did you mean "teacher.d"'):
        Learner(Forced(), forced={"d": "e"})(BATCH)


def test_a_forward_that_fails_is_told_with_all_it_was_given() -> None:
    batch = Batch(BATCH.inputs, {"teacher.d": torch.ones(3)})
    wanted = r"failed on \(a float32\[2, 3\], b float32\[2, 3\], d float32\[3\]\): ValueError: lengths"
    with pytest.raises(RecipeError, match=wanted):
        Learner(Forced(), forced={"d": "d"})(batch)


class Refusing(nn.Module):
    def forward(self, a: Tensor, b: Tensor, d: Tensor | None = None) -> Tensor:
        raise RecipeError("here", "words of its own")


def test_an_error_that_speaks_for_itself_passes_as_it_is() -> None:
    with pytest.raises(RecipeError, match=r"^here: words of its own$"):
        Learner(Refusing(), forced={"d": "d"})(BATCH)
