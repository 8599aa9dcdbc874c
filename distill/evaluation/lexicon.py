"""Closed-lexicon reading: choose among the words of a lexicon, as a CLIP does; far easier than open reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from PIL import Image
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from distill.deployment.readers import ModelReader, ReadingKind, Role, WordReader, open_model
from students.charset import Charset
from students.decoding import Reading
from students.errors import UserError
from students.language_model import refuse_other_lists
from students.pictures import to_tensor
from students.pretrained import name_of
from students.reading import Reader
from teachers.peers import is_peer
from teachers.reading import ReadingTeacher
from teachers.registry import load_model
from teachers.teacher import Teacher

SCALE = 100.0
"""CLIP's factor of similarities before a softmax; it changes confidences, never the choice."""


@runtime_checkable
class Embedder(Protocol):
    """A teacher with two towers into one space, for pictures and for words."""

    name: str

    @property
    def parameters_count(self) -> int:
        """Number of its weights."""
        ...

    def accepts(self, label: str) -> bool:
        """Tell whether it has tokens for a word."""
        ...

    def to(self, device: str) -> object:
        """Move it to a device."""
        ...

    def embed_images(self, images: Tensor) -> Tensor:
        """Embed (N, 3, 32, 128) pictures: (N, J), normalised."""
        ...

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """Embed M words: (M, J), normalised."""
        ...


@runtime_checkable
class ClosedReader(WordReader, Protocol):
    """A reader that chooses among words."""

    words: tuple[str, ...]
    """The lexicon; empty until `over` was called."""

    def over(self, vocabulary: Sequence[str]) -> ClosedReader:
        """Return the reader for a test set: the set's own words are the lexicon, unless one was given."""
        ...


class LexiconReader:
    """A CLIP that reads by choosing the word of its lexicon whose embedding is nearest to the picture's.

    Words that differ in case only have the same embedding for a teacher without case; the first of them is chosen.
    Words of a test set that the teacher has no tokens for are no part of its lexicon, so they count as misread;
    `charset` lacks their characters.

    Args:
        teacher: a CLIP.
        charset: the test alphabet; its rules are applied to the lexicon.
        words: the lexicon, or None for the words of each test set itself (see `over`).

    Raises:
        UserError: when the teacher has no tokens for a word of a lexicon that was given.
    """

    role: Role = "teacher"
    reading: ReadingKind = "closed-lexicon"

    def __init__(self, teacher: Embedder, charset: Charset, words: Sequence[str] | None = None) -> None:
        self.teacher, self.alphabet, self.name = teacher, charset, teacher.name
        self.charset = "".join(filter(teacher.accepts, charset.characters))
        self.params = teacher.parameters_count
        self.fixed = words is not None
        self.words: tuple[str, ...] = tuple(dict.fromkeys(words or ()))
        self.embedded = teacher.embed_words(self.words) if self.words else None
        self.indistinct = self._find_indistinct()
        """Words that the teacher can't tell from an earlier one, such as one in another case: never chosen."""

    def _find_indistinct(self) -> frozenset[str]:
        if self.embedded is None:
            return frozenset()
        rows = self.embedded.unique(dim=0, return_inverse=True)[1].tolist()
        first = dict(zip(reversed(rows), reversed(self.words), strict=True))
        return frozenset(word for word, row in zip(self.words, rows, strict=True) if first[row] != word)

    def over(self, vocabulary: Sequence[str]) -> LexiconReader:
        """Return the reader for a test set: the set's own words are the lexicon, unless one was given."""
        if self.fixed:
            return self
        return LexiconReader(self.teacher, self.alphabet, [*filter(self.teacher.accepts, vocabulary)])

    def read_pictures(self, pictures: Sequence[Image.Image]) -> list[Reading]:
        """Choose a word for each RGB picture."""
        return self.choose(to_tensor(pictures))

    def choose(self, images: Tensor) -> list[Reading]:
        """Choose a word for each picture (N, 3, 32, 128); the confidence is the softmax over the lexicon."""
        if not self.fixed:
            raise RuntimeError("LexiconReader has no lexicon yet; call over(vocabulary)")
        if self.embedded is None:
            return [Reading("", 0.0, ())] * len(images)
        with torch.no_grad():
            embedded = self.teacher.embed_images(images.to(self.embedded.device))
            best, chosen = (SCALE * embedded @ self.embedded.T).softmax(dim=1).max(dim=1)
        pairs = zip(chosen.tolist(), best.tolist(), strict=True)
        return [Reading(self.words[word], confidence, (confidence,)) for word, confidence in pairs]

    def place(self, device: str, threads: int | None) -> LexiconReader:
        """Move the teacher and its lexicon to a device; threads are torch's own."""
        self.teacher.to(device)
        self.embedded = None if self.embedded is None else self.embedded.to(device)
        return self


class NearestWordReader:
    """An open reader whose readings are replaced by the nearest word of a lexicon.

    Nearest in edits relative to the longer word's length; of equally near words, the first.

    Args:
        reader: reads openly.
        charset: the test alphabet; its rules are applied to readings.
        words: the lexicon, or None for the words of each test set itself (see `over`).
    """

    reading: ReadingKind = "closed-lexicon"

    def __init__(self, reader: WordReader, charset: Charset, words: Sequence[str] | None = None) -> None:
        self.reader, self.alphabet, self.fixed = reader, charset, words is not None
        self.words: tuple[str, ...] = tuple(dict.fromkeys(words or ()))
        self.name, self.role, self.params = f"{reader.name} + lexicon", reader.role, reader.params
        self.charset = charset.characters

    def over(self, vocabulary: Sequence[str]) -> NearestWordReader:
        """See `ClosedReader`."""
        return self if self.fixed else NearestWordReader(self.reader, self.alphabet, vocabulary)

    def read_pictures(self, pictures: Sequence[Image.Image]) -> list[Reading]:
        """Choose a word for each RGB picture; the confidence stays that of the open reading."""
        return self.choose(self.reader.read_pictures(pictures))

    def choose(self, readings: Sequence[Reading]) -> list[Reading]:
        """Replace readings by the nearest words."""
        if not self.words:
            raise RuntimeError("NearestWordReader has no lexicon yet; call over(vocabulary)")
        return [
            Reading(self.nearest(self.alphabet.adapt_reading(reading.text)), reading.confidence, reading.token_probs)
            for reading in readings
        ]

    def nearest(self, text: str) -> str:
        """Find the nearest word of the lexicon."""
        return min(self.words, key=lambda word: Levenshtein.normalized_distance(text, word))

    def place(self, device: str, threads: int | None) -> NearestWordReader:
        """Move the open reader."""
        moved = self.reader.place(device, threads)
        return NearestWordReader(moved, self.alphabet, self.words if self.fixed else None)


def read_lexicon(file: str | Path, charset: Charset, max_length: int = 25) -> tuple[list[str], Counter[str]]:
    """Read a lexicon, one word a line, and perhaps a count behind a tab; the words go through the label rules.

    Returns:
        The words, and how many lines were left out by reason (`DropReason`, or `repeated`).

    Raises:
        UserError: when the file is missing, no UTF-8, a label file, has several words on each line, or no word is left.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}; give a text file with one word a line") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is no UTF-8 text; give a text file with one word a line") from None
    refuse_other_lists(lines, str(file))
    verdicts = [charset.examine(line.partition("\t")[0], max_length) for line in lines if line.strip()]
    words = list(dict.fromkeys(verdict.text for verdict in verdicts if verdict.text))
    if not words:
        size = len(charset.characters)
        raise UserError(f"{file} has no word in the alphabet of {size} characters; give one word a line")
    dropped = Counter(str(verdict.reason) for verdict in verdicts if not verdict.text)
    dropped["repeated"] = len(verdicts) - dropped.total() - len(words)
    return words, +dropped


def open_teacher(
    name: str, charset: Charset, lexicon: Sequence[str] | None = None, threads: int | None = None
) -> WordReader:
    """Open a teacher for a comparison: one that reads, or a CLIP that chooses from a lexicon.

    Args:
        name: an ONNX file, a reader of another program, or a name as for `teacher.name`, see `teachers.names.resolve`.
        charset: the test alphabet, for a CLIP's lexicon.
        lexicon: words that a CLIP chooses among; None for those of each test set itself.
        threads: CPU threads of an ONNX file; None leaves the choice to onnxruntime.

    Raises:
        UserError: when there is no such teacher, its files are broken, or it neither reads nor embeds words.
    """
    if is_peer(name):
        return open_model(name, "teacher", threads)
    model = load_model(name)
    if isinstance(model, Reader):
        return ModelReader(model, name_of(name), "teacher")
    return teacher_reader(model, charset, lexicon)


def teacher_reader(teacher: Teacher, charset: Charset, lexicon: Sequence[str] | None = None) -> WordReader:
    """Turn a teacher that guides a student into a reader for the comparison.

    Args:
        teacher: reads, or embeds pictures and words.
        charset: the test alphabet, for a CLIP's lexicon.
        lexicon: words that a CLIP chooses among; None for those of each test set itself.

    Raises:
        UserError: for a teacher that neither reads nor embeds words.
    """
    if isinstance(teacher, ReadingTeacher):
        return ModelReader(teacher.reader, teacher.name, "teacher")
    if isinstance(teacher, Embedder):
        return LexiconReader(teacher, charset, lexicon)
    raise UserError(f"{teacher.name} can neither read nor choose from a lexicon; set eval.teacher=false")
