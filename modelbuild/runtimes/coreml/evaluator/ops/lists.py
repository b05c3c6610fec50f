"""Lists of tensors, which loops fill and read: TensorFlow's TensorArray.

A list is a tuple; writing gives a new one, and the elements are shared, so no operation may take one over. A list of
dynamic length grows as far as an index says, filled with zeros, as it also starts (MIL op definition of make_list;
Core ML fills with zeros, which coremltools' tests record). The type that a program states says nothing of this: it
has the initial length whether a list may grow or not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.kernels import Tensors, kernel

DTYPES = {
    "bool": torch.bool,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp64": torch.float64,  # in a widened program
    "int32": torch.int32,
}


class TensorList(NamedTuple):
    """`blank` stands for what was never written; it is None while the shape of the elements is not known."""

    elements: tuple[Tensor | None, ...]
    dtype: torch.dtype
    blank: Tensor | None
    grows: bool

    def read(self, index: int) -> Tensor:
        if not 0 <= index < len(self.elements):
            raise ValueError(f"index {index} is outside a list of length {len(self.elements)}")
        element = self.elements[index]
        element = self.blank if element is None else element
        if element is None:
            raise ValueError(f"element {index} is read and no element was ever written to tell its shape")
        return element

    def shown(self) -> list[Tensor | None]:
        """The elements, blanks included; None for those of no known shape."""
        return [self.blank if element is None else element for element in self.elements]

    def written(self, entries: list[tuple[int, Tensor]]) -> TensorList:
        """A list with each tensor at its index; of two at the same index the later one."""
        elements, blank = list(self.elements), self.blank
        for index, value in entries:
            blank = self._blank_like(value, blank)
            self._make_room(elements, index)
            elements[index] = value
        return TensorList(tuple(elements), self.dtype, blank, self.grows)

    def _blank_like(self, value: Tensor, blank: Tensor | None) -> Tensor:
        if blank is None:
            blank = torch.zeros_like(value)
        if value.dtype != self.dtype or value.shape != blank.shape:
            wanted = f"{self.dtype}{list(blank.shape)}"
            fact = f"{value.dtype}{list(value.shape)} is written to a list of {wanted}"
            raise ValueError(fact.replace("torch.", ""))
        return blank

    def _make_room(self, elements: list[Tensor | None], index: int) -> None:
        if index < 0 or (index >= len(elements) and not self.grows):
            bound = "length" if self.grows else "the fixed length"
            raise ValueError(f"index {index} is outside a list of {bound} {len(elements)}")
        elements.extend([None] * (index + 1 - len(elements)))


@kernel("make_list")
def make_list(
    elem_shape: Tensors = (), init_length: int = 1, dynamic_length: bool = True, dtype: str = "fp32"
) -> TensorList:
    """A list of zeros; an axis given by a name instead of a length is known from the first element written."""
    if dtype not in DTYPES:
        raise ValueError(f'dtype "{dtype}" is not one of {", ".join(sorted(DTYPES))}')
    if init_length < 0:
        raise ValueError(f"a list cannot start with {init_length} elements")
    known = [axis for each in elem_shape if isinstance(each, Tensor) for axis in each.reshape(-1).tolist()]
    named = any(isinstance(each, str) for each in elem_shape)
    blank = None if named else torch.zeros(known, dtype=DTYPES[dtype])
    return TensorList((None,) * init_length, DTYPES[dtype], blank, dynamic_length)


@kernel("list_length")
def list_length(ls: TensorList) -> Tensor:
    """The length at this moment."""
    return torch.tensor(len(ls.elements), dtype=torch.int32)


@kernel("list_read")
def list_read(ls: TensorList, index: int) -> Tensor:
    """One element."""
    return ls.read(index)


@kernel("list_write")
def list_write(ls: TensorList, index: int, value: Tensor) -> TensorList:
    """The list with one element replaced."""
    return ls.written([(index, value)])


@kernel("list_gather", fresh=True)
def list_gather(ls: TensorList, indices: Tensor) -> Tensor:
    """Elements by their indices, stacked along a new first axis."""
    chosen = [ls.read(index) for index in indices.reshape(-1).tolist()]
    if chosen:
        return torch.stack(chosen)
    if ls.blank is None:
        raise ValueError("nothing is gathered from a list whose elements have no known shape")
    return ls.blank.new_zeros((0, *ls.blank.shape))


@kernel("list_scatter")
def list_scatter(ls: TensorList, indices: Tensor, value: Tensor) -> TensorList:
    """The list with the rows of `value` at `indices`."""
    places = indices.reshape(-1).tolist()
    if len(places) != value.shape[0]:
        raise ValueError(f"{value.shape[0]} values for {len(places)} indices")
    return ls.written(list(zip(places, value.unbind(0), strict=True)))
