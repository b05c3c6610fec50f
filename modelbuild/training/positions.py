"""Two hidden states made comparable: both as [n, positions, width], with equally many positions and numbers at each.

A convolution gives [n, width, positions...], a transformer [n, positions, width]. Nothing in a state says which of
both it is; the states' lengths and those of the network's inputs do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from modelbuild.errors import RecipeError

PLACE = "distil.layers"
FIRST, LAST = 1, 2  # the axis of the width in a state with three axes
Shape = tuple[int, ...]
Axes = tuple[int, int]


class Meeting(nn.Module):
    """The states of student and teacher as [n, positions, width] each, in the teacher's width.

    `axes` say where each has its width; both shapes begin with n. Positions are averaged down to the smaller number
    along every axis. Where widths differ and `projected`, the student's go through a learnt linear map at every
    position, which for [n, width, height, width] is a 1x1 convolution; `generator` draws its first weights.
    """

    def __init__(
        self, student: Shape, teacher: Shape, axes: Axes, projected: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.axes = axes
        sides = [lengths(shape, axis) for shape, axis in zip((student, teacher), axes, strict=True)]
        shared = tuple(map(min, *sides))
        self.pools = nn.ModuleList(Pooling(each, shared) for each in sides)
        widths = student[axes[0]], teacher[axes[1]]
        self.projection = _linear(*widths, generator) if projected and widths[0] != widths[1] else None

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Raises RecipeError where the states are not those that the meeting was made for."""
        a, b = (self._read(side, state) for side, state in enumerate((student, teacher)))
        a = a if self.projection is None else self.projection(a)
        if a.shape[:2] != b.shape[:2]:
            fact = f"a hidden state {list(student.shape)} does not meet the teacher's {list(teacher.shape)}"
            raise RecipeError(PLACE, fact, "A layer must give the same lengths for every batch.")
        return a, b

    def _read(self, side: int, state: Tensor) -> Tensor:
        read: Tensor = self.pools[side](state.movedim(self.axes[side], -1))
        return read.reshape(len(read), math.prod(read.shape[1:-1]), read.shape[-1])


class Pooling(nn.Module):
    """The average over windows along every axis between the first and the last, `lengths` of them becoming `shared`.

    Windows are those of adaptive average pooling. As products of matrices, unlike that, their gradients come out the
    same every time on every device.
    """

    def __init__(self, lengths: Shape, shared: Shape) -> None:
        super().__init__()
        self.changed = [axis for axis, length in enumerate(lengths) if length != shared[axis]]
        for axis in self.changed:
            self.register_buffer(f"windows{axis}", windows(lengths[axis], shared[axis]), persistent=False)

    def forward(self, state: Tensor) -> Tensor:
        for axis in self.changed:
            matrix = self.get_buffer(f"windows{axis}").to(state.dtype)
            state = torch.tensordot(state, matrix, dims=([axis + 1], [1])).movedim(-1, axis + 1)
        return state


def windows(length: int, size: int) -> Tensor:
    """[size, length]: row i averages the numbers floor(i length / size) to ceil((i + 1) length / size) - 1."""
    matrix = torch.zeros(size, length)
    for row in range(size):
        start, end = row * length // size, -(-(row + 1) * length // size)
        matrix[row, start:end] = 1 / (end - start)
    return matrix


def lengths(shape: Shape, axis: int) -> Shape:
    """The positions along every axis of a state but the samples' and the width's, which is `axis`."""
    return (*shape[1:axis], *shape[axis + 1 :])


def _linear(width_in: int, width: int, generator: torch.Generator) -> nn.Linear:
    made: nn.Linear = nn.utils.skip_init(nn.Linear, width_in, width)
    bound = 1 / math.sqrt(width_in)  # that of nn.Linear itself
    for each in (made.weight, made.bias):
        nn.init.uniform_(each, -bound, bound, generator=generator)
    return made


def axes(names: Sequence[str], student: Shape, teacher: Shape, inputs: Mapping[str, Shape]) -> Axes:
    """The axis with the width of each state; `names` are their layers, for messages.

    Both have two axes, [n, width], or three, or more, [n, width, ...]. Of three, positions lie along the axis whose
    length an input [n, positions] has, or an input [n, a, b] along the same axis. Where that leaves it open, they lie
    where both states have equally many, along the same axis in both if that is possible. Raises RecipeError for
    states that do not go together, and where two readings are left.
    """
    if len(student) != len(teacher) or len(student) < 2:
        fact = f"{_told(names, student, teacher)} do not go together"
        raise RecipeError(
            PLACE, fact, "Align layers that both give [n, width], or both one number more of axes."
        )
    if len(student) == 3:
        return _of_three(names, student, teacher, inputs)
    if len(student) > 3 and student[1:-1] == teacher[1:-1] and student[-1] != teacher[-1]:
        fact = f"{_told(names, student, teacher)} seem to have their width last"
        raise RecipeError(PLACE, fact, "Align layers that give [n, width, ...], as convolutions do.")
    return FIRST, FIRST


def _of_three(names: Sequence[str], student: Shape, teacher: Shape, inputs: Mapping[str, Shape]) -> Axes:
    a, b = (_open(shape, inputs.values()) for shape in (student, teacher))
    both = [(one, other) for one in a for other in b]
    alike = [each for each in both if each[0] == each[1]]
    mixed = [each for each in both if each not in alike]
    for readings in (_meeting(alike, student, teacher), _meeting(mixed, student, teacher), alike, mixed):
        if len(readings) == 1:
            return readings[0]
    fact = f"{_told(names, student, teacher)} may be [n, positions, width] or [n, width, positions]"
    remedy = "Say in distil.layers.mask which input [n, positions] goes with them, or align other layers."
    raise RecipeError(PLACE, fact, remedy)


def _open(shape: Shape, inputs: Iterable[Shape]) -> list[int]:
    """The axes that may be the width's: those beside an axis that an input's positions lie along, else both."""
    taken = {axis for given in inputs for axis in (1, 2) if _along(shape, axis, given)}
    return [3 - axis for axis in taken] or [FIRST, LAST]


def _along(shape: Shape, axis: int, given: Shape) -> bool:
    if len(given) == 2:
        return shape[axis] == given[1]
    return len(given) == 3 and shape[axis] == given[axis]


def _meeting(readings: Iterable[Axes], student: Shape, teacher: Shape) -> list[Axes]:
    return [(a, b) for a, b in readings if student[3 - a] == teacher[3 - b]]


def _told(names: Sequence[str], student: Shape, teacher: Shape) -> str:
    a, b = (["n", *shape[1:]] for shape in (student, teacher))
    told = [f"[{', '.join(map(str, shape))}]" for shape in (a, b)]
    return f'the student\'s "{names[0]}" {told[0]} and the teacher\'s "{names[1]}" {told[1]}'
