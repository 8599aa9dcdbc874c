"""Greedy decoding, one position at a time, in which nothing is computed twice (METHOD 1.4).

What depends on positions and characters only is computed ahead (`students.greedy_tables`), so a step reads only those
weights that its own rows have to pass. Alone in its batch a word waits for these weights more than for anything else:
how they lie in memory, and in what type, is up to `students.projections`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from students.decoder import DecoderLayer, KeysValues, QueryDecoder
from students.greedy_tables import DecodingTables, FoldedRows, KeptRows
from students.projections import Project, Projections, of_rows

FEW = 2**13
"""Numbers up to which an operation costs its call rather than its arithmetic."""
HALF, ROOT_HALF = torch.tensor(0.5), torch.tensor(math.sqrt(0.5))
"""As tensors: one would be made of a number in each call."""


class GreedySteps:
    """A decoder made ready to read a batch position by position.

    Args:
        decoder: the layers; their dropout is left out in whatever mode they are.
        memory: what `QueryDecoder.memory_keys` gave of N pictures.
        tables: of the positions to decode, or of more.
        steps: positions to decode.
        projections: of the layers, when others than those of the tables, or their own, are to be used.
    """

    def __init__(
        self, decoder: QueryDecoder, memory: Sequence[KeysValues], tables: DecodingTables, steps: int,
        projections: Sequence[Projections] | None = None,
    ) -> None:  # fmt: skip
        layers = decoder.stack
        chosen = projections or tables.projections or [Projections.of(layer, of_rows) for layer in layers]
        self.layers = [StepLayer(*parts) for parts in zip(layers, chosen, memory, strict=True)]
        self.tables, self.norm = tables, _norm(decoder.norm)
        alone = len(memory[0][0]) == 1
        self.folded = FoldedRows(tables.folded, steps) if tables.folded is not None and alone else None
        self.kept = KeptRows(tables.content.layers, steps)
        self.updated = [KeptRows(1, steps) for _ in layers[tables.content.layers :]]

    def step(self, position: int, ids: Tensor) -> Tensor:
        """Take in the characters (N,) that stand before a position, and decode it: (N, D), normalised."""
        if self.folded is not None:
            return self.norm(self._alone(self.folded, position, ids))
        tables = self.tables
        self.kept.add(tables.content.rows(position, ids))
        content = tables.offsets[position] + tables.characters[ids] if self.updated else None
        rows = tables.places[position].expand(len(ids), -1)
        query = tables.first[position].expand(len(ids), -1)
        pairs = [] if self.updated else self.kept.pairs()
        for number, layer in enumerate(self.layers):
            if content is None:
                pair = pairs[number]
            else:
                pair, content = self._through(number, content)
            rows = layer(rows, query if number == 0 else layer.queries(rows), pair)
        return self.norm(rows)

    def _alone(self, content: FoldedRows, position: int, ids: Tensor) -> Tensor:
        """Let the query of one word, (1, D), pass the layers."""
        content.add(position, int(ids))
        rows = self.tables.places[position, None]
        for number, layer in enumerate(self.layers):
            rows = layer.look(content.update(number, rows, layer.norm_q(rows)))
        return rows

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
        return self.look(rows + self.project.answer(self._attend(query, *content)))

    def look(self, rows: Tensor) -> Tensor:
        """Update rows (N, D) that have seen the content: by the picture, and by the MLP."""
        project = self.project
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


def _norm(norm: nn.LayerNorm) -> Project:
    """Call a LayerNorm without the module around it."""
    shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps
    return lambda rows: torch.layer_norm(rows, shape, weight, bias, eps)


def _gelu(rows: Tensor) -> Tensor:
    """Compute GELU of one row or few: there the kernel of `F.gelu` takes longer to set up than these take in all."""
    if rows.numel() > FEW:
        return F.gelu(rows)
    return torch.addcmul(rows, rows, torch.erf(rows * ROOT_HALF)) * HALF
