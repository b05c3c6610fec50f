"""Cases of non-maximum suppression."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(27)
BEFORE_IOS17, FROM_IOS17 = ("iOS15", "iOS16"), ("iOS17", "iOS18")


def overlap(a, b):
    """Intersection over union of two boxes given as centre and size."""
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (0, 1)
    ]
    if min(sides) <= 0:
        return 0.0
    shared = sides[0] * sides[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def suppressed(boxes, scores, most, share, least, per_class):
    """The outputs of iOS 15: boxes [n, B, 4], scores [n, B, K]; a box falls to any better one that was kept."""
    result = [np.zeros((len(boxes), most, 4)), np.zeros((len(boxes), most, scores.shape[-1]))]
    numbers, counts = np.full((len(boxes), most), -1), np.zeros(len(boxes), int)
    for n in range(len(boxes)):
        best, group = scores[n].max(axis=-1), scores[n].argmax(axis=-1)
        kept: list[int] = []
        ranked = sorted(range(len(best)), key=lambda i, best=best: (-best[i], i))
        for i in (each for each in ranked if best[each] >= least):
            rivals = [j for j in kept if not per_class or group[j] == group[i]]
            if all(overlap(boxes[n, i], boxes[n, j]) <= share for j in rivals):
                kept.append(i)
        kept = (kept or ranked[:1])[:most]
        for place, i in enumerate(kept):
            result[0][n, place], result[1][n, place], numbers[n, place] = boxes[n, i], scores[n, i], i
        counts[n] = len(kept)
    return *result, numbers, counts


def nms(label, boxes, scores, most, share, least=None, per_class=None) -> Case:
    """`least` None: as from iOS 17 on, with the boxes in the last axis."""
    late = least is None
    given = {} if per_class is None else {"per_class_suppression": per_class}

    def build(f, boxes, scores):
        threshold = {} if late else {"score_threshold": f(least)}
        return mb.non_maximum_suppression(
            boxes=boxes, scores=scores, iou_threshold=f(share), max_boxes=most, **threshold, **given
        )

    def expected(boxes, scores):
        if not late:
            return suppressed(boxes, scores, most, share, least, bool(per_class))
        by_box = boxes.swapaxes(1, 2), scores.swapaxes(1, 2)
        kept, marks, numbers, _ = suppressed(*by_box, most, share, -np.inf, bool(per_class))
        return kept.swapaxes(1, 2), marks.swapaxes(1, 2), numbers

    if late:
        boxes, scores = boxes.swapaxes(1, 2), scores.swapaxes(1, 2)
    return Case(
        "non_maximum_suppression",
        label,
        {"boxes": boxes, "scores": scores},
        build,
        expected,
        targets=FROM_IOS17 if late else BEFORE_IOS17,
    )


def both(label, boxes, scores, most, share, per_class=None, least=-1000.0) -> list[Case]:
    return [
        nms(f"{label}, iOS 15", boxes, scores, most, share, least, per_class),
        nms(f"{label}, iOS 17", boxes, scores, most, share, None, per_class),
    ]


# Whole numbers of pixels: exact in half precision, and far from any threshold used.
CROWD = np.concatenate([rng.integers(0, 12, (2, 14, 2)), rng.integers(3, 9, (2, 14, 2))], axis=-1).astype(
    float
)
MARKS = rng.permutation(2 * 14 * 3).reshape(2, 14, 3) / 8 - 4
# Half of the first lies in the second, a third in all of both; the third box touches the second at its side.
ROW = np.array([[[2.0, 2.0, 4.0, 4.0], [4.0, 2.0, 4.0, 4.0], [8.0, 2.0, 4.0, 4.0]]])
FALLING = np.array([[[3.0], [2.0], [1.0]]])
TWIN = np.repeat(ROW[:, :1], 3, axis=1)
FLAT = np.array([[[2.0, 2.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0], [2.0, 2.0, 4.0, 0.0]]])
WIDE = np.array([[[400.0, 400.0, 400.0, 400.0], [402.0, 400.0, 400.0, 400.0], [900.0, 400.0, 400.0, 400.0]]])

CASES = [
    *both("crowd", CROWD, MARKS, 6, 0.3),
    *both("crowd, every box has room", CROWD, MARKS, 20, 0.3, False),
    *both("crowd, class by class", CROWD, MARKS, 20, 0.3, True),
    *both("crowd, few boxes, class by class", CROWD, MARKS, 3, 0.3, True),
    *both("overlap allowed", ROW, FALLING, 3, 0.5),
    *both("overlap not allowed", ROW, FALLING, 3, 0.25),
    *both("none allowed, sides may touch", ROW, FALLING, 3, 0.0),
    *both("equal scores, the first wins", TWIN, np.ones((1, 3, 2)), 2, 0.5),
    *both("equal boxes, all allowed", TWIN, FALLING, 3, 1.0),
    *both("boxes without area", FLAT, FALLING, 3, 0.5),
    *both("areas beyond half precision", WIDE, FALLING, 3, 0.5),
    *both("best box last", ROW, FALLING[:, ::-1].copy(), 3, 0.25),
    nms("score threshold", CROWD, MARKS, 20, 0.3, 4.0),
    nms("score threshold, class by class", CROWD, MARKS, 20, 0.3, 4.0, True),
    nms("score equal to the threshold stays", ROW, FALLING, 3, 0.5, 2.0),
    nms("no score reaches the threshold", ROW, FALLING[:, ::-1].copy(), 2, 0.5, 5.0),
    nms(
        "as Apple measured it",
        np.array([[[0.0] * 4, [1.0] * 4, [2.0] * 4, [3.0] * 4]]),
        np.array([[[-3.5], [9.375], [2.25], [0.75]]]),
        2,
        0.2,
        0.4,
        True,
    ),
]
