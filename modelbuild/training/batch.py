"""Some samples and what is known of them: all that a network and a loss are given, and nothing of any loss.

What labels data with a teacher needs no more than this, so that another loss labels nothing anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

TEACHER, HIDDEN = "teacher.", "hidden."


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of some samples, in the order of `forward`, and their targets by name.

    Names of targets: "label" and "label.NAME" (ground truth), "teacher.NAME" (cached outputs of the teacher),
    "hidden.PATH" (its cached hidden states). Samples with ground truth come first: a target shorter than the
    batch belongs to its first samples.
    """

    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
