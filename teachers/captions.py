"""Captions: readings of CLIP4STR's visual branch, as text for its text tower (docs/method.md, section 2).

A reading is adapted to the evaluation alphabet (CLIP distinguishes neither case nor most punctuation) and tokenised as
ordinary text, without spaces between its characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from open_clip import SimpleTokenizer
from torch import Tensor

from students.charset import Charset
from students.errors import UserError
from teachers.backbones import Backbone
from teachers.small import SmallTeacherConfig
from teachers.tokens import CharacterTokens

END = "[E]"
"""Name of the end token in the reference implementation, which cuts a reading at the first text of this name."""


class CaptionTokens:
    """Tokenise captions to a fixed context: start, tokens, end, padding of id 0; a long caption is cut, the end last.

    Args:
        encode: gives the ids of one caption, without start and end.
        start_id: id before them.
        end_id: id behind them.
        context: ids of a caption in all.

    Raises:
        UserError: for a context without room for a token.
    """

    def __init__(self, encode: Callable[[str], Sequence[int]], start_id: int, end_id: int, context: int) -> None:
        if context < 3:
            raise UserError(f"a context of {context} tokens holds no caption; give 3 or more, such as 16")
        self.start_id, self.end_id, self.context = start_id, end_id, context
        self._row = lru_cache(maxsize=1 << 16)(lambda caption: self._padded(encode(caption)))

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Tokenise M captions: (M, context) ids."""
        return torch.tensor([self._row(caption) for caption in captions]).view(len(captions), self.context)

    def _padded(self, ids: Sequence[int]) -> tuple[int, ...]:
        room = self.context - 2
        return (self.start_id, *ids[:room], self.end_id, *[0] * (room - len(ids)))


def caption_tokens(backbone: Backbone, context: int) -> CaptionTokens:
    """Build the caption tokenizer of a CLIP.

    CLIP's word pieces are merged as in any text; characters that a vocabulary of characters lacks are left out.
    """
    if not isinstance(backbone, SmallTeacherConfig):
        tokenizer = SimpleTokenizer()
        return CaptionTokens(tokenizer.encode, tokenizer.sot_token_id, tokenizer.eot_token_id, context)
    tokens = CharacterTokens(backbone.characters, backbone.max_length)

    def encode(caption: str) -> list[int]:
        return [tokens.table[character] for character in caption if character in tokens.table]

    return CaptionTokens(encode, tokens.start_id, tokens.end_id, context)


class Captioner:
    """Turn readings into captions.

    Args:
        charset: the reader's alphabet.
        adapted: the alphabet that captions are adapted to.
    """

    def __init__(self, charset: Charset, adapted: Charset) -> None:
        self.adapted = adapted
        self._names = (END, *charset.characters)

    def __call__(self, best: Tensor) -> list[str]:
        """Caption M readings, (M, T) ids of the likeliest characters.

        As in the reference implementation a reading is cut at the first text `[E]`, so that these three characters,
        read in a row, end it as the end token does.
        """
        names = self._names
        return [self.adapted.adapt("".join(names[token] for token in row).partition(END)[0]) for row in best.tolist()]
