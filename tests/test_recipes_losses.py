"""The losses against values worked out by hand, against finite differences, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch

from modelbuild.errors import RecipeError
from modelbuild.recipes import losses, objective, supervision
from modelbuild.recipes.objective import Batch, Term

torch.set_num_threads(1)
LN3 = math.log(3)


def tensor(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_cross_entropy_by_hand() -> None:
    # softmax(ln 3, 0) = (3/4, 1/4)
    logits = tensor([LN3, 0], [LN3, 0])
    expected = (-math.log(3 / 4) - math.log(1 / 4)) / 2
    assert losses.cross_entropy(logits, torch.tensor([0, 1])).item() == pytest.approx(expected)


def test_l1_and_l2_by_hand() -> None:
    output, target = tensor([1, 2], [3, 5]), tensor([1, 0], [0, 6])
    assert losses.l1(output, target).item() == pytest.approx((0 + 2 + 3 + 1) / 4)
    assert losses.l2(output, target).item() == pytest.approx((0 + 4 + 9 + 1) / 4)


def test_kl_by_hand_at_temperature_1() -> None:
    # teacher (3/4, 1/4), student (1/2, 1/2); the second sample agrees and halves the mean
    teacher, student = tensor([LN3, 0], [1, 2]), tensor([0, 0], [1, 2])
    expected = (3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)) / 2
    assert losses.kl(student, teacher, temperature=1.0).item() == pytest.approx(expected)


def test_kl_softens_both_sides_and_carries_the_square_of_the_temperature() -> None:
    # at T = 2 logits of 2 ln 3 soften to (3/4, 1/4)
    expected = 4 * (3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2))
    assert losses.kl(tensor([0, 0]), tensor([2 * LN3, 0]), temperature=2.0).item() == pytest.approx(expected)


def test_kl_is_teacher_against_student_not_the_other_way_round() -> None:
    forward = losses.kl(tensor([0, 0]), tensor([LN3, 0]), temperature=1.0).item()
    backward = losses.kl(tensor([LN3, 0]), tensor([0, 0]), temperature=1.0).item()
    assert forward == pytest.approx(3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)) != backward


def test_the_gradient_of_kl_keeps_its_size_when_the_temperature_changes() -> None:
    # Hinton et al., equation 4: for logits of zero mean and small size the gradient tends to (z - v) / classes
    teacher = tensor([0.02, -0.02])
    for temperature in (2.0, 5.0, 20.0):
        student = tensor([0.01, -0.01]).requires_grad_()
        torch.autograd.backward(losses.kl(student, teacher, temperature=temperature))
        assert student.grad is not None
        assert student.grad.tolist()[0] == pytest.approx([-0.005, 0.005], rel=1e-3)


def test_kl_of_positions_is_the_mean_over_samples_and_positions() -> None:
    student, teacher = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(3, 4, 5, dtype=torch.float64)
    flat = [each.transpose(1, 2).reshape(15, 4) for each in (student, teacher)]
    assert losses.kl(student, teacher).item() == pytest.approx(losses.kl(*flat).item())


@pytest.mark.parametrize("kind", sorted(losses.SOFT))
def test_gradients_of_soft_losses_match_finite_differences(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    output, teacher = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    loss = losses.named("here", losses.SOFT, kind, {})
    assert torch.autograd.gradcheck(lambda each: loss(each, teacher), (output.requires_grad_(),))


def test_the_gradient_of_cross_entropy_matches_finite_differences() -> None:
    output = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    label = torch.tensor([0, 3, 1])
    assert torch.autograd.gradcheck(
        lambda each: losses.cross_entropy(each, label), (output.requires_grad_(),)
    )


@pytest.mark.parametrize("kind", sorted(losses.SOFT))
def test_no_loss_broadcasts(kind: str) -> None:
    with pytest.raises(RecipeError, match=r"\[4, 1\].*\[4, 4\]"):
        losses.SOFT[kind](torch.zeros(4, 1), torch.zeros(4, 4))


def test_cross_entropy_refuses_shapes_and_labels_that_do_not_belong() -> None:
    with pytest.raises(RecipeError, match=r"logits \[4, 3\] with labels \[4, 1\]"):
        losses.cross_entropy(torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.int64))
    with pytest.raises(RecipeError, match="labels go up to 3, and the module has 3 classes"):
        losses.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3]))


def test_a_negative_class_number_is_refused_also_where_torch_would_ignore_it() -> None:
    with pytest.raises(RecipeError, match="smallest class number is -100"):
        supervision.target(torch.tensor([0, -100]).numpy())


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("kll", {}, 'loss kind "kll" is not one of kl, l1, l2. Did you mean "kl"?'),
        ("kl", {"temprature": 4}, 'no option "temprature". Did you mean "temperature"?'),
        ("l1", {"temperature": 4}, 'loss "l1" has no option "temperature"'),
        ("kl", {"temperature": 0}, "temperature is 0, not a positive number"),
        ("kl", {"temperature": float("nan")}, "not a positive number"),
        ("kl", {"temperature": "4"}, "not a positive number"),
        ("kl", {"temperature": True}, "not a positive number"),
    ],
)
def test_unknown_kinds_and_bad_options_are_refused(kind: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        losses.named("distil", losses.SOFT, kind, options)
    assert words in str(caught.value)


def test_the_temperature_of_the_manifest_reaches_the_loss() -> None:
    student, teacher = torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 1.0]])
    named = losses.named("distil", losses.SOFT, "kl", {"temperature": 2})
    assert named(student, teacher).item() == losses.kl(student, teacher, temperature=2.0).item()


def test_the_objective_is_the_weighted_sum_and_a_short_target_holds_for_the_first_samples() -> None:
    outputs = {"a": tensor([1.0], [3.0], [9.0]), "b": tensor([2.0], [2.0], [2.0])}
    batch = Batch([], {"label": tensor([0.0], [0.0]), "soft": tensor([0.0], [0.0], [0.0])})
    terms = [Term(None, "label", 0.5, losses.l1), Term("b", "soft", 3.0, losses.l2)]
    assert objective.total(terms, outputs, batch).item() == pytest.approx(0.5 * (1 + 3) / 2 + 3.0 * 4)


def test_an_output_that_the_module_does_not_have_is_named() -> None:
    batch = Batch([], {"label": tensor([0.0])})
    with pytest.raises(RecipeError, match='no output "logit"'):
        objective.total([Term("logit", "label", 1.0, losses.l1)], {"logits": tensor([0.0])}, batch)


def test_class_numbers_mean_cross_entropy_and_real_numbers_l2() -> None:
    for dtype, loss in ((torch.int64, losses.cross_entropy), (torch.float32, losses.l2)):
        term = supervision.task_term({}, torch.zeros(3, dtype=dtype).numpy(), "here")
        assert getattr(term.loss, "func") is loss  # noqa: B009
