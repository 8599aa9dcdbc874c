"""The query decoder: learned position queries read the characters so far and the picture (METHOD 1.4, 2, 3).

Position queries run through pre-norm layers and look at the content (start token and characters so far), through a
norm of each layer. In CLIP-OCR the content is never updated between the layers; in PARSeq and CLIP4STR it runs
through the same layers, all but the last. Either way greedy decoding is cheap: a content row depends on itself and
on earlier rows only, so each step adds one row of keys and values a layer to a cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of S rows, each (N, heads, S, D / heads)."""


class Attention(nn.Module):
    """Multi-head attention in the parameter layout of `torch.nn.MultiheadAttention`, keys and values apart.

    Plain matmul and softmax serve here: for these short rows they are several times faster on a CPU under
    bf16 than the fused kernel, and keys and values that are projected once can be kept.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.heads, self.dropout = width, heads, dropout
        self.scale = (width // heads) ** -0.5
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.in_proj_weight, std=0.02)

    def _split(self, rows: Tensor) -> Tensor:
        batch, length, _ = rows.shape
        return rows.view(batch, length, self.heads, self.width // self.heads).transpose(1, 2)

    def query_weights(self) -> tuple[Tensor, Tensor]:
        """Give weight and bias of the map to queries."""
        return self.in_proj_weight[: self.width], self.in_proj_bias[: self.width]

    def key_weights(self) -> tuple[Tensor, Tensor]:
        """Give weight and bias of the map to keys and values, one after the other."""
        return self.in_proj_weight[self.width :], self.in_proj_bias[self.width :]

    def keys_values(self, source: Tensor) -> KeysValues:
        """Project (N, S, D) to keys and values, each (N, heads, S, D / heads).

        Keys come with the scale of the scores in them: they are made once and looked at often.
        """
        both = F.linear(source, *self.key_weights())
        keys, values = both.chunk(2, dim=-1)
        return self._split(keys * self.scale), self._split(values)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Attend from (N, T, D) queries; `attn_mask` broadcasts to (N, heads, T, S), True = may not look."""
        scores = self._split(F.linear(queries, *self.query_weights())) @ keys.mT
        if attn_mask is not None:
            scores = scores.masked_fill(attn_mask, float("-inf"))
        weights = F.dropout(scores.softmax(dim=-1), self.dropout, self.training)
        mixed = (weights.to(values.dtype) @ values).transpose(1, 2).flatten(2)
        return self.out_proj(mixed)


class DecoderLayer(nn.Module):
    """One layer: rows to content, rows to memory, MLP; all pre-norm, LayerNorm eps 1e-5. Both streams share it."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.self_attn = Attention(width, heads, dropout)
        self.cross_attn = Attention(width, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_q, self.norm_c = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def content_keys(self, content: Tensor) -> KeysValues:
        """Keys and values of content rows (N, L, D) under this layer's own norm."""
        return self.self_attn.keys_values(self.norm_c(content))

    def forward(
        self, query: Tensor, content: KeysValues, memory: KeysValues, attn_mask: Tensor | None = None
    ) -> Tensor:
        """Update (N, T, D) queries from content and memory keys and values."""
        return self._stream(query, self.norm_q(query), content, memory, attn_mask)

    def update(self, rows: Tensor, content: KeysValues, memory: KeysValues, attn_mask: Tensor | None = None) -> Tensor:
        """Update (N, L, D) content rows for the next layer, as queries are but under the content's norm."""
        return self._stream(rows, self.norm_c(rows), content, memory, attn_mask)

    def _stream(
        self, rows: Tensor, normed: Tensor, content: KeysValues, memory: KeysValues, attn_mask: Tensor | None
    ) -> Tensor:
        rows = rows + self.dropout(self.self_attn(normed, *content, attn_mask))
        rows = rows + self.dropout(self.cross_attn(self.norm1(rows), *memory))
        hidden = self.dropout(F.gelu(self.linear1(self.norm2(rows))))
        return rows + self.dropout(self.linear2(hidden))


class QueryDecoder(nn.Module):
    """A stack of decoder layers with one final norm that every tap passes through.

    Args:
        width: channels D.
        depth: layers.
        heads: of both attentions.
        mlp_ratio: hidden over width.
        dropout: in training.
        updates_content: the content runs through the layers too, all but the last (PARSeq, CLIP4STR).
    """

    def __init__(
        self, width: int, depth: int, heads: int, mlp_ratio: float, dropout: float, updates_content: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.updates_content = updates_content

    @property
    def stack(self) -> list[DecoderLayer]:
        """The layers."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def updates_after(self, number: int) -> bool:
        """Say whether the content runs through this layer too."""
        return self.updates_content and number < len(self.layers) - 1

    def memory_keys(self, memory: Tensor) -> list[KeysValues]:
        """Keys and values of the picture's tokens (N, S, D), one pair a layer, made once per picture.

        They are laid out as products with them want it: many positions, or orders, look at them one after the other.
        """
        pairs = [layer.cross_attn.keys_values(memory) for layer in self.stack]
        return [(keys.mT.contiguous().mT, values.contiguous()) for keys, values in pairs]

    def forward(
        self,
        query: Tensor,
        content: Tensor,
        memory: Sequence[KeysValues],
        attn_mask: Tensor | None,
        content_mask: Tensor | None = None,
    ) -> list[Tensor]:
        """Run all layers on T queries and L content rows and return the query stream after each, not normalised.

        Args:
            query: (N, T, D).
            content: (N, L, D).
            memory: what `memory_keys` gave.
            attn_mask: broadcasts to (N, heads, T, L), True = the query may not look at that content row.
            content_mask: the same for content rows, (N, heads, L, L); used when content is updated.
        """
        taps = []
        for number, layer in enumerate(self.stack):
            pair = layer.content_keys(content)
            query = layer(query, pair, memory[number], attn_mask)
            taps.append(query)
            if self.updates_after(number):
                content = layer.update(content, pair, memory[number], content_mask)
        return taps

    def step(
        self, query: Tensor, content: Tensor, cache: Sequence[KeysValues], memory: Sequence[KeysValues]
    ) -> tuple[Tensor, list[KeysValues]]:
        """Decode one position: (N, 1, D) query and new content row, the cache of earlier rows.

        Returns the normalised output (N, 1, D) and the grown cache; an empty `cache` starts a word.
        """
        grown = []
        for number, layer in enumerate(self.stack):
            keys, values = layer.content_keys(content)
            if cache:
                keys = torch.cat([cache[number][0], keys], dim=2)
                values = torch.cat([cache[number][1], values], dim=2)
            grown.append((keys, values))
            query = layer(query, (keys, values), memory[number])
            if self.updates_after(number):
                content = layer.update(content, (keys, values), memory[number])
        return self.norm(query), grown


class CharacterEmbedding(nn.Module):
    """Character embeddings scaled by sqrt(width)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.scale = math.sqrt(width)

    def forward(self, ids: Tensor) -> Tensor:
        """Look up (...,) ids: (..., D)."""
        return self.scale * self.embedding(ids)


def causal_mask(length: int, device: torch.device) -> Tensor:
    """Give the (length, length) mask, True where query i may not look: content after position i."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


def blind_mask(length: int, device: torch.device) -> Tensor:
    """Give the (length, length) mask of a reading in one shot: every query sees the start alone."""
    return (torch.arange(length, device=device) > 0).expand(length, length)


def cloze_mask(length: int, device: torch.device) -> Tensor:
    """Give the (length, length) mask of a refinement: query i sees all content but its own character, at i + 1."""
    return causal_mask(length, device) & ~torch.ones(length, length, dtype=torch.bool, device=device).triu(2)
