"""CharacterDecoder: from a picture's tokens to characters, teacher-forced, autoregressive, in one pass, or refined.

Students, PARSeq and both branches of CLIP4STR share it; they differ in whether the content is updated between the
layers (docs/method.md, sections 1.4, 2 and 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from students.charset import Charset
from students.decoder import CharacterEmbedding, KeysValues, QueryDecoder, cloze_mask


class CharacterDecoder(nn.Module):
    """Position queries, character embeddings, decoder layers and a head that read characters from a memory.

    Wherever a method takes `memory` it is what `memory_keys` returned: a picture is projected once, however often the
    decoder attends to it.

    Args:
        charset: alphabet; there are embeddings for its characters, end, start and padding.
        max_length: longest word in characters.
        width: channels D, of the memory too.
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
        self.init_weights()

    def add_decoder(
        self, charset: Charset, max_length: int, width: int, depth: int, heads: int, mlp_ratio: float, dropout: float,
        updates_content: bool,
    ) -> None:  # fmt: skip
        """Add the modules; readers call it after adding an encoder, because checkpoints list weights in that order."""
        self.charset, self.max_length = charset, max_length
        classes = len(charset.characters) + 1
        self.decoder = QueryDecoder(width, depth, heads, mlp_ratio, dropout, updates_content)
        self.text_embed = CharacterEmbedding(classes + 2, width)
        self.pos_queries = nn.Parameter(torch.zeros(1, max_length + 1, width))
        self.head = nn.Linear(width, classes)
        self.dropout = nn.Dropout(dropout)

    def init_weights(self) -> None:
        """Draw all weights but an encoder's: truncated normal 0.02 (docs/method.md, section 1.4)."""
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

        The start token gets no position; character i is added to position query i - 1.
        """
        rows = self.text_embed(ids)
        positions = self.pos_queries[:, : ids.shape[1] - 1]
        return self.dropout(torch.cat([rows[:, :1], positions + rows[:, 1:]], dim=1))

    def queries(self, batch: int, positions: int) -> Tensor:
        """Return the first `positions` position queries for `batch` pictures: (batch, positions, D)."""
        return self.dropout(self.pos_queries[:, :positions].expand(batch, -1, -1))

    def streams(
        self,
        memory: Sequence[KeysValues],
        ids: Tensor,
        attn_mask: Tensor | None,
        content_mask: Tensor | None,
        key_padding_mask: Tensor | None = None,
        positions: int | None = None,
    ) -> list[Tensor]:
        """Run T queries over a given context; return the query stream after each layer, (N, T, D), not normalised.

        Args:
            memory: of N pictures.
            ids: (N, L) context, the start token first.
            attn_mask: (T, L), True where a query may not attend; None allows all.
            content_mask: (L, L) the same for content rows, where content is updated.
            key_padding_mask: (N, L), True for context rows that nothing attends to.
            positions: T; None takes L.
        """
        query = self.queries(len(ids), ids.shape[1] if positions is None else positions)
        masks = [_join_masks(mask, key_padding_mask) for mask in (attn_mask, content_mask)]
        return self.decoder(query, self.content(ids), memory, *masks)

    def logits(self, streams: Sequence[Tensor]) -> Tensor:
        """Turn the result of `streams` into logits (N, T, C + 1)."""
        return self.head(self.decoder.norm(streams[-1]))

    def key_padding_mask(self, ids: Tensor) -> Tensor:
        """Return the mask (N, L) of a true context that nothing attends to: the end token and padding."""
        return (ids == self.charset.pad_id) | (ids == self.charset.end_id)

    def teacher_forced(
        self, memory: Sequence[KeysValues], target_ids: Tensor, query_mask: Tensor, content_mask: Tensor
    ) -> Tensor:
        """Predict known words under the masks of one order (`students.permuted`).

        Args:
            memory: of N pictures.
            target_ids: (N, L + 2) start, characters, end, padding.
            query_mask: (T, T), T = L + 1.
            content_mask: (T, T).

        Returns:
            Logits (N, T, C + 1).
        """
        ids = target_ids[:, :-1]
        return self.logits(self.streams(memory, ids, query_mask, content_mask, self.key_padding_mask(ids)))

    def steps(self, max_length: int | None) -> int:
        """Return how many positions are decoded: `max_length` + 1, never more than there are queries."""
        return self.max_length + 1 if max_length is None else min(max_length, self.max_length) + 1

    def decode(
        self, memory: Sequence[KeysValues], nar: bool, refine_iters: int, max_length: int | None = None
    ) -> Tensor:
        """Decode, then refine `refine_iters` times: logits (N, steps, C + 1) of the last pass.

        Greedy decoding stops when every word has its end token; a refinement then covers all positions. With
        `max_length` given both take exactly min(max_length, longest word) + 1 steps.
        """
        steps = self.steps(max_length)
        logits = self.first_pass(memory, nar, steps, stop=max_length is None)
        for _ in range(refine_iters):
            logits = self.refine(memory, logits, steps)
        return logits

    def first_pass(self, memory: Sequence[KeysValues], nar: bool, steps: int, stop: bool) -> Tensor:
        """Decode without refinement: `nar` or `greedy`."""
        return self.nar(memory, steps) if nar else self.greedy(memory, steps, stop)

    def greedy(self, memory: Sequence[KeysValues], steps: int, stop: bool) -> Tensor:
        """Decode one position at a time: (N, steps, C + 1) logits.

        Args:
            memory: of N pictures.
            steps: positions to decode.
            stop: stop early when every word has its end token.
        """
        content = self.text_embed(self.start_ids(memory))
        ended = torch.zeros(len(content), dtype=torch.bool, device=content.device)
        cache: list[KeysValues] = []
        logits = []
        for position in range(steps):
            query = self.pos_queries[:, position : position + 1]
            output, cache = self.decoder.step(query.expand(len(content), -1, -1), content, cache, memory)
            logits.append(self.head(output))
            ids = logits[-1].argmax(dim=-1)
            ended |= ids[:, 0] == self.charset.end_id
            if stop and bool(ended.all()):
                break
            content = query + self.text_embed(ids)
        return torch.cat(logits, dim=1)

    def nar(self, memory: Sequence[KeysValues], steps: int) -> Tensor:
        """Decode all positions at once, from the start token and the picture alone: (N, steps, C + 1) logits."""
        return self.logits(self.streams(memory, self.start_ids(memory), None, None, positions=steps))

    def refine(self, memory: Sequence[KeysValues], logits: Tensor, steps: int) -> Tensor:
        """Decode again with the earlier prediction as context: (N, steps, C + 1) logits.

        Each position attends to all characters but its own. As in the reference implementation, the context is the
        earlier prediction without its last position, masked from its first end token on; where greedy decoding
        stopped early it is shorter than the queries, and updated content is masked like the queries. For more than
        one layer the reference fails after an early stop: here the content's mask is cut to its length.

        Args:
            memory: of N pictures.
            logits: (N, S, C + 1) of the earlier pass, S <= steps.
            steps: positions to decode.
        """
        ids = torch.cat([self.start_ids(memory), logits[:, :-1].argmax(dim=-1)], dim=1)
        after_end = (ids == self.charset.end_id).int().cumsum(dim=-1) > 0
        length, mask = ids.shape[1], cloze_mask(steps, ids.device)
        return self.logits(self.streams(memory, ids, mask[:, :length], mask[:length, :length], after_end, steps))

    def start_ids(self, memory: Sequence[KeysValues]) -> Tensor:
        """Return the start token for each picture: (N, 1)."""
        keys = memory[0][0]
        return torch.full((len(keys), 1), self.charset.start_id, device=keys.device)


def _join_masks(attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
    """Join masks (T, L) and (N, L) to one that broadcasts to (N, heads, T, L)."""
    if key_padding_mask is None:
        return attn_mask
    padding = key_padding_mask[:, None, None]
    return padding if attn_mask is None else attn_mask | padding
