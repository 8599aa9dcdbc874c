"""Reading by choosing among the words of a lexicon, which is no open reading: raw CLIPs, and others when asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from distill.deployment.readers import ReadingKind, Role, WordReader, place
from students.charset import Charset, Reading
from students.errors import UserError

SCALE = 100.0
"""What CLIP multiplies similarities with before a softmax; it changes confidences, never the choice."""


@runtime_checkable
class Embedder(Protocol):
    """What is needed of a teacher: both towers into the joint space."""

    name: str

    def embed_images(self, images: Tensor) -> Tensor:
        """Embed (N, 3, 32, 128) pictures: (N, J), normalised."""
        ...

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Embed M words: (M, J), normalised."""
        ...


@runtime_checkable
class ClosedReader(WordReader, Protocol):
    """Chooses among words."""

    words: tuple[str, ...]
    """The lexicon; empty until `over` was called."""

    def over(self, vocabulary: Sequence[str]) -> ClosedReader:
        """Give the reader for a test set: the set's own words are the lexicon, unless one was given."""
        ...


class LexiconReader:
    """A teacher that gives, for each picture, the word of its lexicon whose embedding is nearest.

    A teacher that sees no case gives words that differ in case only the same embedding; the first of them is chosen.

    Args:
        teacher: a CLIP.
        charset: the test alphabet; its rules are applied to the lexicon.
        words: the lexicon, or None for the words of each test set itself (see `over`).

    Raises:
        UserError: when the teacher can't write a word of the lexicon.
    """

    role: Role = "teacher"
    reading: ReadingKind = "closed-lexicon"
    image_size = (32, 128)

    def __init__(self, teacher: Embedder, charset: Charset, words: Sequence[str] | None = None) -> None:
        self.teacher, self.alphabet, self.name = teacher, charset, teacher.name
        self.charset = charset.characters
        weights = teacher.parameters() if isinstance(teacher, torch.nn.Module) else ()
        self.params = sum(weight.numel() for weight in weights)
        self.fixed = words is not None
        self.words: tuple[str, ...] = tuple(dict.fromkeys(words or ()))
        self.embedded = teacher.embed_words(self.words) if self.words else None

    def over(self, vocabulary: Sequence[str]) -> LexiconReader:
        """Give the reader for a test set: the set's own words are the lexicon, unless one was given."""
        return self if self.fixed else LexiconReader(self.teacher, self.alphabet, vocabulary)

    def read_batch(self, images: Tensor) -> list[Reading]:
        """Choose a word for each picture (N, 3, 32, 128); the confidence is the softmax over the lexicon."""
        if self.embedded is None:
            raise RuntimeError("LexiconReader has no lexicon yet; call over(vocabulary)")
        with torch.no_grad():
            found = self.teacher.embed_images(images.to(self.embedded.device))
            sure, chosen = (SCALE * found @ self.embedded.T).softmax(dim=1).max(dim=1)
        pairs = zip(chosen.tolist(), sure.tolist(), strict=True)
        return [Reading(self.words[word], confidence, (confidence,)) for word, confidence in pairs]

    def place(self, device: str, threads: int | None) -> LexiconReader:
        """Move the teacher and its lexicon to a device; threads are torch's own."""
        if isinstance(self.teacher, torch.nn.Module):
            self.teacher.to(device)
            self.embedded = None if self.embedded is None else self.embedded.to(device)
        return self


class NearestWordReader:
    """An open reader that is made to choose: of its lexicon, the word nearest to what it read.

    Nearest in edits as a share of the longer word's length; of words as near, the first.

    Args:
        reader: reads openly.
        charset: the test alphabet; its rules are applied to what is read.
        words: the lexicon, or None for the words of each test set itself (see `over`).
    """

    reading: ReadingKind = "closed-lexicon"

    def __init__(self, reader: WordReader, charset: Charset, words: Sequence[str] | None = None) -> None:
        self.reader, self.alphabet, self.fixed = reader, charset, words is not None
        self.words: tuple[str, ...] = tuple(dict.fromkeys(words or ()))
        self.name, self.role, self.params = f"{reader.name} + lexicon", reader.role, reader.params
        self.charset, self.image_size = reader.charset, reader.image_size

    def over(self, vocabulary: Sequence[str]) -> NearestWordReader:
        """See `ClosedReader`."""
        return self if self.fixed else NearestWordReader(self.reader, self.alphabet, vocabulary)

    def read_batch(self, images: Tensor) -> list[Reading]:
        """Choose a word for each picture (N, 3, H, W); the confidence stays that of the open reading."""
        if not self.words:
            raise RuntimeError("NearestWordReader has no lexicon yet; call over(vocabulary)")
        return [
            Reading(self.nearest(self.alphabet.adapt(reading.text)), reading.confidence, reading.token_probs)
            for reading in self.reader.read_batch(images)
        ]

    def nearest(self, text: str) -> str:
        """Give the nearest word of the lexicon."""
        return min(self.words, key=lambda word: Levenshtein.normalized_distance(text, word))

    def place(self, device: str, threads: int | None) -> NearestWordReader:
        """Move the open reader."""
        moved = place(self.reader, device, threads)
        return NearestWordReader(moved, self.alphabet, self.words if self.fixed else None)


def read_lexicon(file: str | Path, charset: Charset, max_length: int = 25) -> list[str]:
    """Read a lexicon, one word a line; the words go through the label rules.

    Raises:
        UserError: when the file is missing, no UTF-8, or no word is left.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}; give a text file with one word a line") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is no UTF-8 text; give a text file with one word a line") from None
    cleaned = (charset.clean(line, max_length) for line in lines)
    words = list(dict.fromkeys(word for word in cleaned if word))
    if not words:
        size = len(charset.characters)
        raise UserError(f"{file} has no word in the alphabet of {size} characters; give one word a line")
    return words
