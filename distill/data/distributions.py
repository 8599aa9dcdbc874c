"""Distributions over characters that readers left with a word's label: how they are stored, and how they reach a batch.

A distribution belongs to a character of the label, not to a place in the picture, so it stays true when the picture is
augmented. Of each the likeliest classes are stored; what is left is shared evenly by all others.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from distill.data.records import BadRecordError, Records
from students.charset import Charset
from students.errors import UserError

SCHEMA = 1
LEFT_OUT = -1
"""Stands for a class that the other alphabet has no single character for."""
RAREST = 1e-30
"""Least probability of a class: what is rarer gets the logarithm of this."""


@dataclass(frozen=True)
class StoredDistributions:
    """What an LMDB says of the distributions in it."""

    characters: str
    """Their alphabet: class 0 is the end of the word, and the characters follow."""
    likeliest: int
    """Classes that are stored of each distribution, the likeliest first."""
    max_length: int
    """Longest label in characters."""
    readers: tuple[str, ...]
    """Who read the words."""
    words: int
    """Words that have distributions."""

    def to_json(self) -> bytes:
        """Write it as it is stored."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}).encode()

    @classmethod
    def read(cls, records: Records) -> StoredDistributions:
        """Read what a set says of its distributions.

        Raises:
            UserError: when it has none.
        """
        stored = records.distributions()
        if stored is None:
            raise UserError(f"{records.path} has no stored distributions; write an LMDB that has them with label")
        try:
            entries: dict[str, Any] = json.loads(stored)
            if entries.pop("schema") == SCHEMA:
                return cls(**{**entries, "readers": tuple(entries["readers"])})
        except (ValueError, KeyError, TypeError):
            pass
        raise UserError(f"{records.path}: its distributions are of another version; write them again with label")


@dataclass(frozen=True)
class WordDistributions:
    """The distributions of one word: T characters, with the end T = length + 1."""

    ids: np.ndarray
    """(T, K) int64 classes; one may occur twice, where two characters are one in this alphabet."""
    probabilities: np.ndarray
    """(T, K) float32."""
    rest: np.ndarray
    """(T,) float32: what all other classes have together."""

    def pack(self) -> bytes:
        """Write them: for each character K ids as uint16, and the logarithms of K + 1 probabilities as float16.

        Near 1, logarithms keep what is missing to 1, which probabilities of 16 bits would round away.
        """
        with np.errstate(divide="ignore"):
            logs = np.log(np.column_stack([self.probabilities, self.rest]).astype(np.float64))
        rows = np.empty(len(self.ids), _row_type(self.ids.shape[1]))
        rows["ids"], rows["logs"] = self.ids, logs
        return rows.tobytes()

    @classmethod
    def unpack(cls, stored: bytes, likeliest: int) -> WordDistributions:
        """Read what `pack` wrote; raises `ValueError` for anything else."""
        rows = np.frombuffer(stored, _row_type(likeliest))
        probabilities = np.exp(rows["logs"].astype(np.float32))
        return cls(rows["ids"].astype(np.int64), probabilities[:, :-1], probabilities[:, -1])


def likeliest_classes(probabilities: np.ndarray, count: int) -> WordDistributions:
    """Take the likeliest classes of (T, G) probabilities; of equal ones the first."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    chosen = np.take_along_axis(probabilities, order, axis=1)
    rest = np.clip(probabilities.sum(axis=1) - chosen.sum(axis=1), 0, None)
    return WordDistributions(order.astype(np.int64), chosen.astype(np.float32), rest.astype(np.float32))


def fold_texts(texts: Iterable[str], target: Charset) -> np.ndarray:
    """Map the classes of a reader, the end or blank before them, to those of an alphabet by its label rules.

    Args:
        texts: what each class stands for.
        target: the alphabet.

    Returns:
        (C + 1,) int64: class ids of `target`, 0 for the end, `LEFT_OUT` where its label rules leave no character or
        several.
    """
    folded = [fold_text(text, target) for text in texts]
    return np.array([0, *(target.ids[text] if len(text) == 1 else LEFT_OUT for text in folded)], np.int64)


def fold_text(text: str, target: Charset) -> str:
    """Write one character, or what a class stands for, in an alphabet; "" where that has nothing for it."""
    return text if text in target.ids else target.clean(text, keep_illegible=True) or ""


class DistributionReader:
    """The distributions of a set in the alphabet of a student.

    Args:
        records: the set.
        charset: the student's alphabet.

    Attributes:
        stored: what the set says of them.

    Raises:
        UserError: when the set has none.
    """

    def __init__(self, records: Records, charset: Charset) -> None:
        self.records, self.charset = records, charset
        self.stored = StoredDistributions.read(records)
        self._source = Charset(self.stored.characters)
        self._classes = fold_texts(self._source.characters, charset)

    def read(self, position: int, label: str) -> WordDistributions | None:
        """Read the distributions of a word, one for each character of its label, and perhaps one of the end.

        Args:
            position: where the word stands in the set.
            label: its label for the student.

        Returns:
            None for a word that has none, or whose characters are not one by one those of the student's label.

        Raises:
            BadRecordError: when they are damaged.
        """
        packed = self.records.distribution(position)
        if packed is None:
            return None
        text = self._source.clean(self.records.label(position), self.stored.max_length) or ""
        try:
            word = WordDistributions.unpack(packed, self.stored.likeliest)
        except ValueError:
            word = None
        if word is None or len(word.ids) - len(text) not in (0, 1) or word.ids.max(initial=0) >= len(self._classes):
            raise BadRecordError(f"the distributions of {self.records.describe(position)} are damaged")
        spelt = [self._classes[self._source.ids[char]] for char in text]
        rows = [row for row, own in enumerate(spelt) if own != LEFT_OUT]
        if "".join(self.charset.characters[spelt[row] - 1] for row in rows) != label:
            return None
        return self._fold(word, rows + [len(text)] * (len(word.ids) > len(text)))

    def describe(self) -> list[str]:
        """Describe in lines whose distributions are stored for how many words, and what this alphabet lacks."""
        names = ", ".join(self.stored.readers)
        left_out = "".join(
            char for char, own in zip(self.stored.characters, self._classes[1:], strict=True) if own == LEFT_OUT
        )
        lines = [f"  {self.stored.words:,} words have distributions, of {names}"]
        if left_out:
            lines.append(f"  their probabilities of {left_out} are left out, as the student can't write them")
        if unlike := "".join(char for char in self.charset.characters if self._source.adapt(char) != char):
            lines.append(f"  words with one of {unlike} learn from none: the distributions' alphabet lacks these")
        return lines

    def _fold(self, word: WordDistributions, rows: Sequence[int]) -> WordDistributions:
        ids = self._classes[word.ids[rows]]
        probabilities = np.where(ids == LEFT_OUT, 0, word.probabilities[rows])
        rest = word.rest[rows]
        total = np.maximum(probabilities.sum(axis=1) + rest, RAREST)
        return WordDistributions(np.maximum(ids, 0), probabilities / total[:, None], rest / total)


@dataclass(frozen=True)
class BatchDistributions:
    """The distributions of N words with T positions."""

    ids: Tensor
    """(N, T, K) long: classes of the student's alphabet, 0 the end."""
    probabilities: Tensor
    """(N, T, K)."""
    rest: Tensor
    """(N, T): what all other characters have together."""
    known: Tensor
    """(N, T) bool: whether there is a distribution of the position."""

    @classmethod
    def collate(cls, words: Sequence[WordDistributions | None]) -> Self | None:
        """Stack those of some words; None when no word has any."""
        there = [word for word in words if word is not None]
        if not there:
            return None
        shape = len(words), max(len(word.ids) for word in there), max(word.ids.shape[1] for word in there)
        ids, probabilities = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        rest, known = np.zeros(shape[:2], np.float32), np.zeros(shape[:2], bool)
        for number, word in enumerate(words):
            if word is not None:
                length, count = word.ids.shape
                ids[number, :length, :count], probabilities[number, :length, :count] = word.ids, word.probabilities
                rest[number, :length], known[number, :length] = word.rest, True
        return cls(*map(torch.from_numpy, (ids, probabilities, rest, known)))

    def select(self, words: Sequence[int]) -> Self:
        """Take some words."""
        return self._each(lambda tensor: tensor[list(words)])

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Pin the tensors."""
        return self._each(lambda tensor: tensor.pin_memory())

    def dense(self, positions: int, classes: int) -> tuple[Tensor, Tensor]:
        """Spread them over all classes.

        The end of a word has only what is stored of it: a CTC reader knows none.

        Args:
            positions: T, of the longest label and its end.
            classes: C + 1, the student's.

        Returns:
            (N, T, C + 1) log-probabilities, and the (N, T) mask of the positions that have them.
        """
        summed = torch.zeros(*self.rest.shape, classes, device=self.rest.device)
        others = torch.ones_like(summed).scatter_(2, self.ids, 0.0)
        others[..., 0] = 0
        summed.scatter_add_(2, self.ids, self.probabilities)
        spread = summed + others * (self.rest / others.sum(dim=2).clamp(min=1))[..., None]
        logs = (spread / spread.sum(dim=2, keepdim=True).clamp(min=RAREST)).clamp(min=RAREST).log()
        missing = positions - logs.shape[1]
        return (
            torch.nn.functional.pad(logs, (0, 0, 0, missing)),
            torch.nn.functional.pad(self.known, (0, missing), value=False),
        )

    def _each(self, change: Any) -> Self:
        return dataclasses.replace(self, **{name: change(value) for name, value in vars(self).items()})


def _row_type(likeliest: int) -> np.dtype[Any]:
    return np.dtype([("ids", "<u2", (likeliest,)), ("logs", "<f2", (likeliest + 1,))])
