"""Charset: the alphabet, the protocol's label rules, and token ids (METHOD 1.6)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits, punctuation
from typing import Literal

import torch
from torch import Tensor

from students.errors import UserError

CHARSETS: dict[str, str] = {
    "36": digits + ascii_lowercase,
    "62": digits + ascii_lowercase + ascii_uppercase,
    "94": digits + ascii_lowercase + ascii_uppercase + punctuation,
}
"""The alphabets in common use, in the order of their token ids."""


@dataclass(frozen=True)
class Reading:
    """One word as it was read."""

    text: str
    """The word."""
    confidence: float
    """0 to 1: the product of the token probabilities; for CTC the probability of the word (`students.spelling`)."""
    token_probs: tuple[float, ...]
    """Probability of each character and of the end token, if there is one; for CTC of the best token of each column."""


@dataclass(frozen=True)
class Charset:
    """An alphabet and what follows from it.

    Token ids: end 0, characters 1..C in order, start C + 1, padding C + 2; the last two are inputs only.
    """

    characters: str

    def __post_init__(self) -> None:
        """Refuse an alphabet that is empty or repeats a character."""
        repeated = sorted({char for char in self.characters if self.characters.count(char) > 1})
        if not self.characters or repeated:
            what = f"repeats {''.join(repeated)!r}" if repeated else "is empty"
            raise UserError(f"the alphabet {what}; list each character once")

    @classmethod
    def load(cls, name_or_file: str) -> Charset:
        """Take `36`, `62`, `94`, or the characters of a UTF-8 text file (line ends left out).

        Raises:
            UserError: when there is no such alphabet or file.
        """
        if name_or_file in CHARSETS:
            return cls(CHARSETS[name_or_file])
        path = Path(name_or_file)
        if not path.is_file():
            raise UserError(
                f"no alphabet {name_or_file!r}; give {', '.join(CHARSETS)}, or a text file with its characters"
            )
        try:
            return cls("".join(path.read_text(encoding="utf-8").splitlines()))
        except UnicodeDecodeError:
            raise UserError(f"{path} is no UTF-8 text; save the alphabet as UTF-8") from None

    end_id = 0

    @property
    def start_id(self) -> int:
        """Token id of the start."""
        return len(self.characters) + 1

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        return len(self.characters) + 2

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token id of each character."""
        return {char: number for number, char in enumerate(self.characters, start=1)}

    def fold(self, text: str) -> str:
        """Lower-case or upper-case `text` when the alphabet has one case only."""
        if self.characters == self.characters.lower():
            return text.lower()
        if self.characters == self.characters.upper():
            return text.upper()
        return text

    def counterpart(self, char: str) -> str | None:
        """Give the character itself, or its other case, whichever the alphabet has; None when it has neither."""
        return next((same for same in (char, char.swapcase()) if same in self.ids), None)

    def adapt(self, text: str) -> str:
        """Fold the case and drop characters outside the alphabet: the rule for predictions."""
        return "".join(char for char in self.fold(text) if char in self.ids)

    def outside(self, label: str) -> str:
        """Give the characters of `label` that are not in the alphabet, after its case rule."""
        return "".join(char for char in self.fold(label) if char not in self.ids)

    def clean(
        self, label: str, max_length: int = 25, remove_whitespace: bool = True, normalize_unicode: bool = True
    ) -> str | None:
        """Apply the protocol's label rules in their order; None when the sample is to be dropped."""
        label = _normalise(label, remove_whitespace, normalize_unicode)
        if len(label) > max_length:
            return None
        return self.adapt(label) or None

    def drop_reason(self, label: str, max_length: int = 25) -> Literal["too long", "empty"] | None:
        """Say why `clean` drops a label; None when it is kept."""
        if len(_normalise(label, True, True)) > max_length:
            return "too long"
        return None if self.clean(label, max_length) else "empty"

    def encode(self, labels: Sequence[str]) -> Tensor:
        """Encode cleaned labels to ids (N, L + 2): start, characters, end, padding; L is the longest label.

        Raises:
            UserError: when a label has a character outside the alphabet.
        """
        longest = max(map(len, labels), default=0)
        encoded = torch.full((len(labels), longest + 2), self.pad_id)
        for row, label in enumerate(labels):
            try:
                tokens = [self.start_id, *(self.ids[char] for char in label), self.end_id]
            except KeyError:
                raise UserError(
                    f"label {label!r} has {self.outside(label) or label!r}, outside the alphabet of "
                    f"{len(self.characters)} characters; clean labels first, or set student.charset to one that has it"
                ) from None
            encoded[row, : len(tokens)] = torch.tensor(tokens)
        return encoded

    def decode(self, probabilities: Tensor) -> list[Reading]:
        """Read (N, T, C + 1) probabilities: arg-max characters up to the first end token (METHOD 1.4).

        Without an end token nothing is cut. Exact ties take the lowest id.
        """
        best, tokens = probabilities.float().max(dim=-1)
        tokens = probabilities.argmax(dim=-1) if probabilities.is_cuda else tokens
        readings = []
        for ids, probs in zip(tokens.tolist(), best.tolist(), strict=True):
            length = ids.index(self.end_id) if self.end_id in ids else len(ids)
            kept = tuple(probs[: length + 1])
            confidence = float(torch.tensor(kept).prod()) if kept else 1.0
            text = "".join(self.characters[token - 1] for token in ids[:length])
            readings.append(Reading(text, confidence, kept))
        return readings


def _normalise(label: str, remove_whitespace: bool, normalize_unicode: bool) -> str:
    """Drop white space, fold to ASCII by NFKD: the rules before the length is checked."""
    if remove_whitespace:
        label = "".join(label.split())
    if normalize_unicode:
        label = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    return label
