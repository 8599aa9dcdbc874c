"""From logits to words: position by position up to the end, or off columns with blanks between the characters (CTC)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from students.charset import Charset, Reading

Spelling = Literal["positions", "columns"]
BLANK = 0
"""What a column holds that has no character of its own; where positions have their end."""


def decode_attention(charset: Charset, logits: Tensor) -> list[Reading]:
    """Read (N, T, C + 1) logits of positions, see `Charset.decode`."""
    return charset.decode(logits.float().softmax(dim=-1))


def decode_ctc(charset: Charset, logits: Tensor) -> list[Reading]:
    """Read (N, W, C + 1) logits of columns greedily (CTC, Graves et al. 2006).

    The best token of each column, repetitions joined and blanks left out then, is the word. Its confidence is the
    probability that the columns give it, summed over all alignments: the CTC loss of the word is its negative
    logarithm. So it means what the product over positions means for a decoder.
    """
    chances = logits.float().cpu().log_softmax(dim=-1)
    ids = chances.argmax(dim=-1)
    kept = (ids != BLANK) & (ids != F.pad(ids[:, :-1], (1, 0), value=BLANK))
    widths = torch.full((len(ids),), ids.shape[1])
    losses = F.ctc_loss(chances.transpose(0, 1), ids[kept], widths, kept.sum(dim=1), blank=BLANK, reduction="none")
    tokens = chances.max(dim=-1).values.exp().tolist()
    return [
        Reading("".join(charset.characters[token - 1] for token in word[here].tolist()), min(sure, 1.0), tuple(probs))
        for word, here, sure, probs in zip(ids, kept, losses.neg().exp().tolist(), tokens, strict=True)
    ]


DECODERS: Mapping[Spelling, Callable[[Charset, Tensor], list[Reading]]] = {
    "positions": decode_attention, "columns": decode_ctc,
}  # fmt: skip
"""What reads logits, by what a reader says of its own."""
