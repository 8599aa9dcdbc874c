"""The query decoder: learned position queries read the characters so far and the picture (METHOD 1.4).

Position queries run through pre-norm layers; the content (start token and characters so far) is never updated
between the layers, each only looks at it through its own norm. That makes greedy decoding cheap: the keys and
values of a content row depend on that row alone, so each step adds one row to a cache.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention in the parameter layout of `torch.nn.MultiheadAttention`, keys and values apart.

    Plain matmul and softmax serve here: for these short rows they are several times faster on a CPU under
    bf16 than the fused kernel, and keys and values that are projected once can be kept.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.heads, self.dropout = width, heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.in_proj_weight, std=0.02)

    def _split(self, rows: Tensor) -> Tensor:
        batch, length, _ = rows.shape
        return rows.view(batch, length, self.heads, self.width // self.heads).transpose(1, 2)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Project (N, S, D) to keys and values, each (N, heads, S, D / heads)."""
        both = F.linear(source, self.in_proj_weight[self.width :], self.in_proj_bias[self.width :])
        keys, values = both.chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, forbidden: Tensor | None = None) -> Tensor:
        """Attend from (N, T, D) queries; `forbidden` broadcasts to (N, heads, T, S), True = may not look."""
        projected = F.linear(queries, self.in_proj_weight[: self.width], self.in_proj_bias[: self.width])
        query = self._split(projected) * (self.width // self.heads) ** -0.5
        scores = query @ keys.transpose(-2, -1)
        if forbidden is not None:
            scores = scores.masked_fill(forbidden, float("-inf"))
        weights = F.dropout(scores.softmax(dim=-1), self.dropout, self.training)
        mixed = (weights.to(values.dtype) @ values).transpose(1, 2).flatten(2)
        return self.out_proj(mixed)


class DecoderLayer(nn.Module):
    """One layer: query to content, query to memory, MLP; all pre-norm, LayerNorm eps 1e-5."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.self_attn = Attention(width, heads, dropout)
        self.cross_attn = Attention(width, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_q, self.norm_c = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def content_keys(self, content: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of content rows (N, L, D) under this layer's own norm."""
        return self.self_attn.keys_values(self.norm_c(content))

    def forward(
        self,
        query: Tensor,
        content: tuple[Tensor, Tensor],
        memory: tuple[Tensor, Tensor],
        forbidden: Tensor | None = None,
    ) -> Tensor:
        """Update (N, T, D) queries from content and memory keys and values."""
        query = query + self.dropout(self.self_attn(self.norm_q(query), *content, forbidden))
        query = query + self.dropout(self.cross_attn(self.norm1(query), *memory))
        hidden = self.dropout(F.gelu(self.linear1(self.norm2(query))))
        return query + self.dropout(self.linear2(hidden))


class QueryDecoder(nn.Module):
    """A stack of decoder layers with one final norm that every tap passes through."""

    def __init__(self, width: int, depth: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def _stack(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def memory_keys(self, memory: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the picture's tokens (N, S, D), one pair a layer, made once per picture."""
        return [layer.cross_attn.keys_values(memory) for layer in self._stack()]

    def forward(self, query: Tensor, content: Tensor, memory: Tensor, forbidden: Tensor) -> list[Tensor]:
        """Run all layers on (N, T, D) queries and content and return the query stream after each, not normalised."""
        taps = []
        for layer, memory_pair in zip(self._stack(), self.memory_keys(memory), strict=True):
            query = layer(query, layer.content_keys(content), memory_pair, forbidden)
            taps.append(query)
        return taps

    def step(
        self,
        query: Tensor,
        content: Tensor,
        cache: list[tuple[Tensor, Tensor]],
        memory: list[tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Decode one position: (N, 1, D) query and new content row, the cache of earlier rows.

        Returns the normalised output (N, 1, D) and the grown cache; an empty `cache` starts a word.
        """
        grown = []
        for number, layer in enumerate(self._stack()):
            keys, values = layer.content_keys(content)
            if cache:
                keys = torch.cat([cache[number][0], keys], dim=2)
                values = torch.cat([cache[number][1], values], dim=2)
            grown.append((keys, values))
            query = layer(query, (keys, values), memory[number])
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
