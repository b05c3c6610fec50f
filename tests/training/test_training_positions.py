"""Hidden states read as [n, positions, width]."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modelbuild.errors import RecipeError
from modelbuild.training import positions
from modelbuild.training.positions import Meeting, Pooling, Shape

FIRST, LAST = (1, 1), (2, 2)
TOKENS, SOUND, IMAGE = {"ids": (4, 24)}, {"sound": (4, 1, 50)}, {"image": (4, 3, 8, 8)}


@pytest.mark.parametrize(
    ("student", "teacher", "inputs", "axes"),
    [
        ((4, 16), (4, 64), {}, FIRST),
        ((4, 8, 6, 6), (4, 32, 6, 6), {}, FIRST),
        ((4, 8, 3, 3), (4, 32, 6, 6), IMAGE, FIRST),
        # widths differ: the lengths that agree are the positions
        ((4, 24, 16), (4, 24, 64), {}, LAST),
        ((4, 16, 50), (4, 64, 50), {}, FIRST),
        ((4, 32, 32), (4, 32, 64), {}, LAST),
        # one of each kind
        ((4, 16, 24), (4, 24, 64), {}, (1, 2)),
        ((4, 24, 16), (4, 64, 24), {}, (2, 1)),
        # nothing differs: an input knows
        ((4, 24, 64), (4, 24, 64), TOKENS, LAST),
        ((4, 64, 24), (4, 64, 24), TOKENS, FIRST),
        ((4, 16, 50), (4, 16, 50), SOUND, FIRST),
        ((4, 50, 16), (4, 50, 16), {"frames": (4, 50, 80)}, LAST),
        ((4, 24, 64), (4, 24, 64), {**IMAGE, **TOKENS, "speed": (4,)}, LAST),
        # lengths differ: an input knows one, and the other is of its kind
        ((4, 12, 64), (4, 24, 64), TOKENS, LAST),
        ((4, 12, 16), (4, 24, 64), TOKENS, LAST),
        ((4, 16, 25), (4, 64, 50), SOUND, FIRST),
    ],
)
def test_the_axis_of_the_width_follows_from_lengths(
    student: Shape, teacher: Shape, inputs: dict[str, Shape], axes: tuple[int, int]
) -> None:
    assert positions.axes(("a", "b"), student, teacher, inputs) == axes


@pytest.mark.parametrize(
    ("student", "teacher", "inputs"),
    [
        ((4, 24, 64), (4, 24, 64), {}),
        ((4, 24, 24), (4, 24, 24), TOKENS),  # the width is the number of tokens
        ((4, 24, 64), (4, 24, 64), {**TOKENS, "voice": (4, 64)}),  # the inputs contradict each other
        ((4, 16, 25), (4, 64, 50), {}),
        ((4, 8, 8), (4, 8, 8), IMAGE),
    ],
)
def test_two_readings_are_refused(student: Shape, teacher: Shape, inputs: dict[str, Shape]) -> None:
    with pytest.raises(
        RecipeError, match=r"may be \[n, positions, width\] or .*distil\.layers\.mask"
    ) as caught:
        positions.axes(("a", "b"), student, teacher, inputs)
    assert f'the student\'s "a" {["n", *student[1:]]}'.replace("'n'", "n") in caught.value.fact


@pytest.mark.parametrize(
    ("student", "teacher"), [((4, 8), (4, 8, 8)), ((4,), (4,)), ((4, 2, 3, 3), (4, 2, 9))]
)
def test_states_with_unlike_axes_do_not_go_together(student: Shape, teacher: Shape) -> None:
    with pytest.raises(RecipeError, match=r'the teacher\'s "b" .* do not go together'):
        positions.axes(("a", "b"), student, teacher, {})


def test_images_with_their_width_last_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"\[n, 6, 6, 8\] and .* seem to have their width last"):
        positions.axes(("a", "b"), (4, 6, 6, 8), (4, 6, 6, 32), {})


@pytest.mark.parametrize(("length", "size"), [(8, 4), (7, 3), (5, 5), (5, 1), (9, 4)])
def test_windows_are_those_of_adaptive_average_pooling(length: int, size: int) -> None:
    numbers = torch.randn(2, 3, length)
    wanted = F.adaptive_avg_pool1d(numbers, size)
    torch.testing.assert_close(numbers @ positions.windows(length, size).T, wanted)


def test_several_axes_are_pooled_each_to_its_size() -> None:
    state = torch.randn(2, 7, 5, 3)  # the width is last
    pooled = Pooling((7, 5), (3, 5))(state)
    wanted = F.adaptive_avg_pool2d(state.movedim(-1, 1), (3, 5)).movedim(1, -1)
    torch.testing.assert_close(pooled, wanted)


def met(
    student: Tensor, teacher: Tensor, axes: tuple[int, int], projected: bool = True
) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    meeting = Meeting(tuple(student.shape), tuple(teacher.shape), axes, projected, draw)
    a, b = meeting(student, teacher)
    return a, b


def test_all_kinds_of_states_become_positions_and_width() -> None:
    flat, row, image = torch.randn(2, 3), torch.randn(2, 3, 5), torch.randn(2, 3, 4, 6)
    assert torch.equal(met(flat, flat, (1, 1))[0], flat[:, None])
    assert torch.equal(met(row, row, (1, 1))[0], row.transpose(1, 2))
    assert torch.equal(met(row, row, (2, 2))[0], row)
    assert torch.equal(met(image, image, (1, 1))[0], image.flatten(2).transpose(1, 2))


def test_the_larger_of_both_is_pooled_along_every_axis() -> None:
    student, teacher = torch.randn(2, 3, 8, 2), torch.randn(2, 3, 4, 6)
    a, b = met(student, teacher, (1, 1))
    torch.testing.assert_close(a, F.adaptive_avg_pool2d(student, (4, 2)).flatten(2).transpose(1, 2))
    torch.testing.assert_close(b, F.adaptive_avg_pool2d(teacher, (4, 2)).flatten(2).transpose(1, 2))


def test_a_projection_is_a_convolution_of_one_position() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    meeting = Meeting(
        tuple(student.shape), tuple(teacher.shape), (1, 1), True, torch.Generator().manual_seed(0)
    )
    assert meeting.projection is not None
    weight, bias = meeting.projection.weight, meeting.projection.bias
    wanted = F.conv2d(student, weight[:, :, None, None], bias)
    torch.testing.assert_close(meeting(student, teacher)[0], wanted.flatten(2).transpose(1, 2))


def test_a_projection_is_learnt_only_where_widths_differ_and_it_is_wanted() -> None:
    def parts(width: int, projected: bool = True) -> list[str]:
        made = Meeting((2, 4, width), (2, 4, 5), (2, 2), projected, torch.Generator())
        return [name for name, _ in made.named_parameters()]

    assert parts(3) == ["projection.weight", "projection.bias"]
    assert parts(5) == parts(3, projected=False) == []


def test_a_projection_begins_with_what_the_generator_draws_and_nothing_else_is_drawn() -> None:
    def weights(seed: int) -> Tensor:
        made = Meeting((2, 300), (2, 200), (1, 1), True, torch.Generator().manual_seed(seed))
        assert made.projection is not None
        return torch.cat([each.detach().flatten() for each in (made.projection.weight, made.projection.bias)])

    before = torch.get_rng_state()
    first = weights(0)
    assert torch.equal(first, weights(0)) and not torch.equal(first, weights(1))
    assert torch.equal(before, torch.get_rng_state())
    assert 0.99 / 300**0.5 < first.abs().max() <= 1 / 300**0.5 and abs(first.mean()) < 1e-3


def test_states_of_other_lengths_than_those_met_first_are_refused() -> None:
    meeting = Meeting((2, 4, 5), (2, 4, 5), (2, 2), True, torch.Generator())
    with pytest.raises(RecipeError, match=r"\[2, 1, 5\] does not meet the teacher's \[2, 4, 5\]"):
        meeting(torch.zeros(2, 1, 5), torch.zeros(2, 4, 5))


def test_the_windows_go_where_the_learner_goes_and_are_not_learnt() -> None:
    meeting = Meeting((2, 3, 8), (2, 3, 4), (1, 1), True, torch.Generator())
    assert [name for name, _ in meeting.named_buffers()] == ["pools.0.windows0"]
    assert not list(meeting.parameters()) and not meeting.state_dict()
