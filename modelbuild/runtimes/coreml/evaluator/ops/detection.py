"""What follows a detector: non-maximum suppression."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.kernels import Opset, kernel

IOS17 = 7


def _overlap(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of `box` [4] with each of `others` [n, 4], given as centre and size; 0 without area."""
    low = torch.maximum(box[:2] - box[2:].abs() / 2, others[:, :2] - others[:, 2:].abs() / 2)
    high = torch.minimum(box[:2] + box[2:].abs() / 2, others[:, :2] + others[:, 2:].abs() / 2)
    shared = (high - low).clamp(min=0).prod(-1)
    areas = box[2:].abs().prod() + others[:, 2:].abs().prod(-1)
    return torch.where(shared > 0, shared / (areas - shared), 0.0)


def _selected(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_boxes: int,
    per_class: bool,
) -> list[int]:
    """The boxes that stay, best first (of equals the first); where none passes the threshold, the best alone."""
    best = scores.amax(-1)
    classes = scores.argmax(-1)
    order = best.argsort(descending=True, stable=True)
    left = order[best[order] >= score_threshold]
    if not len(left):
        return order[: min(1, max_boxes)].tolist()
    chosen: list[int] = []
    while len(left) and len(chosen) < max_boxes:
        first, rest = left[0], left[1:]
        chosen.append(int(first))
        stays = ~(_overlap(boxes[first], boxes[rest]) > iou_threshold)
        if per_class:
            stays |= classes[rest] != classes[first]
        left = rest[stays]
    return chosen


@kernel("non_maximum_suppression", fresh=True)
def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_boxes: int,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
    *,
    opset: Opset,
) -> tuple[Tensor, ...]:
    """Boxes (centre and size), scores and numbers of those that no better box overlaps, filled up with 0 and -1.

    A box counts with its best class. From iOS 17 on the boxes are the last axis, there is no score threshold, and
    how many were chosen is not told. As Core ML does by the tests of coremltools, at least one box is chosen.
    """
    late = opset >= IOS17
    if late != (score_threshold is None):
        raise ValueError("score_threshold is an argument before iOS 17, and none from there on")
    least = -math.inf if score_threshold is None else score_threshold
    by_box = (boxes.mT, scores.mT) if late else (boxes, scores)
    count = len(boxes)
    kept_boxes = boxes.new_zeros((count, max_boxes, 4))
    kept_scores = scores.new_zeros((count, max_boxes, by_box[1].shape[-1]))
    numbers = torch.full((count, max_boxes), -1, dtype=torch.int32)
    totals = torch.zeros(count, dtype=torch.int32)
    for n, (box, score) in enumerate(zip(*by_box, strict=True)):
        chosen = _selected(box.float(), score.float(), iou_threshold, least, max_boxes, per_class_suppression)
        kept = len(chosen)
        kept_boxes[n, :kept], kept_scores[n, :kept] = box[chosen], score[chosen]
        numbers[n, :kept], totals[n] = torch.tensor(chosen, dtype=torch.int32), kept
    if late:
        return kept_boxes.mT, kept_scores.mT, numbers
    return kept_boxes, kept_scores, numbers, totals
