"""From labels to token ids, one token per character, or a refusal by name (docs/method.md, section 1.1).

The rows of a text tap must line up with the positions of a recogniser: character i with its own token, the end with
the end token. A label whose characters can't be distinguished by the tokenizer is refused, never shifted silently.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from open_clip import SimpleTokenizer
from torch import Tensor

from students.errors import UserError

PRINTABLE = "".join(map(chr, range(33, 127)))
"""The 94 printable ASCII characters: those of charset 94."""


class AlignedTokenizer:
    """One id per character, the end id the largest of all, padding 0; shared by both tokenizers below."""

    def __init__(self, table: dict[str, int], start_id: int, end_id: int, max_length: int, name: str) -> None:
        """Set the ids of single characters; `name` is the tokenizer's name in messages."""
        self.table = table
        self.start_id = start_id
        self.end_id = end_id
        self.max_length = max_length
        self.name = name

    def __call__(self, labels: Sequence[str]) -> Tensor:
        """Encode labels to (N, longest + 2) ids: start, one id per character, end, padding of id 0.

        Raises:
            UserError: a label can't be split into one token per character, or is longer than the context allows.
        """
        rows = [[self.start_id, *self.character_ids(label), self.end_id] for label in labels]
        ids = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        return ids

    def accepts(self, label: str) -> bool:
        """Tell whether a label can be split into one token per character, within the longest label."""
        try:
            self.character_ids(label)
        except UserError:
            return False
        return True

    def character_ids(self, label: str) -> list[int]:
        """Return one id per character of `label`; raises `UserError` that names a label without such ids."""
        if not label or len(label) > self.max_length:
            raise UserError(
                f"label {label!r} has {len(label)} characters, {self.name} takes 1 to {self.max_length}; "
                "leave it out or choose a teacher with a longer context"
            )
        try:
            return [self.table[character] for character in label]
        except KeyError:
            return self.rare_ids(label)

    def pieces(self, character: str) -> list[int]:
        """Tokenise one character, into however many ids."""
        return [self.table[character]] if character in self.table else []

    def rare_ids(self, label: str) -> list[int]:
        """Find the ids of a label with characters outside the table, or refuse it."""
        raise self.refusal(label, [character for character in label if character not in self.table])

    def refusal(self, label: str, culprits: Sequence[str]) -> UserError:
        """Make the error that refuses `label`."""
        named = " ".join(dict.fromkeys(map(repr, culprits))) or "its characters together"
        return UserError(
            f"label {label!r}: {self.name} doesn't split it into one token per character ({named}); "
            "leave such characters out through the charset, or drop the label"
        )


class WordPieceTokens(AlignedTokenizer):
    """CLIP's tokenizer on character-spaced labels: `"cat"` is encoded as `"c a t"`.

    Its clean-up (repair of broken encodings, HTML entities, white space, lower case) may change how many characters
    there are, so labels outside printable ASCII are encoded in full and their pieces compared with the characters.
    Upper and lower case get the same ids.
    """

    def __init__(self, tokenizer: SimpleTokenizer, context_length: int) -> None:
        """Wrap `tokenizer` for a text tower of `context_length` positions."""
        self.tokenizer = tokenizer
        table = {c: ids[0] for c in PRINTABLE if (ids := single_token_ids(c, tokenizer.encode, tokenizer.clean_fn))}
        super().__init__(table, tokenizer.sot_token_id, tokenizer.eot_token_id, context_length - 2, "CLIP's tokenizer")
        # Labels of a set come again and again, and the whole tokenizer is slow.
        self._single_token_ids = lru_cache(maxsize=1 << 16)(
            lambda label: single_token_ids(label, tokenizer.encode, tokenizer.clean_fn)
        )

    def rare_ids(self, label: str) -> list[int]:
        """Encode the spaced label through the whole tokenizer; raises `UserError` when the rows would shift."""
        ids, alone = self._single_token_ids(label), {char: self._single_token_ids(char) for char in label}
        # The repair of broken encodings may make another character of two, as of "Ã" and a space.
        if ids is None or ids != [token for char in label for token in alone[char] or ()]:
            raise self.refusal(label, [char for char in label if alone[char] is None])
        return list(ids)

    def pieces(self, character: str) -> list[int]:
        """See `AlignedTokenizer.pieces`."""
        return list(self.tokenizer.encode(character))


def single_token_ids(label: str, encode: Callable[[str], list[int]], clean: Callable[[str], str]) -> list[int] | None:
    """Encode a label character-spaced; None unless every character stays one character and becomes one token.

    A character whose compatibility form is several characters (the ligature fi, one half, the ellipsis) is more
    than one character on a picture and counts as not aligned, whatever the tokenizer makes of it.
    """
    spaced = " ".join(label)
    pieces = clean(spaced).split(" ")
    if len(pieces) != len(label) or any(len(unicodedata.normalize("NFKC", piece)) != 1 for piece in pieces):
        return None
    if any(len(unicodedata.normalize("NFKC", character)) != 1 for character in label):
        return None
    ids = encode(spaced)
    return ids if len(ids) == len(label) else None


class CharacterTokens(AlignedTokenizer):
    """A vocabulary of single characters: padding 0, characters 1..C, start C + 1, end C + 2.

    With a vocabulary of one case only, labels are brought to that case first, as CLIP's tokenizer does.
    """

    def __init__(self, characters: str, max_length: int) -> None:
        """Number the characters in their order."""
        table = {character: i for i, character in enumerate(characters, start=1)}
        for character in characters:
            table.setdefault(character.swapcase(), table[character])
        super().__init__(table, len(characters) + 1, len(characters) + 2, max_length, "the teacher's vocabulary")
        self.vocabulary_size = len(characters) + 3
