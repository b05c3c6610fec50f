"""A small BERT that turns a sentence into one vector of length 1; depth and width make it teacher or student."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UNSEEN = -1e4  # added to the score of padding: softmax gives it 0, and float16 still holds the sum
EPSILON = 1e-12


class Encoder(nn.Module):
    """Token and position embeddings, `layers` transformer layers, the mean over the tokens, scaled to length 1.

    Inputs: ids [n, tokens] int64, token numbers, and mask [n, tokens] int64, 1 at a token and 0 at padding.
    Output "embedding": [n, width] float32. Parameters are named as in published BERT weights, so that those of
    any model of this kind load as they are. `freeze_embeddings` keeps the three embedding tables as they were
    loaded: they hold most of the parameters, and little of what a student has to learn.

    Source: Devlin et al., "BERT", arXiv:1810.04805; the mean over tokens is that of Reimers and Gurevych,
    "Sentence-BERT", arXiv:1908.10084, section 3.
    """

    output_names = ("embedding",)

    def __init__(
        self,
        layers: int = 6,
        width: int = 384,
        heads: int = 12,
        inner: int = 1536,
        vocabulary: int = 30522,
        positions: int = 512,
        freeze_embeddings: bool = False,
    ) -> None:
        super().__init__()
        self.embeddings = Embeddings(vocabulary, positions, width)
        self.encoder = Layers(layers, width, heads, inner)
        if freeze_embeddings:
            self.embeddings.requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        seen = mask.to(torch.float32)
        x = self.encoder(self.embeddings(ids), (1 - seen)[:, None, None, :] * UNSEEN)
        mean = (x * seen[:, :, None]).sum(1) / seen.sum(1, keepdim=True).clamp(min=1)
        return F.normalize(mean, dim=-1)


class Embeddings(nn.Module):
    """Token and position, of one segment; [n, tokens] int64 to [n, tokens, width]."""

    def __init__(self, vocabulary: int, positions: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width)
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width, EPSILON)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]] + self.token_type_embeddings.weight[0]
        normed: Tensor = self.LayerNorm(self.word_embeddings(ids) + places)
        return normed


class Layers(nn.Module):
    """One after another; x is [n, tokens, width], and bias broadcasts to the scores [n, heads, tokens, tokens]."""

    def __init__(self, layers: int, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(width, heads, inner) for _ in range(layers))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x, bias)
        return x


class Layer(nn.Module):
    """Self-attention, then two dense layers with GELU, each added to its input and normalised."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(width, heads), "output": Residual(width, width)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = Residual(inner, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, bias), x)
        result: Tensor = self.output(F.gelu(self.intermediate["dense"](x)), x)
        return result


class SelfAttention(nn.Module):
    """softmax(q k / sqrt(d) + bias) v by head, in plain operations that every runtime has."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (self._by_head(each(x)) for each in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
        read: Tensor = scores.softmax(-1) @ value
        return read.transpose(1, 2).flatten(2)

    def _by_head(self, x: Tensor) -> Tensor:
        parts: Tensor = x.unflatten(-1, (self.heads, -1))
        return parts.transpose(1, 2)


class Residual(nn.Module):
    """LayerNorm(dense(x) + before)."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, EPSILON)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dense(x) + before)
        return normed
