"""Query decoder layers: position queries attend to the characters so far and to the picture.

Position queries run through pre-norm layers and attend to the content (start token and characters so far), which each
layer normalises in its own way. In CLIP-OCR the content is never updated between the layers; in PARSeq and CLIP4STR it
runs through the same layers, all but the last (docs/method.md, sections 1.4, 2 and 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of S tokens, each (N, heads, S, D / heads)."""


class Attention(nn.Module):
    """Multi-head attention in the parameter layout of `torch.nn.MultiheadAttention`, with keys and values given.

    Plain matmul and softmax: for sequences this short they are several times faster on a CPU under bf16 than the fused
    kernel, and keys and values that were projected once can be used again.

    Args:
        width: channels D.
        heads: attention heads.
        dropout: of the attention weights, in training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.heads, self.dropout = width, heads, dropout
        self.scale = (width // heads) ** -0.5
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.in_proj_weight, std=0.02)

    def _split_heads(self, rows: Tensor) -> Tensor:
        batch, length, _ = rows.shape
        return rows.view(batch, length, self.heads, self.width // self.heads).transpose(1, 2)

    def keys_values(self, source: Tensor) -> KeysValues:
        """Project (N, S, D) to keys and values, each (N, heads, S, D / heads); the keys come scaled."""
        both = F.linear(source, self.in_proj_weight[self.width :], self.in_proj_bias[self.width :])
        keys, values = both.chunk(2, dim=-1)
        return self._split_heads(keys * self.scale), self._split_heads(values)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Attend from (N, T, D) queries; `attn_mask` broadcasts to (N, heads, T, S), True = masked out."""
        projected = F.linear(queries, self.in_proj_weight[: self.width], self.in_proj_bias[: self.width])
        scores = self._split_heads(projected) @ keys.mT
        if attn_mask is not None:
            scores = scores.masked_fill(attn_mask, float("-inf"))
        weights = F.dropout(scores.softmax(dim=-1), self.dropout, self.training)
        mixed = (weights.to(values.dtype) @ values).transpose(1, 2).flatten(2)
        return self.out_proj(mixed)


class DecoderLayer(nn.Module):
    """One pre-norm layer: attention to content, attention to memory, MLP; LayerNorm eps 1e-5. Both streams share it.

    Args:
        width: channels D.
        heads: of both attentions.
        mlp_ratio: hidden over width.
        dropout: in training.
    """

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
        """Project content (N, L, D), under this layer's own norm, to keys and values."""
        return self.self_attn.keys_values(self.norm_c(content))

    def forward(
        self, query: Tensor, content: KeysValues, memory: KeysValues, attn_mask: Tensor | None = None
    ) -> Tensor:
        """Update (N, T, D) queries from keys and values of content and memory."""
        return self._update(query, self.norm_q(query), content, memory, attn_mask)

    def update_content(
        self, rows: Tensor, content: KeysValues, memory: KeysValues, attn_mask: Tensor | None = None
    ) -> Tensor:
        """Update (N, L, D) content for the next layer, as queries are but under the content's norm."""
        return self._update(rows, self.norm_c(rows), content, memory, attn_mask)

    def _update(
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
        """The layers, typed."""
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def updates_after(self, number: int) -> bool:
        """Whether the content runs through layer `number`, counted from 0."""
        return self.updates_content and number < len(self.layers) - 1

    def memory_keys(self, memory: Tensor) -> list[KeysValues]:
        """Project a picture's tokens (N, S, D) to keys and values, one pair a layer, once per picture.

        They are laid out for the products that follow: many positions, or orders, attend to them one after the other.
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
        """Run all layers on T queries and L content rows; return the query stream after each layer, not normalised.

        Args:
            query: (N, T, D).
            content: (N, L, D).
            memory: from `memory_keys`.
            attn_mask: broadcasts to (N, heads, T, L), True = the query may not attend to that content row.
            content_mask: the same for content rows, (N, heads, L, L); used when content is updated.
        """
        taps = []
        for number, layer in enumerate(self.stack):
            pair = layer.content_keys(content)
            query = layer(query, pair, memory[number], attn_mask)
            taps.append(query)
            if self.updates_after(number):
                content = layer.update_content(content, pair, memory[number], content_mask)
        return taps

    def step(
        self, query: Tensor, content: Tensor, cache: Sequence[KeysValues], memory: Sequence[KeysValues]
    ) -> tuple[Tensor, list[KeysValues]]:
        """Decode one position, with keys and values of all earlier content cached.

        Greedy decoding in PyTorch and in an exported ONNX graph are loops around this step.

        Args:
            query: (N, 1, D) the position's query.
            content: (N, 1, D) the content row before it: the start token, or the character just read.
            cache: keys and values of the earlier content, one pair a layer; empty at the start of a word.
            memory: from `memory_keys`.

        Returns:
            The normalised output (N, 1, D), and the cache with the new row.
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
                content = layer.update_content(content, (keys, values), memory[number])
        return self.norm(query), grown


class CharacterEmbedding(nn.Module):
    """Character embeddings scaled by sqrt(width).

    Args:
        tokens: how many token ids there are.
        width: channels D.
    """

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.scale = math.sqrt(width)

    def forward(self, ids: Tensor) -> Tensor:
        """Look up (...,) ids: (..., D)."""
        return self.scale * self.embedding(ids)


def causal_mask(length: int, device: torch.device) -> Tensor:
    """Return the (length, length) mask of left-to-right decoding: True for content after position i."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


def blind_mask(length: int, device: torch.device) -> Tensor:
    """Return the (length, length) mask of non-autoregressive decoding: every query attends to the start alone."""
    return (torch.arange(length, device=device) > 0).expand(length, length)


def cloze_mask(length: int, device: torch.device) -> Tensor:
    """Return the (length, length) mask of a refinement: True for query i's own character, at i + 1, alone."""
    return causal_mask(length, device) & ~torch.ones(length, length, dtype=torch.bool, device=device).triu(2)
