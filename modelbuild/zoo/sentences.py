"""8,000 sentences of WordNet as tokens, and by what an encoder of sentences is taught and judged on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelbuild.errors import RecipeError, did_you_mean

Array = NDArray[Any]
Floats = NDArray[np.float64]

HERE = "modelbuild.zoo.sentences"
PARTS = {"train": slice(0, 6000), "validation": slice(6000, 7000), "test": slice(7000, 8000)}
COLUMNS = 3
FEWEST = 3  # tokens: the one that opens a sentence, one of its own, the one that closes it
OUTPUT = "embedding"


def load(text: Path, tokenizer: Path, part: str = "train", tokens: int = 24) -> dict[str, Array]:
    """One part as "ids" and "mask" [n, tokens], and "label" [n], the number of the category; all int64.

    `text` has lines "category TAB kind TAB sentence": the first 6,000 are "train", the next 1,000 "validation" and
    the last 1,000 "test"; categories are numbered by name. `tokenizer` is a tokenizer.json. A sentence is cut to
    `tokens`, the two that open and close it included, or filled up with token 0; the mask is 1 up to there.
    Raises RecipeError for another part, for fewer than 3 tokens, for a line that is no such line, and when tokenizers
    is not installed.
    """
    if part not in PARTS:
        raise RecipeError(
            f"{HERE}:load", f'part "{part}" is not one of {", ".join(PARTS)}', did_you_mean(part, [*PARTS])
        )
    if tokens < FEWEST:
        raise RecipeError(f"{HERE}:load", f"tokens is {tokens}", f"A sentence needs {FEWEST} or more.")
    categories, sentences = _read(text)
    numbers = np.unique(categories, return_inverse=True)[1].astype(np.int64)
    rows = PARTS[part]
    ids, mask = _encoded(sentences[rows], tokenizer, tokens)
    return {"ids": ids, "mask": mask, "label": numbers[rows]}


def _read(text: Path) -> tuple[list[str], list[str]]:
    rows = [line.split("\t") for line in text.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows, 1):
        if len(row) != COLUMNS:
            fact = f"line {number} has {len(row)} fields"
            raise RecipeError(text.name, fact, "A line is: category TAB kind TAB sentence.")
    return [row[0] for row in rows], [row[2] for row in rows]


def _encoded(sentences: Sequence[str], tokenizer: Path, tokens: int) -> tuple[Array, Array]:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        remedy = "Run: pip install 'modelbuild[examples]'"
        raise RecipeError(f"{HERE}:load", "tokenizers is not installed", remedy) from error
    encoder = Tokenizer.from_file(str(tokenizer))
    encoder.enable_truncation(tokens)
    encoder.enable_padding(length=tokens)
    found = encoder.encode_batch(sentences)
    ids, mask = ([getattr(each, name) for each in found] for name in ("ids", "attention_mask"))
    return np.array(ids, np.int64), np.array(mask, np.int64)


def contrastive(
    outputs: Mapping[str, Tensor],
    truths: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    temperature: float = 0.1,
) -> Tensor:
    """Sentences of one category close, others apart: -log softmax over all others of s / temperature, s the cosine.

    The mean over the others of the same category, then over those sentences of the batch that have such others; 0
    where none has. The outputs [n, width] have length 1.

    Source: Khosla et al., "Supervised Contrastive Learning", arXiv:2004.11362, equation 2 (L_out).
    """
    vectors, labels = outputs[OUTPUT], truths["label"]
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    others = (vectors @ vectors.T / temperature).masked_fill(itself, -torch.inf).log_softmax(1)
    alike = (labels[:, None] == labels) & ~itself
    counts = alike.sum(1)
    means = others.masked_fill(~alike, 0).sum(1) / counts.clamp(min=1)
    return -means.sum() / (counts > 0).sum().clamp(min=1)


def nearest_in_top(outputs: Mapping[str, Array], truth: Mapping[str, Array], k: int = 10) -> Floats:
    """1 where the sentence that the teacher finds nearest is among the student's `k` nearest, else 0; [n].

    Both give vectors [n, width] of length 1. One that is as near as k others is not among them: an encoder to which
    all sentences are the same finds none.
    """
    student, teacher = _similarities(outputs[OUTPUT]), _similarities(truth[OUTPUT])
    wanted = np.take_along_axis(student, teacher.argmax(1)[:, None], 1)
    found: Floats = ((student >= wanted).sum(1) <= k).astype(np.float64)
    return found


def neighbour_category(outputs: Mapping[str, Array], truth: Mapping[str, Array]) -> Floats:
    """1 where the nearest other sentence is of the same category, else 0; of several as near, the share; [n]."""
    found = _similarities(outputs[OUTPUT])
    nearest = found == found.max(1, keepdims=True)
    alike = truth["label"][:, None] == truth["label"]
    share: Floats = (nearest & alike).sum(1) / nearest.sum(1)
    return share


def _similarities(vectors: Array) -> Array:
    """The cosine of all pairs [n, n]; -infinity on the diagonal, for none is its own neighbour."""
    found = vectors @ vectors.T
    np.fill_diagonal(found, -np.inf)
    return found
