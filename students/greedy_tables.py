"""What greedy decoding computes ahead of its steps, and what it keeps from one step to the next.

Content is a sum of a position and a character, which no picture changes. What the layers make of it is therefore a
table: of keys and values, and for a word alone of what these do to a row, the projections around them included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from students.decoder import DecoderLayer, KeysValues, QueryDecoder
from students.projections import Projections, of_longer

LINE = 16
"""Numbers in a cache line: rows as long as some of them begin at one."""


class DecodingTables:
    """What greedy decoding needs of the weights alone.

    Args:
        decoder: the layers.
        queries: (P, D) position queries.
        characters: (C, D) embeddings of all characters.
    """

    folded: FoldedTable | None = None
    """For words that are alone in their batch; where it pays."""
    projections: list[Projections] | None = None
    """Of the layers, laid out to be read fast; where it pays."""

    def __init__(self, decoder: QueryDecoder, queries: Tensor, characters: Tensor) -> None:
        layers = decoder.stack
        self.places, self.characters = queries, characters
        # The start token stands first and has no position; a character stands with the query that read it.
        self.offsets = torch.cat([torch.zeros_like(queries[:1]), queries[:-1]])
        self.content = ContentTable(layers[:1] if decoder.updates_content else layers, self.offsets, characters)
        self.first = F.linear(layers[0].norm_q(queries), *layers[0].self_attn.query_weights())

    def complete(self, decoder: QueryDecoder) -> DecodingTables:
        """Add what takes longer to make than a call saves with it: for tables that are kept.

        There is no `folded` of layers that don't see the embeddings themselves, nor one that is larger than they are,
        nor one on a GPU, which waits for its operations rather than for weights.
        """
        layers, on_cpu = decoder.stack, self.places.device.type == "cpu"
        self.projections = [Projections.of(layer, of_longer) for layer in layers]
        plain = all(type(layer.self_attn.out_proj) is nn.Linear for layer in layers)
        numbers = len(layers) * FoldedTable.numbers(layers[0]) * (len(self.places) + len(self.characters) + 1)
        small = numbers <= sum(weight.numel() for weight in decoder.parameters())
        if plain and small and on_cpu and not decoder.updates_content:
            self.folded = FoldedTable(self.content, layers)
        return self


class KeptTables:
    """Tables that outlive a call, and are made anew when weights were written in place or moved.

    A copy of it, in memory or in another process, holds none yet.
    """

    def __init__(self) -> None:
        self._tables: DecodingTables | None = None
        self._state: list[tuple[int, int]] = []

    def __reduce__(self) -> tuple[type[KeptTables], tuple[()]]:
        return KeptTables, ()

    def get(self, weights: Iterable[Tensor], make: Callable[[], DecodingTables]) -> DecodingTables:
        """Give the tables of weights as they are now."""
        # Weights that were loaded under inference_mode can't be trained, and don't count how often they were written.
        state = [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights]
        if self._tables is None or state != self._state:
            self._tables, self._state = make(), state
        return self._tables


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


class FoldedTable:
    """What every character at every position does to a row, in layers that see the embeddings themselves.

    A head's score of a row x is `(x Q + q) k = x (Q k) + q k`, and a value v that it sees adds `v O` to the row, so the
    projections Q and O can be part of the table's keys and values. These are as many times longer as there are heads:
    for one word the rows that are kept are still shorter than the weights that need not be read any more.

    Args:
        table: keys and values.
        layers: of the table.
    """

    def __init__(self, table: ContentTable, layers: Sequence[DecoderLayer]) -> None:
        self.layers, self.heads, self.width = table.layers, table.heads, layers[0].self_attn.width
        attentions = [layer.self_attn for layer in layers]
        asked = [torch.cat([weight, bias[:, None]], 1) for weight, bias in (a.query_weights() for a in attentions)]
        queries = torch.stack(asked).unflatten(1, (self.heads, -1))
        answers = torch.stack([a.out_proj.weight.T for a in attentions]).unflatten(1, (self.heads, -1))
        padding = FoldedTable.numbers(layers[0]) // self.heads - 2 * self.width - 1

        def fold(rows: Tensor) -> Tensor:
            keys, values = rows.view(len(rows), self.layers, 2, self.heads, -1).unbind(2)
            scores = torch.einsum("nlhc,lhcd->nlhd", keys, queries)
            added = torch.einsum("nlhc,lhcd->nlhd", values, answers)
            return F.pad(torch.cat([added, scores], dim=-1), (0, padding))

        self.scale = table.scale
        self.places, self.characters, (self.bias,) = fold(table.places), fold(table.characters), fold(table.bias)
        # The weights of a head sum to one, so each head brings its share of the bias.
        self.bias[..., : self.width] += torch.stack([a.out_proj.bias for a in attentions])[:, None] / self.heads

    @staticmethod
    def numbers(layer: DecoderLayer) -> int:
        """Count the numbers of one row in one layer: of each head D for the values, D for the scores, their bias."""
        return layer.self_attn.heads * LINE * -(-(2 * layer.self_attn.width + 1) // LINE)


class FoldedRows:
    """What one word's content so far does to a row.

    Args:
        table: where it stands.
        steps: rows that there will be at most.
    """

    def __init__(self, table: FoldedTable, steps: int) -> None:
        self.table, self.length = table, 0
        self.rows = table.bias.new_empty(table.layers, steps, *table.bias.shape[1:])

    def add(self, position: int, character: int) -> None:
        """Add the character that stands before a position."""
        table, self.length = self.table, position + 1
        sums = table.places[position] + table.characters[character]
        torch.addcmul(table.bias, sums, table.scale[position, character], out=self.rows[:, position])

    def update(self, number: int, row: Tensor, normed: Tensor) -> Tensor:
        """Add to a row (1, D) what it sees of the content in a layer, given what the layer's norm makes of it."""
        width = self.table.width
        kept = self.rows[number, : self.length].flatten(0, 1)
        scores = torch.addmv(kept[:, 2 * width], kept[:, width : 2 * width], normed[0])
        weights = scores.view(self.length, -1).softmax(dim=0)
        return torch.addmm(row, weights.view(1, -1), kept[:, :width])


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
