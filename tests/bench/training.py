"""Training the digits student: our loop against one written by hand, cached labels against the teacher in the loop.

    python tests/bench/training.py [ROUNDS] [STEPS] [WIDTH ...]        (default: 31 rounds of 300 steps)

All sides do the same work: a student of width 8, batches as the manifest has them, AdamW along a half cosine, half
cross-entropy and half softened kl, one thread. `fit` runs as in a build, with deterministic kernels; the loops by
hand are free of that.
The teachers in the loop, that of the manifest and one of width 32, or those of the widths asked for, are in
evaluation mode, without gradients. CPU seconds of this process, the sides in turns, medians; the ratios are of steps
a CPU second. Losses are compared at the end: a side with others did not do the same work.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelbuild.deterministic import deterministic
from modelbuild.training import loop, objective
from modelbuild.training.learner import Learner
from modelbuild.training.settings import Settings
from modelbuild.training.streams import Stream
from modelbuild.zoo import digits
from modelbuild.zoo.convnet import ConvNet

MANIFEST = json.loads((Path(__file__).parents[2] / "manifests" / "digits.json").read_text())
BATCH: int = MANIFEST["student"]["train"]["batch"]
RATE, DECAY, TEMPERATURE = 0.01, 0.01, 4.0
STUDENT, TEACHERS = 8, sorted({32, MANIFEST["teacher"]["args"]["width"]})
Labels = Callable[[Tensor, Tensor], Tensor]  # (images, rows) -> the teacher's logits


def rows_of(samples: int) -> Callable[[], Tensor]:
    """Rows of the next batch: every sample once, in a new order each time round."""
    generator, left = torch.Generator().manual_seed(0), list[Tensor]()

    def following() -> Tensor:
        if not left:
            order = torch.randperm(samples, generator=generator)[: samples - samples % BATCH]
            left.extend(reversed(torch.split(order, BATCH)))
        return left.pop()

    return following


def by_hand(images: Tensor, labels: Tensor, teacher: Labels, steps: int) -> float:
    """The loop as anyone would write it; the last loss."""
    student = ConvNet(STUDENT)
    optimiser = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    following, rise = rows_of(len(images)), max(1, round(0.1 * steps))
    student.train()
    for step in range(1, steps + 1):
        fall = 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise + 1)))
        optimiser.param_groups[0]["lr"] = RATE * (step / rise if step <= rise else fall)
        rows = following()
        image = images[rows]
        logits, wanted = student(image), teacher(image, rows)
        hard = F.cross_entropy(logits, labels[rows])
        soft = F.kl_div(
            F.log_softmax(logits / TEMPERATURE, 1),
            F.log_softmax(wanted / TEMPERATURE, 1),
            reduction="batchmean",
            log_target=True,
        )
        loss = 0.5 * hard + 0.5 * TEMPERATURE**2 * soft
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def ours(images: Tensor, labels: Tensor, logits: Tensor, steps: int) -> float:
    """The same by `fit`; the last loss."""
    train = {"steps": steps, "batch": BATCH, "lr": RATE, "weight_decay": DECAY, "device": "cpu"}
    data = Stream({"image": images}, {"label": labels, "teacher.logits": logits})
    terms = [
        *objective.task_terms(0.5, {"label": labels.numpy()}, "bench"),
        *objective.soft_terms(
            {"kind": "kl", "weight": 0.5, "temperature": TEMPERATURE}, {"logits": True}, "bench"
        ),
    ]
    with deterministic(0):
        told = loop.fit(Learner(ConvNet(STUDENT)), data, None, terms, Settings.of(train, "bench"))
    return float(told["final_loss"])


def cpu(work: Callable[[], float]) -> tuple[float, float]:
    """CPU seconds of `work`, which begins with the same draws every time, and what it gives."""
    torch.manual_seed(0)
    began = time.process_time()
    loss = work()
    return time.process_time() - began, loss


def in_turns(rounds: int, works: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """CPU seconds of every work, the order turned round every time; the first round is warm-up.

    Raises AssertionError when they do not all give the same loss.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    losses = []
    for number in range(rounds + 1):
        for name in list(works) if number % 2 else reversed(list(works)):
            seconds, loss = cpu(works[name])
            losses.append(loss)
            if number:
                taken[name].append(seconds)
    assert all(math.isclose(loss, losses[0], rel_tol=1e-2) for loss in losses), losses
    return taken


def live(teacher: nn.Module) -> Labels:
    """What `teacher` says, asked anew for every batch."""

    def labels(image: Tensor, _: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = teacher(image)
            return found

    return labels


def main(rounds: int = 31, steps: int = 300, *widths: int) -> None:
    torch.set_num_threads(1)
    arrays = digits.load("train")
    images, labels = torch.tensor(arrays["image"]), torch.tensor(arrays["label"])
    torch.manual_seed(0)
    teachers = {f"width {width} in the loop": ConvNet(width).eval() for width in widths or TEACHERS}
    # All say the same of what they see, so that all students can be compared; how long that takes is their own.
    cached = live(next(iter(teachers.values())))(images, labels)
    works: dict[str, Callable[[], float]] = {
        "fit": lambda: ours(images, labels, cached, steps),
        "by hand": lambda: by_hand(images, labels, lambda _, rows: cached[rows], steps),
    }
    for name, teacher in teachers.items():
        asked = live(teacher)
        works[name] = lambda asked=asked: by_hand(  # type: ignore[misc]
            images, labels, lambda image, rows: (asked(image, rows), cached[rows])[1], steps
        )
    taken = in_turns(rounds, works)
    medians = {name: statistics.median(each) for name, each in taken.items()}
    for name, seconds in medians.items():
        print(f"{name:>20}: {steps / seconds:6.0f} steps/s, {1e6 * seconds / steps:6.0f} us a step")
    for other in list(works)[1:]:
        pairs = statistics.median(b / a for a, b in zip(taken["fit"], taken[other], strict=True))
        target = 0.95 if other == "by hand" else 3.0
        ratio = medians[other] / medians["fit"]
        print(f"fit against {other}: {ratio:.3f} (median of pairs {pairs:.3f}; target {target})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
