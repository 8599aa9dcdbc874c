"""From a picture's tokens to characters: teacher-forced under any masks, greedy, in one shot, and refined.

`CharacterDecoder` is what students, PARSeq and both branches of CLIP4STR have in common; they differ in whether the
content is updated between the layers (METHOD 1.4, 2, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from students.charset import Charset
from students.decoder import CharacterEmbedding, KeysValues, QueryDecoder, cloze_mask
from students.errors import UserError
from students.greedy import GreedySteps
from students.greedy_tables import DecodingTables, KeptTables
from students.projections import DecoderDtype, Projections, in_int8

Self = TypeVar("Self", bound="CharacterDecoder")


class CharacterDecoder(nn.Module):
    """Position queries, character embeddings, layers and head: reads characters off a memory.

    Wherever `memory` is asked for it is what `memory_keys` gave: a picture is projected once, however often it is
    looked at.

    Args:
        charset: alphabet; embeddings for its characters, end, start and padding.
        max_length: longest word in characters.
        width: channels D, the memory's too.
        depth: layers.
        heads: heads of each layer.
        mlp_ratio: hidden over width.
        dropout: in the layers and on queries and content.
        updates_content: content runs through all layers but the last (PARSeq, CLIP4STR; not CLIP-OCR).
    """

    def __init__(
        self, charset: Charset, max_length: int, width: int, depth: int, heads: int, mlp_ratio: float, dropout: float,
        updates_content: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.add_decoder(charset, max_length, width, depth, heads, mlp_ratio, dropout, updates_content)
        self.initialise()

    def add_decoder(
        self, charset: Charset, max_length: int, width: int, depth: int, heads: int, mlp_ratio: float, dropout: float,
        updates_content: bool,
    ) -> None:  # fmt: skip
        """Make the parts; for readers that add an encoder first, since checkpoints keep weights in that order."""
        self.charset, self.max_length = charset, max_length
        classes = len(charset.characters) + 1
        self.decoder = QueryDecoder(width, depth, heads, mlp_ratio, dropout, updates_content)
        self.text_embed = CharacterEmbedding(classes + 2, width)
        self.pos_queries = nn.Parameter(torch.zeros(1, max_length + 1, width))
        self.head = nn.Linear(width, classes)
        self.dropout = nn.Dropout(dropout)
        self.projections: list[Projections] | None = None
        self.kept_tables: KeptTables | None = None

    def initialise(self) -> None:
        """Draw the weights of all but an encoder: truncated normal 0.02 on Linear and Embedding (METHOD 1.4)."""
        nn.init.trunc_normal_(self.pos_queries, std=0.02)
        for name, part in self.named_modules():
            if name.startswith("encoder"):
                continue
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(part.weight, std=0.02)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)

    def memory_keys(self, memory: Tensor) -> list[KeysValues]:
        """Project tokens (N, S, D) to keys and values, one pair a layer."""
        return self.decoder.memory_keys(memory)

    def content(self, ids: Tensor) -> Tensor:
        """Embed (N, L) ids that begin with the start token: (N, L, D).

        The start token gets no position; character i stands with position query i - 1 (METHOD 1.4).
        """
        rows = self.text_embed(ids)
        positions = self.pos_queries[:, : ids.shape[1] - 1]
        return self.dropout(torch.cat([rows[:, :1], positions + rows[:, 1:]], dim=1))

    def queries(self, rows: int, positions: int) -> Tensor:
        """Give the first `positions` position queries for `rows` pictures: (rows, positions, D)."""
        return self.dropout(self.pos_queries[:, :positions].expand(rows, -1, -1))

    def streams(
        self,
        memory: Sequence[KeysValues],
        ids: Tensor,
        attn_mask: Tensor | None,
        content_mask: Tensor | None,
        closed: Tensor | None = None,
        positions: int | None = None,
    ) -> list[Tensor]:
        """Run T queries over a known context and give the query stream after each layer, (N, T, D), not normalised.

        Args:
            memory: of N pictures.
            ids: (N, L) context, the start token first.
            attn_mask: (T, L) True where a query may not look; None lets all look at everything.
            content_mask: (L, L) the same for content rows, where content is updated.
            closed: (N, L) context rows at which nobody looks.
            positions: T; None takes L.
        """
        query = self.queries(len(ids), ids.shape[1] if positions is None else positions)
        return self.decoder(query, self.content(ids), memory, _join(attn_mask, closed), _join(content_mask, closed))

    def logits(self, streams: Sequence[Tensor]) -> Tensor:
        """Turn what `streams` gave into logits (N, T, C + 1)."""
        return self.head(self.decoder.norm(streams[-1]))

    def closed(self, ids: Tensor) -> Tensor:
        """Say which rows of a true context (N, L) nobody looks at: the end and padding."""
        return (ids == self.charset.pad_id) | (ids == self.charset.end_id)

    def teacher_forced(
        self, memory: Sequence[KeysValues], target_ids: Tensor, query_mask: Tensor, content_mask: Tensor
    ) -> Tensor:
        """Predict known words under the masks of an order (see `students.permuted`).

        Args:
            memory: of N pictures.
            target_ids: (N, L + 2) start, characters, end, padding.
            query_mask: (T, T), T = L + 1.
            content_mask: (T, T).

        Returns:
            Logits (N, T, C + 1).
        """
        ids = target_ids[:, :-1]
        return self.logits(self.streams(memory, ids, query_mask, content_mask, self.closed(ids)))

    def steps(self, max_length: int | None) -> int:
        """Say how many positions are read: `max_length` + 1, never more than there are queries."""
        return self.max_length + 1 if max_length is None else min(max_length, self.max_length) + 1

    def choose_decoder_dtype(self, dtype: DecoderDtype) -> None:
        """Decode greedily with weights of another type from now on: a copy of those that the layers have now.

        Only the layers' linear maps change; embeddings, norms, the picture's keys and the head stay as they are.

        Raises:
            UserError: for a width that the type can't take.
        """
        layers = self.decoder.stack
        self.projections = None if dtype == "float32" else [Projections.of(layer, in_int8) for layer in layers]

    def prepare(self) -> None:
        """Keep from now on what greedy decoding computes of the weights alone, for words that come one at a time.

        It is computed anew when weights were written in place or moved, and kept no longer once training begins
        (`train()`). Weights changed through their `data`, or under a sharded training, go unseen: call this again.
        """
        self.kept_tables = KeptTables()

    def train(self: Self, mode: bool = True) -> Self:
        """See `torch.nn.Module`."""
        if mode:
            self.kept_tables = None
        return super().train(mode)

    def _tables(self, steps: int) -> DecodingTables:
        """Give what decoding needs of the weights alone: kept ones, or those of this call."""
        embedding = self.text_embed.embedding.weight

        def make(positions: int) -> DecodingTables:
            everyone = torch.arange(len(embedding), device=embedding.device)
            return DecodingTables(self.decoder, self.pos_queries[0, :positions], self.text_embed(everyone))

        # A gradient needs tables of its own, and under autocast they would be of the type of the moment.
        if self.kept_tables is None or torch.is_grad_enabled() or torch.is_autocast_enabled(embedding.device.type):
            return make(steps)
        weights = [*self.decoder.parameters(), embedding, self.pos_queries]
        return self.kept_tables.get(weights, lambda: make(self.max_length + 1).complete(self.decoder))

    def greedy(self, memory: Sequence[KeysValues], steps: int, stop: bool) -> Tensor:
        """Decode one position at a time, keys and values of both streams kept: (N, steps, C + 1) logits.

        Args:
            memory: of N pictures.
            steps: positions to decode.
            stop: stop early when every word has its end token.

        Raises:
            UserError: when weights of another type were chosen and the pictures are not on the CPU.
        """
        ids = self.starts(memory)[:, 0]
        if self.projections is not None and ids.device.type != "cpu":
            raise UserError("a decoder with int8 weights reads on the CPU; move the reader there, or choose float32")
        tables = self._tables(steps)
        decoding = GreedySteps(self.decoder, memory, tables, steps, self.projections)
        ended = torch.zeros_like(ids, dtype=torch.bool)
        logits = []
        for position in range(steps):
            logits.append(self.head(decoding.step(position, ids)))
            ids = logits[-1].argmax(dim=-1)
            ended |= ids == self.charset.end_id
            if stop and bool(ended.all()):
                break
        return torch.stack(logits, dim=1)

    def first(self, memory: Sequence[KeysValues], nar: bool, steps: int, stop: bool) -> Tensor:
        """Read for the first time, in one shot or greedily: see `nar` and `greedy`."""
        return self.nar(memory, steps) if nar else self.greedy(memory, steps, stop)

    def decode(
        self, memory: Sequence[KeysValues], nar: bool, refine_iters: int, max_length: int | None = None
    ) -> Tensor:
        """Read, and read again `refine_iters` times: logits (N, steps, C + 1) of the last reading.

        Greedy decoding stops when every word has its end token; a refinement then answers for all positions. With
        `max_length` given both take exactly min(max_length, longest word) + 1 steps.
        """
        steps = self.steps(max_length)
        logits = self.first(memory, nar, steps, stop=max_length is None)
        for _ in range(refine_iters):
            logits = self.refine(memory, logits, steps)
        return logits

    def nar(self, memory: Sequence[KeysValues], steps: int) -> Tensor:
        """Decode all positions at once, from the start token and the picture alone: (N, steps, C + 1) logits."""
        return self.logits(self.streams(memory, self.starts(memory), None, None, positions=steps))

    def refine(self, memory: Sequence[KeysValues], logits: Tensor, steps: int) -> Tensor:
        """Read again with the earlier reading as context, each position seeing all others: (N, steps, C + 1) logits.

        As published, the context is the earlier reading without its last position, closed from its first end token
        on, and where greedy decoding had stopped early it is shorter than the queries; updated content is masked
        like the queries. For more than one layer the published program fails after an early stop: here the mask
        of the content is cut to its length.

        Args:
            memory: of N pictures.
            logits: (N, S, C + 1) earlier ones, S <= steps.
            steps: positions to read.
        """
        ids = torch.cat([self.starts(memory), logits[:, :-1].argmax(dim=-1)], dim=1)
        closed = (ids == self.charset.end_id).int().cumsum(dim=-1) > 0
        length, mask = ids.shape[1], cloze_mask(steps, ids.device)
        return self.logits(self.streams(memory, ids, mask[:, :length], mask[:length, :length], closed, steps))

    def starts(self, memory: Sequence[KeysValues]) -> Tensor:
        """Give the start token for each picture: (N, 1)."""
        keys = memory[0][0]
        return torch.full((len(keys), 1), self.charset.start_id, device=keys.device)


def _join(attn_mask: Tensor | None, closed: Tensor | None) -> Tensor | None:
    """Join a mask (T, L) and closed rows (N, L) to one that broadcasts to (N, heads, T, L)."""
    if closed is None:
        return attn_mask
    rows = closed[:, None, None]
    return rows if attn_mask is None else attn_mask | rows
