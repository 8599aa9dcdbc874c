"""Greedy decoding, one position at a time, in which nothing is computed twice (METHOD 1.4).

Position queries are the same for every picture, and content is a sum of a position and a character: what the layers
make of them before they look at anything else is computed once a call, for all positions and characters. A step then
reads only those weights that its own rows have to pass. Alone in its batch a word waits for these weights more than
for anything else, which copies of them in int8 make shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from students.decoder import DecoderLayer, KeysValues, QueryDecoder
from students.errors import UserError

Project = Callable[[Tensor], Tensor]
"""A linear map of the last dimension."""
DecoderDtype = Literal["float32", "int8"]
"""How the weights that every step reads are held."""
FEW = 2**13
"""Numbers up to which an operation costs its call rather than its arithmetic."""


class Projections(NamedTuple):
    """The linear maps that a row passes in one layer."""

    ask: Project
    """To the query for the content."""
    answer: Project
    """From what was seen of the content."""
    look: Project
    """To the query for the memory."""
    tell: Project
    """From what was seen of the memory."""
    widen: Project
    """Into the MLP."""
    narrow: Project
    """Out of it."""

    @classmethod
    def of(cls, layer: DecoderLayer, linear: Linear) -> Projections:
        """Take a layer's own weights, as maps of one of the kinds below."""
        own, cross = layer.self_attn, layer.cross_attn

        def called(module: nn.Module) -> Project:
            # A plain Linear is called without the module around it, whatever stands in its place as it is.
            return linear(module.weight, module.bias) if type(module) is nn.Linear else module

        return cls(
            linear(*own.query_weights()), called(own.out_proj), linear(*cross.query_weights()),
            called(cross.out_proj), called(layer.linear1), called(layer.linear2),
        )  # fmt: skip


Linear = Callable[[Tensor, Tensor], Project]
"""Makes a map of a weight (O, D) and a bias (O,)."""


def of_rows(weight: Tensor, bias: Tensor) -> Project:
    """Map rows (N, D)."""
    return partial(F.linear, weight=weight, bias=bias)


def in_int8(weight: Tensor, bias: Tensor) -> Project:
    """Map rows (N, D) on the CPU with a copy of the weights in int8, a scale for each output; rows pass in bfloat16.

    Raises:
        UserError: for rows that torch's kernel, which takes 32 numbers at a time, can't cut evenly.
    """
    if weight.shape[1] % 32:
        raise UserError(
            f"int8 weights need a width that 32 divides, not {weight.shape[1]}; leave the decoder in float32"
        )
    weight, bias = weight.detach().cpu().float(), bias.detach().cpu().float()
    scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12).bfloat16()
    rounded = (weight / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return lambda rows: bias + torch._weight_int8pack_mm(rows.bfloat16(), rounded, scales)


class GreedySteps:
    """A decoder made ready to read a batch position by position.

    Args:
        decoder: the layers; their dropout is left out in whatever mode they are.
        memory: what `QueryDecoder.memory_keys` gave of N pictures.
        queries: (P, D) position queries of the positions to decode.
        characters: (C, D) embeddings of all characters.
        projections: of the layers (`of_rows`, `in_int8`), when others than their own are to be used.
    """

    def __init__(
        self, decoder: QueryDecoder, memory: Sequence[KeysValues], queries: Tensor, characters: Tensor,
        projections: Sequence[Projections] | None = None,
    ) -> None:  # fmt: skip
        layers = decoder.stack
        chosen = projections or [Projections.of(layer, of_rows) for layer in layers]
        self.layers = [StepLayer(*parts) for parts in zip(layers, chosen, memory, strict=True)]
        self.places, self.characters = queries, characters
        # The start token stands first and has no position; a character stands with the query that read it.
        self.offsets = torch.cat([torch.zeros_like(queries[:1]), queries[:-1]])
        self.table = ContentTable(layers[:1] if decoder.updates_content else layers, self.offsets, characters)
        self.kept = KeptRows(self.table.layers, len(queries))
        self.updated = [KeptRows(1, len(queries)) for _ in layers[self.table.layers :]]
        self.first = F.linear(layers[0].norm_q(queries), *layers[0].self_attn.query_weights())
        self.norm = _norm(decoder.norm)

    def step(self, position: int, ids: Tensor) -> Tensor:
        """Take in the characters (N,) that stand before a position, and decode it: (N, D), normalised."""
        self.kept.add(self.table.rows(position, ids))
        content = self.offsets[position] + self.characters[ids] if self.updated else None
        rows = self.places[position].expand(len(ids), -1)
        query = self.first[position].expand(len(ids), -1)
        pairs = [] if self.updated else self.kept.pairs()
        for number, layer in enumerate(self.layers):
            if content is None:
                pair = pairs[number]
            else:
                pair, content = self._through(number, content)
            rows = layer(rows, query if number == 0 else layer.queries(rows), pair)
        return self.norm(rows)

    def _through(self, number: int, content: Tensor) -> tuple[KeysValues, Tensor]:
        """Let the new content row (N, D) pass a layer: what can be seen of the content there, and the row after it."""
        kept, layer = self.updated[number - 1] if number else self.kept, self.layers[number]
        if number:
            kept.add(layer.content_row(content))
        pair = kept.pairs()[0]
        last = number == len(self.layers) - 1
        return pair, content if last else layer(content, layer.content_queries(content), pair)


class StepLayer:
    """One decoder layer for one row a word: what `DecoderLayer` computes in eval mode, and nothing around it.

    At batch 1 a step costs its operations and the reading of its weights. Modules, masks and dropout that do nothing
    would be a third of it, so they are left out, and heads are held as products in batches want them.

    Args:
        layer: whose norms are used.
        project: its linear maps.
        memory: keys and values of the pictures, each (N, heads, S, D / heads).
    """

    def __init__(self, layer: DecoderLayer, project: Projections, memory: KeysValues) -> None:
        self.layer, self.project = layer, project
        self.heads, self.channels = layer.self_attn.heads, layer.self_attn.width // layer.self_attn.heads
        self.norm_q, self.norm1, self.norm2 = _norm(layer.norm_q), _norm(layer.norm1), _norm(layer.norm2)
        self.keys, self.values = memory[0].mT.flatten(0, 1), memory[1].flatten(0, 1)

    def __call__(self, rows: Tensor, query: Tensor, content: KeysValues) -> Tensor:
        """Update rows (N, D) of either stream, given their queries (N, D) for the content that is kept."""
        project = self.project
        rows = rows + project.answer(self._attend(query, *content))
        rows = rows + project.tell(self._attend(project.look(self.norm1(rows)), self.keys, self.values))
        return rows + project.narrow(_gelu(project.widen(self.norm2(rows))))

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from (N, D) to keys (N heads, D / heads, S) and values (N heads, S, D / heads)."""
        weights = torch.bmm(query.reshape(-1, 1, self.channels), keys).softmax(dim=-1)
        return torch.bmm(weights, values).view(query.shape)

    def queries(self, rows: Tensor) -> Tensor:
        """Project position queries (N, D) for their look at the content."""
        return self.project.ask(self.norm_q(rows))

    def content_queries(self, rows: Tensor) -> Tensor:
        """Project content rows (N, D) for their look at the content."""
        return self.project.ask(self.layer.norm_c(rows))

    def content_row(self, rows: Tensor) -> Tensor:
        """Give keys and values of content rows (N, D): (1, 2, N, heads, D / heads)."""
        keys, values = self.layer.content_keys(rows[:, None])
        return torch.stack([keys, values])[None, :, :, :, 0]


class ContentTable:
    """Keys and values of every character at every position, for layers that see the embeddings themselves.

    Up to its spread a LayerNorm is linear. With p and e the embeddings of position and character less their means, g
    and b the norm's weight and bias, and W a projection: `LN(p + e) W = (p g W + e g W) / spread(p + e) + b W`. So
    positions and characters are projected apart, and a row is made of two.

    Args:
        layers: whose keys and values are wanted.
        places: (P, D) what is added to the character that is read at each position.
        characters: (C, D) embeddings of all characters.
    """

    def __init__(self, layers: Sequence[DecoderLayer], places: Tensor, characters: Tensor) -> None:
        self.layers, self.heads, width = len(layers), layers[0].self_attn.heads, places.shape[1]
        p, e = (rows - rows.mean(dim=-1, keepdim=True) for rows in (places, characters))
        squares = p.square().sum(dim=-1)[:, None] + e.square().sum(dim=-1) + 2 * p @ e.T
        self.scale = (squares.clamp(min=0) / width + layers[0].norm_c.eps).rsqrt()
        both, made = torch.cat([p, e]), []
        for layer in layers:
            weight, bias = layer.self_attn.key_weights()
            rows = F.linear(torch.cat([both * layer.norm_c.weight, layer.norm_c.bias[None]]), weight)
            rows = torch.cat([rows[:-1], rows[-1:] + bias])
            made += [rows[:, :width] * layer.self_attn.scale, rows[:, width:]]
        self.places, self.characters, self.bias = torch.cat(made, dim=-1).split([len(p), len(e), 1])

    def rows(self, position: int, ids: Tensor) -> Tensor:
        """Give keys and values of the characters (N,) at a position: (layers, 2, N, heads, D / heads)."""
        sums = self.places[position] + self.characters[ids]
        rows = torch.addcmul(self.bias, sums, self.scale[position, ids, None])
        return rows.view(len(ids), self.layers, 2, self.heads, -1).permute(1, 2, 0, 3, 4)


class KeptRows:
    """Keys and values of the content so far, in some layers, laid out for products in batches.

    Args:
        layers: how many.
        steps: rows that there will be at most.
    """

    keys: Tensor
    """(layers, N, heads, D / heads, steps)."""
    values: Tensor
    """(layers, N, heads, steps, D / heads)."""

    def __init__(self, layers: int, steps: int) -> None:
        self.layers, self.steps, self.length = layers, steps, 0

    def add(self, row: Tensor) -> None:
        """Add one row, (layers, 2, N, heads, D / heads)."""
        keys, values = row.unbind(1)
        # What a gradient has to come back to can't be written over: there the rows grow one by one.
        if self.length == 0:
            room = 0 if row.requires_grad else self.steps
            self.keys = keys.new_empty(*keys.shape, room)
            self.values = self.keys.mT.contiguous()
        if row.requires_grad:
            self.keys = torch.cat([self.keys, keys[..., None]], -1)
            self.values = torch.cat([self.values, values[..., None, :]], -2)
        else:
            self.keys[..., self.length] = keys
            self.values[..., self.length, :] = values
        self.length += 1

    def pairs(self) -> list[KeysValues]:
        """Give keys (N heads, D / heads, S) and values (N heads, S, D / heads) of each layer."""
        keys, values = (rows.flatten(1, 2) for rows in (self.keys, self.values))
        return list(zip(keys[..., : self.length].unbind(), values[:, :, : self.length].unbind(), strict=True))


def _norm(norm: nn.LayerNorm) -> Project:
    """Call a LayerNorm without the module around it."""
    shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps
    return lambda rows: torch.layer_norm(rows, shape, weight, bias, eps)


def _gelu(rows: Tensor) -> Tensor:
    """Compute GELU of one row or few: there the kernel of `F.gelu` takes longer to set up than these take in all."""
    if rows.numel() > FEW:
        return F.gelu(rows)
    return torch.addcmul(rows, rows, torch.erf(rows * math.sqrt(0.5))).mul(0.5)
