"""What is minimised: terms read from a manifest, on which output and which samples, and what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modelbuild.errors import RecipeError
from modelbuild.training import losses, objective
from modelbuild.training.batch import Batch
from modelbuild.training.objective import Term

torch.set_num_threads(1)
HERE = "training.test_training_objective" if __name__.startswith("training.") else __name__
CLASSES, REALS = np.array([0, 2, 1]), np.array([[0.5], [1.5], [2.5]], np.float32)
HELD: set[torch.dtype] = set()
SEEN: list[tuple[dict[str, list[int]], ...]] = []


def column(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([[value] for value in values], dtype=dtype)


def value_of(term: Term, outputs: Mapping[str, Tensor], **targets: Tensor) -> float:
    batch = Batch({}, {name.replace("_", "."): each for name, each in targets.items()})
    return term.value(outputs, batch).item()


# --- callables that a manifest could name


def distance(
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    scale: float = 1.0,
) -> Tensor:
    SEEN.append(
        tuple({name: list(each.shape) for name, each in of.items()} for of in (outputs, targets, inputs))
    )
    (target,) = targets.values()
    HELD.update((target.dtype, outputs["a"].dtype))
    return scale * (outputs["a"] - target).abs().mean() + 0 * sum(each.sum() for each in inputs.values())


def rows(outputs: Mapping[str, Tensor], *_: Any) -> Tensor:
    return outputs["a"].abs()


def whole(outputs: Mapping[str, Tensor], *_: Any) -> Tensor:
    return outputs["a"].argmax()


def plain_number(outputs: Mapping[str, Tensor], *_: Any) -> float:
    return outputs["a"].sum().item()


def detached(outputs: Mapping[str, Tensor], *_: Any) -> Tensor:
    return outputs["a"].detach().mean()


def broken(outputs: Mapping[str, Tensor], *_: Any) -> Tensor:
    return outputs["b"]


def refusing(*_: Any) -> Tensor:
    raise RecipeError("my loss", "has its reasons")


def narrow(outputs: Any) -> Any: ...


NUMBER = 3


# --- the sum


def test_the_objective_is_the_weighted_sum_and_a_short_target_holds_for_the_first_samples() -> None:
    outputs = {"a": column(1, 3, 9), "b": column(2, 2, 2)}
    batch = Batch({}, {"label": column(0, 0), "teacher.b": column(0, 0, 0)})
    terms = [
        objective.on_output("task", 0.5, None, "label", losses.l1),
        objective.on_output("soft", 3.0, "b", "teacher.b", losses.l2),
    ]
    assert objective.total(terms, outputs, batch).item() == pytest.approx(0.5 * (1 + 3) / 2 + 3.0 * 4)


def test_an_output_that_the_network_does_not_have_is_named_with_its_remedy() -> None:
    term = objective.on_output("task", 1.0, "logit", "label", losses.l1, "Name it in distil.task.output.")
    with pytest.raises(RecipeError) as caught:
        value_of(term, {"logits": column(0), "hidden.logit": column(0)}, label=column(0))
    assert str(caught.value) == (
        'loss task: the network has no output "logit". Did you mean "logits"? Name it in distil.task.output.'
    )


def test_a_target_that_the_batch_does_not_have_is_named() -> None:
    term = objective.on_output("soft", 1.0, None, "teacher.logits", losses.l1)
    with pytest.raises(RecipeError, match=r'the batch has no target "teacher\.logits"\. Known: label'):
        value_of(term, {"logits": column(0)}, label=column(0))


def test_an_output_of_whole_numbers_cannot_be_trained() -> None:
    term = objective.on_output("task", 1.0, None, "label", losses.l1)
    with pytest.raises(RecipeError, match='output "ids" is int64: it cannot be trained'):
        value_of(term, {"ids": column(0, dtype=torch.int64)}, label=column(0))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_numbers_of_half_precision_are_widened_before_the_loss(half: torch.dtype) -> None:
    # 300 squared is more than float16 holds, and bfloat16 has three digits.
    term = objective.on_output("task", 1.0, None, "label", losses.l2)
    assert value_of(
        term, {"a": column(300, 256, dtype=half)}, label=column(0, 0, dtype=half)
    ) == pytest.approx((300**2 + 256**2) / 2)
    own = objective.of_callable("task", 1.0, f"{HERE}:distance", "label", {})
    HELD.clear()
    value_of(own, {"a": column(300, dtype=half).requires_grad_()}, label=column(0, dtype=half))
    assert {torch.float32} == HELD


# --- callables


def test_a_task_callable_sees_labelled_samples_alone() -> None:
    SEEN.clear()
    term = objective.of_callable("task", 1.0, f"{HERE}:distance", "label", {"scale": 2.0})
    outputs = {"a": column(1, 3, 9).requires_grad_(), "hidden.x": column(0, 0, 0)}
    batch = Batch({"x": torch.zeros(3, 5)}, {"label": column(0, 0), "teacher.a": column(0, 0, 0)})
    assert term.value(outputs, batch).item() == pytest.approx(2 * (1 + 3) / 2)
    assert SEEN == [({"a": [2, 1]}, {"label": [2, 1]}, {"x": [2, 5]})]


def test_a_soft_callable_sees_all_samples_and_the_teachers_outputs_by_their_names() -> None:
    SEEN.clear()
    term = objective.of_callable("soft", 1.0, f"{HERE}:distance", "teacher.", {})
    batch = Batch({"x": torch.zeros(3, 5)}, {"label": column(0, 0), "teacher.b": column(0, 0, 0)})
    assert term.value({"a": column(1, 3, 9).requires_grad_()}, batch).item() == pytest.approx(13 / 3)
    assert SEEN == [({"a": [3, 1]}, {"b": [3, 1]}, {"x": [3, 5]})]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rows", "gave float64[2, 1], not one real number. Take the mean over samples."),
        ("whole", "gave int64[], not one real number"),
        ("plain_number", "gave float, not a tensor. Compute the loss with torch, on the outputs."),
        (
            "detached",
            "does not depend on the outputs: nothing could be learnt from it. Compute it from the outputs",
        ),
        ("broken", "failed on (a [2, 1]; label [2, 1]; x [2, 4]): KeyError: 'b'"),
    ],
)
def test_what_a_callable_may_not_give_is_said_in_words(name: str, words: str) -> None:
    term = objective.of_callable("task", 1.0, f"{HERE}:{name}", "label", {})
    batch = Batch({"x": torch.zeros(3, 4)}, {"label": column(0, 0)})
    with pytest.raises(RecipeError) as caught:
        term.value({"a": column(1, 2, 3).requires_grad_()}, batch)
    assert words in str(caught.value)


def test_an_error_that_speaks_for_itself_passes_as_it_is() -> None:
    term = objective.of_callable("task", 1.0, f"{HERE}:refusing", "label", {})
    with pytest.raises(RecipeError, match=r"^my loss: has its reasons$"):
        value_of(term, {"a": column(1)}, label=column(0))


def test_a_number_without_gradient_is_fine_where_nobody_asks_for_one() -> None:
    term = objective.of_callable("task", 1.0, f"{HERE}:distance", "label", {})
    with torch.no_grad():
        assert value_of(term, {"a": column(1)}, label=column(0)) == 1


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("distanse", {}, 'has no "distanse". Did you mean "distance"?'),
        ("NUMBER", {}, "is int, not a function"),
        (
            "distance",
            {"scael": 1},
            "does not take (outputs, targets, inputs, scael=): got an unexpected keyword",
        ),
        ("narrow", {}, "does not take (outputs, targets, inputs): too many positional arguments"),
    ],
)
def test_what_is_no_loss_is_refused_before_any_step(name: str, args: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        objective.of_callable("task", 1.0, f"{HERE}:{name}", "label", args)
    assert words in str(caught.value)


def test_a_callable_without_targets_says_so() -> None:
    term = objective.of_callable("soft", 1.0, f"{HERE}:distance", "teacher.", {})
    with pytest.raises(RecipeError, match=r'no target "teacher\.", and the loss "soft" is on them'):
        value_of(term, {"a": column(0)}, label=column(0))


# --- ground truth


def test_class_numbers_mean_cross_entropy_and_real_numbers_l2() -> None:
    (of_classes,) = objective.task_terms({}, {"label": CLASSES}, "here")
    logits, label = torch.randn(3, 3), objective.truth(CLASSES)
    assert value_of(of_classes, {"a": logits}, label=label) == losses.cross_entropy(logits, label).item()
    (of_reals,) = objective.task_terms(0.25, {"label": REALS}, "here")
    assert value_of(of_reals, {"a": column(0, 0, 0).float()}, label=objective.truth(REALS)) == pytest.approx(
        (0.25 + 2.25 + 6.25) / 3
    )
    assert (of_classes.weight, of_reals.weight) == (1.0, 0.25)
    (defaulted,) = objective.task_terms({"kind": "l1"}, {"label": REALS}, "here", weight=0.5)
    assert defaulted.weight == 0.5


def test_the_label_trains_the_first_output_or_the_named_one_and_no_other() -> None:
    outputs = {"a": column(1, 1, 1), "b": column(2, 2, 2)}
    truth = objective.truth(np.zeros((3, 1)))
    (first,) = objective.task_terms({"kind": "l1"}, {"label": REALS}, "here")
    (named,) = objective.task_terms({"kind": "l1", "output": "b"}, {"label": REALS}, "here")
    assert (value_of(first, outputs, label=truth), value_of(named, outputs, label=truth)) == (1, 2)


def test_every_truth_with_a_name_trains_the_output_of_that_name() -> None:
    truths = {"label": CLASSES, "label.b": REALS, "label.c": REALS}
    terms = objective.task_terms({"weight": 0.5, "kind": "l1"}, truths, "here")
    assert [(term.name, term.weight, term.reads) for term in terms] == [
        ("task", 0.5, "label"), ("task.b", 0.5, "label.b"), ("task.c", 0.5, "label.c"),
    ]  # fmt: skip
    outputs = {"a": column(0), "b": column(2), "c": column(3)}
    assert value_of(terms[1], outputs, label_b=column(0)) == 2
    with pytest.raises(RecipeError, match=r'no output "b"\. Known: a\. The loader calls it "label\.b"'):
        value_of(terms[1], {"a": column(0)}, label_b=column(0))


def test_a_weight_of_0_needs_no_truth_and_gives_no_term() -> None:
    assert objective.task_terms(0, {}, "here") == []
    assert objective.soft_terms([{"weight": 0}], {}, "here") == []


def test_a_callable_is_one_term_on_all_truths() -> None:
    spec = {"weight": 0.5, "kind": f"{HERE}:distance", "args": {"scale": 3.0}}
    (term,) = objective.task_terms(spec, {"label.a": REALS}, "here")
    assert (term.name, term.weight, term.reads) == ("task", 0.5, "label")
    assert value_of(term, {"a": column(2, 2).requires_grad_()}, label_a=column(0)) == 6


@pytest.mark.parametrize(
    ("spec", "truths", "words"),
    [
        (
            1.0,
            {},
            'the training data has no "label", and the task loss needs it. Let the loader give one, or set',
        ),
        ({"output": "a"}, {"label.b": REALS}, "the data has only label.b. Leave task.output out"),
        ({"output": "b"}, {"label": REALS, "label.b": REALS}, 'both ground truth of the output "b"'),
        (
            {"kind": "hinge"},
            {"label": REALS},
            'here: loss kind "hinge" is not one of cosine, cross_entropy, l1, l2',
        ),
        ({"kind": "l1", "temperature": 2}, {"label": REALS}, 'loss "l1" has no option "temperature"'),
        ({"weight": -1}, {"label": REALS}, "the weight of a loss is -1, not a number from 0 up. 0 leaves"),
        ({"weight": float("nan")}, {"label": REALS}, "the weight of a loss is nan"),
        (True, {"label": REALS}, "the weight of a loss is True"),
        ({"kind": f"{HERE}:distance", "output": "a"}, {"label": REALS}, "task names outputs, which its kind"),
        ({"kind": f"{HERE}:distance", "scale": 2}, {"label": REALS}, 'task says "scale", which its kind'),
        ({"kind": "cross_entropy"}, {"label": REALS}, '"label" holds real numbers that are no probabilities'),
        ({"kind": "cross_entropy"}, {"label": REALS[:, 0]}, "no probabilities"),
        ({"kind": "cross_entropy"}, {"label": np.array([[1.5, -0.5]])}, "no probabilities"),
    ],
)
def test_a_task_that_cannot_be_is_refused(spec: Any, truths: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        objective.task_terms(spec, truths, "here")
    assert words in str(caught.value)


def test_soft_labels_are_a_truth_of_cross_entropy() -> None:
    soft = np.array([[0.25, 0.75], [1, 0]], np.float16)
    (term,) = objective.task_terms({"kind": "cross_entropy"}, {"label": soft}, "here")
    logits, label = torch.randn(2, 2), objective.truth(soft)
    assert value_of(term, {"a": logits}, label=label) == losses.cross_entropy(logits, label).item()


def test_a_negative_class_number_is_refused_also_where_torch_would_ignore_it() -> None:
    with pytest.raises(RecipeError, match=r"smallest class number is -100\. Classes count from 0"):
        objective.truth(np.array([0, -100]))


@pytest.mark.parametrize(
    ("dtype", "held"),
    [("bool", torch.int64), ("uint8", torch.int64), ("int32", torch.int64), ("float16", torch.float32)],
)
def test_truths_are_held_as_losses_want_them(dtype: str, held: torch.dtype) -> None:
    assert objective.truth(np.ones(2, dtype)).dtype == held
    assert objective.truth(np.ones(2, "float64")).dtype == torch.float32


# --- what the teacher said


def test_the_soft_loss_is_half_of_kl_on_all_real_outputs_of_the_teacher() -> None:
    terms = objective.soft_terms({}, {"logits": True, "ids": False, "more": True}, "here")
    assert [(term.name, term.weight, term.reads) for term in terms] == [
        ("soft.logits", 0.5, "teacher.logits"), ("soft.more", 0.5, "teacher.more"),
    ]  # fmt: skip
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    batch = Batch({}, {"teacher.logits": teacher})
    assert terms[0].value({"logits": student}, batch).item() == losses.kl(student, teacher).item()


def test_several_soft_losses_have_their_own_kinds_options_and_outputs() -> None:
    spec = [
        {"kind": "l1", "weight": 1, "outputs": ["b"]},
        {"kind": "kl", "temperature": 2, "outputs": ["a"]},
        {"kind": f"{HERE}:distance", "args": {"scale": 2.0}},
    ]
    terms = objective.soft_terms(spec, {"a": True, "b": True}, "here")
    assert [(term.name, term.weight, term.reads) for term in terms] == [
        ("soft.0.b", 1.0, "teacher.b"), ("soft.1.a", 0.5, "teacher.a"), ("soft.2", 0.5, "teacher."),
    ]  # fmt: skip
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    found = terms[1].value({"a": student}, Batch({}, {"teacher.a": teacher})).item()
    assert found == losses.kl(student, teacher, temperature=2.0).item()


@pytest.mark.parametrize(
    ("spec", "teacher", "words"),
    [
        (
            {"outputs": ["logit"]},
            {"logits": True},
            'the teacher has no output "logit". Did you mean "logits"?',
        ),
        (
            {"outputs": ["ids"]},
            {"ids": False},
            '"ids" holds no real numbers, and the soft loss needs them. Leave it',
        ),
        (
            {},
            {"ids": False},
            "no output of the teacher holds real numbers for distil.soft to learn from. It gives ids",
        ),
        ([{}, {"kind": "cosin"}], {"a": True}, 'loss kind "cosin" is not one of'),
        (
            [{"kind": f"{HERE}:distance", "outputs": ["a"]}],
            {"a": True},
            "soft.0 names outputs, which its kind",
        ),
    ],
)
def test_a_soft_loss_that_cannot_be_is_refused(spec: Any, teacher: dict[str, bool], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        objective.soft_terms(spec, teacher, "here")
    assert words in str(caught.value)


def test_a_student_without_the_teachers_output_is_told_where_to_say_so() -> None:
    (term,) = objective.soft_terms({"kind": "l1"}, {"logits": True}, "here")
    with pytest.raises(RecipeError, match=r'no output "logits"\. Known: a\. List in distil\.soft\.outputs'):
        value_of(term, {"a": column(0)}, teacher_logits=column(0))


def test_a_batch_needs_only_the_targets_that_are_read() -> None:
    targets = ["label", "label.b", "labels", "teacher.a", "teacher.b", "hidden.x"]
    soft = objective.soft_terms({"outputs": ["a"]}, {"a": True, "b": True}, "here")
    assert objective.read_by(soft, targets) == ["teacher.a"]
    own = objective.of_callable("task", 1.0, f"{HERE}:distance", "label", {})
    assert objective.read_by([own], targets) == ["label", "label.b"]
    told = objective.of_callable("soft", 1.0, f"{HERE}:distance", "teacher.", {})
    assert objective.read_by([told], targets) == ["teacher.a", "teacher.b"]
    assert objective.read_by([Term("x", 1.0, told.value)], targets) == targets
