"""The losses against values worked out by hand, against finite differences, and what they refuse."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from modelbuild import kinds
from modelbuild.errors import RecipeError
from modelbuild.training import losses

torch.set_num_threads(1)
LN2, LN3 = math.log(2), math.log(3)
LOGITS = ("kl", "decoupled", "dist")


def tensor(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
    return found


def divergence(p: NDArray[Any], q: NDArray[Any]) -> float:
    """KL(p || q) of two rows of probabilities."""
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a))


def test_cross_entropy_by_hand() -> None:
    # softmax(ln 3, 0) = (3/4, 1/4)
    logits = tensor([LN3, 0], [LN3, 0])
    expected = (-math.log(3 / 4) - math.log(1 / 4)) / 2
    assert losses.cross_entropy(logits, torch.tensor([0, 1])).item() == pytest.approx(expected)


def test_cross_entropy_of_soft_labels_by_hand() -> None:
    logits, label = tensor([LN3, 0], [LN3, 0]), torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    expected = (-0.25 * math.log(3 / 4) - 0.75 * math.log(1 / 4) - math.log(3 / 4)) / 2
    assert losses.cross_entropy(logits, label).item() == pytest.approx(expected)


def test_a_hard_label_is_a_soft_one_that_is_sure() -> None:
    logits, label = drawn(4, 3, 5), torch.randint(3, (4, 5), generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.one_hot(label, 3).movedim(-1, 1).double()
    assert losses.cross_entropy(logits, soft).item() == pytest.approx(
        losses.cross_entropy(logits, label).item()
    )


def test_l1_and_l2_by_hand() -> None:
    output, target = tensor([1, 2], [3, 5]), tensor([1, 0], [0, 6])
    assert losses.l1(output, target).item() == pytest.approx((0 + 2 + 3 + 1) / 4)
    assert losses.l2(output, target).item() == pytest.approx((0 + 4 + 9 + 1) / 4)


def test_cosine_by_hand() -> None:
    # (3, 4).(4, 3) = 24 = 0.96 * 5 * 5; opposite directions lie 2 apart
    output, target = tensor([3, 4], [1, 0]), tensor([4, 3], [-7, 0])
    assert losses.cosine(output, target).item() == pytest.approx((1 - 0.96 + 2) / 2)


def test_cosine_looks_along_the_last_axis_and_does_not_see_lengths() -> None:
    output, target = drawn(2, 5, 3), drawn(2, 5, 3, seed=2)
    flat = losses.cosine(output.reshape(10, 3), target.reshape(10, 3)).item()
    assert losses.cosine(output * 7, target * 0.1).item() == pytest.approx(flat)
    assert losses.cosine(output, output * 3).item() == pytest.approx(0)


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


@pytest.mark.parametrize("temperature", [2.0, 5.0, 20.0])
def test_the_gradient_of_kl_keeps_its_size_when_the_temperature_changes(temperature: float) -> None:
    # Hinton et al., equation 4: for logits of zero mean and small size the gradient tends to (z - v) / classes
    student = tensor([0.01, -0.01]).requires_grad_()
    torch.autograd.backward(losses.kl(student, tensor([0.02, -0.02]), temperature=temperature))
    assert student.grad is not None
    assert student.grad.tolist()[0] == pytest.approx([-0.005, 0.005], rel=1e-3)


def test_decoupled_by_hand() -> None:
    # teacher (1/2, 1/3, 1/6), its class 0; student (1/4, 1/4, 1/2). Of the others: (2/3, 1/3) and (1/3, 2/3).
    teacher, student = tensor([math.log(3), math.log(2), 0]), tensor([0, 0, LN2])
    binary = 1 / 2 * math.log(1 / 2 / (1 / 4)) + 1 / 2 * math.log(1 / 2 / (3 / 4))
    others = 2 / 3 * math.log(2 / 3 / (1 / 3)) + 1 / 3 * math.log(1 / 3 / (2 / 3))
    for alpha, beta in ((1.0, 8.0), (2.0, 0.5)):
        found = losses.decoupled(student, teacher, alpha=alpha, beta=beta, temperature=1.0).item()
        assert found == pytest.approx(alpha * binary + beta * others)


def test_decoupled_softens_both_sides_and_carries_the_square_of_the_temperature() -> None:
    teacher, student = drawn(4, 5), drawn(4, 5, seed=2)
    cold = losses.decoupled(student, teacher, temperature=1.0).item()
    assert losses.decoupled(student * 3, teacher * 3, temperature=3.0).item() == pytest.approx(9 * cold)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_is_kl_where_beta_is_what_the_teacher_leaves_to_the_other_classes(
    temperature: float,
) -> None:
    # KL = TCKD + (1 - p_c) * NCKD: one sample, so one such factor
    teacher, student = drawn(1, 6), drawn(1, 6, seed=2)
    left = 1 - softmax((teacher / temperature).numpy()).max()
    options = {"alpha": 1.0, "beta": left, "temperature": temperature}
    found = losses.decoupled(student, teacher, **options).item()
    assert found == pytest.approx(losses.kl(student, teacher, temperature=temperature).item())


def test_decoupled_of_two_classes_is_kl_whatever_beta() -> None:
    teacher, student = drawn(5, 2), drawn(5, 2, seed=2)
    found = losses.decoupled(student, teacher, beta=100.0).item()
    assert found == pytest.approx(losses.kl(student, teacher).item())


def test_the_class_that_decoupled_takes_out_is_the_teachers() -> None:
    # Teacher and student agree on all classes but the teacher's largest: nothing is left to the others.
    teacher, student = tensor([1, 5, 2]), tensor([1, 0, 2])
    huge = losses.decoupled(student, teacher, beta=1e6, temperature=1.0).item()
    assert huge == pytest.approx(losses.decoupled(student, teacher, beta=1.0, temperature=1.0).item())


def test_decoupled_stays_finite_where_the_teacher_is_sure() -> None:
    student = torch.zeros(2, 3, requires_grad=True)
    loss = losses.decoupled(student, torch.tensor([[80.0, -80.0, -80.0], [1e4, 0.0, -1e4]]), temperature=1.0)
    torch.autograd.backward(loss)
    assert student.grad is not None
    assert math.isfinite(loss.item()) and bool(student.grad.isfinite().all())


def by_hand_dist(student: NDArray[Any], teacher: NDArray[Any], beta: float, gamma: float, t: float) -> float:
    q, p = softmax(student / t), softmax(teacher / t)
    inter = np.mean([1 - np.corrcoef(p[i], q[i])[0, 1] for i in range(len(p))])
    intra = np.mean([1 - np.corrcoef(p[:, j], q[:, j])[0, 1] for j in range(p.shape[1])])
    return float(t * t * (beta * inter + gamma * intra))


@pytest.mark.parametrize("options", [(1.0, 1.0, 1.0), (2.0, 0.5, 1.0), (1.0, 3.0, 4.0)])
def test_dist_by_hand(options: tuple[float, float, float]) -> None:
    student, teacher = drawn(4, 3), drawn(4, 3, seed=2)
    beta, gamma, temperature = options
    found = losses.dist(student, teacher, beta=beta, gamma=gamma, temperature=temperature).item()
    assert found == pytest.approx(by_hand_dist(student.numpy(), teacher.numpy(), *options), rel=1e-6)


def test_the_gradient_of_dist_is_bounded_where_the_student_says_the_same_of_all_classes() -> None:
    student = torch.zeros(4, 5, requires_grad=True)  # the first step of a last layer that starts at 0
    torch.autograd.backward(losses.dist(student, drawn(4, 5).float()))
    assert student.grad is not None
    assert 0 < student.grad.abs().max().item() < 16 / losses.NO_SPREAD


def test_dist_of_rows_that_rank_the_other_way_round_is_2_and_2() -> None:
    # Probabilities (1/2, 1/3, 1/6) and (1/6, 1/3, 1/2): both correlate with -1; columns of two samples do so too
    # where they vary, and class 1, which does not, counts as uncorrelated.
    teacher = tensor([math.log(3), LN2, 0], [0, LN2, math.log(3)])
    found = losses.dist(teacher.flip(0), teacher, beta=1.0, gamma=10.0, temperature=1.0).item()
    assert found == pytest.approx(2 + 10 * (2 + 1 + 2) / 3)


def test_dist_does_not_see_scale_and_shift_of_probabilities_and_kl_does() -> None:
    p = torch.softmax(drawn(5, 4), dim=1)
    flatter = (p + 1) / 5  # the same ranking, less sure
    assert losses.dist(flatter.log(), p.log(), temperature=1.0).item() == pytest.approx(0, abs=1e-6)
    assert losses.kl(flatter.log(), p.log(), temperature=1.0).item() > 0.01


@pytest.mark.parametrize("kind", LOGITS)
def test_losses_on_logits_do_not_see_what_softmax_does_not(kind: str) -> None:
    student, teacher = drawn(4, 5), drawn(4, 5, seed=2)
    moved = losses.SOFT[kind](student + 7, teacher - drawn(4, 1)).item()
    assert moved == pytest.approx(losses.SOFT[kind](student, teacher).item())


@pytest.mark.parametrize("kind", sorted(losses.SOFT))
def test_a_student_that_says_the_same_has_nothing_to_learn(kind: str) -> None:
    student = drawn(4, 5).requires_grad_()
    loss = losses.SOFT[kind](student, student.detach())
    torch.autograd.backward(loss)
    assert student.grad is not None
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max().item() < 1e-6


@pytest.mark.parametrize("kind", LOGITS)
def test_positions_count_as_samples(kind: str) -> None:
    student, teacher = drawn(3, 4, 2, 5), drawn(3, 4, 2, 5, seed=2)
    flat = [each.movedim(1, -1).reshape(30, 4) for each in (student, teacher)]
    assert losses.SOFT[kind](student, teacher).item() == pytest.approx(losses.SOFT[kind](*flat).item())


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3)])
@pytest.mark.parametrize("kind", sorted(losses.SOFT))
def test_gradients_of_soft_losses_match_finite_differences(kind: str, shape: tuple[int, ...]) -> None:
    output, teacher = drawn(*shape), drawn(*shape, seed=2)
    loss = losses.named("here", losses.SOFT, kind, {})
    assert torch.autograd.gradcheck(lambda each: loss(each, teacher), (output.requires_grad_(),))


@pytest.mark.parametrize("label", [torch.tensor([0, 3, 1]), torch.softmax(drawn(3, 4, seed=3), dim=1)])
def test_the_gradient_of_cross_entropy_matches_finite_differences(label: torch.Tensor) -> None:
    output = drawn(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda each: losses.cross_entropy(each, label), (output,))


def test_soft_labels_are_taken_in_any_precision() -> None:
    logits, label = drawn(3, 4), torch.softmax(drawn(3, 4, seed=2), dim=1)
    found = losses.cross_entropy(logits.float(), label).item()
    assert found == pytest.approx(losses.cross_entropy(logits, label).item(), rel=1e-6)


@pytest.mark.parametrize("kind", sorted(losses.SOFT))
def test_the_teacher_gets_no_say_in_the_type(kind: str) -> None:
    student, teacher = drawn(3, 4).float().requires_grad_(), drawn(3, 4, seed=2)
    loss = losses.SOFT[kind](student, teacher)
    torch.autograd.backward(loss)
    assert loss.dtype == torch.float32


def test_whole_numbers_are_a_target_of_a_distance() -> None:
    output = torch.tensor([[1.5]], requires_grad=True)
    torch.autograd.backward(losses.l2(output, torch.tensor([[3]])))
    assert output.grad is not None
    assert output.grad.item() == pytest.approx(2 * (1.5 - 3))


@pytest.mark.parametrize("kind", sorted(losses.SOFT))
def test_no_loss_broadcasts(kind: str) -> None:
    with pytest.raises(RecipeError, match=r"\[4, 1\].*\[4, 4\].*wrong pairs"):
        losses.SOFT[kind](torch.zeros(4, 1), torch.zeros(4, 4))


@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_a_loss_on_classes_refuses_numbers_that_are_no_logits(kind: str, shape: tuple[int, ...]) -> None:
    # The softmax of one number is 1, whatever it is: the loss would be 0 and teach nothing.
    with pytest.raises(RecipeError, match=rf"{kind} compares the probabilities.*Use l1, l2 or cosine"):
        losses.SOFT[kind](torch.zeros(shape), torch.ones(shape))


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_cosine_refuses_numbers_without_a_direction(shape: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match=r"cosine needs vectors.*Use l1 or l2"):
        losses.cosine(torch.ones(shape), torch.ones(shape))


def test_dist_refuses_a_batch_of_one() -> None:
    with pytest.raises(RecipeError, match=r"single one\. Raise train\.batch"):
        losses.dist(torch.zeros(1, 3), torch.ones(1, 3))


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (torch.zeros(4, 1, dtype=torch.int64), r"logits \[4, 3\] with labels \[4, 1\]"),
        (torch.zeros(4), r"logits \[4, 3\] with probabilities \[4\]"),
        (torch.zeros(4, 2), r"logits \[4, 3\] with probabilities \[4, 2\]"),
    ],
)
def test_cross_entropy_refuses_shapes_that_do_not_belong(label: torch.Tensor, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        losses.cross_entropy(torch.zeros(4, 3), label)


def test_cross_entropy_refuses_single_numbers_and_labels_that_are_no_class() -> None:
    with pytest.raises(RecipeError, match=r"logits \[4\] with probabilities \[4\]"):
        losses.cross_entropy(torch.zeros(4), torch.zeros(4))
    with pytest.raises(RecipeError, match="labels go up to 3, and the module has 3 classes"):
        losses.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3]))


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("kll", {}, 'loss kind "kll" is not one of cosine, decoupled, dist, kl, l1, l2. Did you mean "kl"?'),
        ("kl", {"temprature": 4}, 'no option "temprature". Did you mean "temperature"?'),
        ("l1", {"temperature": 4}, 'loss "l1" has no option "temperature". It has none.'),
        ("dist", {"alpha": 4}, 'loss "dist" has no option "alpha"'),
        ("kl", {"temperature": 0}, "temperature is 0, not a positive number"),
        ("kl", {"temperature": float("nan")}, "not a positive number"),
        ("kl", {"temperature": float("inf")}, "not a positive number"),
        ("kl", {"temperature": "4"}, "not a positive number"),
        ("kl", {"temperature": True}, "not a positive number"),
    ],
)
def test_unknown_kinds_and_bad_options_are_refused(kind: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        losses.named("distil", losses.SOFT, kind, options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("kl", "temperature"),
        *(("decoupled", each) for each in ("alpha", "beta", "temperature")),
        *(("dist", each) for each in ("beta", "gamma", "temperature")),
    ],
)
def test_the_options_of_the_manifest_reach_the_loss(kind: str, option: str) -> None:
    student, teacher = drawn(4, 5), drawn(4, 5, seed=2)
    loss: Callable[..., torch.Tensor] = losses.SOFT[kind]
    found = losses.named("distil", losses.SOFT, kind, {option: 2})(student, teacher).item()
    assert found == loss(student, teacher, **{option: 2.0}).item() != loss(student, teacher).item()


@pytest.mark.parametrize(("known", "told"), [(losses.TASK, kinds.TASK), (losses.SOFT, kinds.SOFT)])
def test_what_a_manifest_is_checked_against_is_what_there_is(
    known: losses.Kinds, told: dict[str, tuple[str, ...]]
) -> None:
    options = {
        kind: tuple(n for n, p in inspect.signature(loss).parameters.items() if p.kind is p.KEYWORD_ONLY)
        for kind, loss in known.items()
    }
    assert options == dict(told)
