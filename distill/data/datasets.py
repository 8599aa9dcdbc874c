"""Data sets of words: which records of a set are used, and sets put together."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset

from distill.data.batch import Sample
from distill.data.columns import unpack_columns
from distill.data.distributions import DistributionReader
from distill.data.label_index import Positions, Selection, select_records
from distill.data.pixels import PixelCache, decode
from distill.data.progress import followed
from distill.data.records import BadRecordError, Records, decode_record
from distill.data.samples import SampleBuilder, WordOptions
from distill.data.sampling import Draw, Permutation
from distill.data.sections import ON_ORIGINALS, SourceSection
from distill.data.trees import open_words
from students.charset import Charset
from students.errors import UserError
from students.pictures import DamagedPictureError

LOG = logging.getLogger(__name__)


class Words(Protocol):
    """Anything that gives samples by index and epoch: a set, several, or words rendered on the fly."""

    @property
    def name(self) -> str:
        """The set's name, or those of several."""

    def __len__(self) -> int:
        """Count the words."""

    def sample(self, index: int, epoch: int) -> Sample:
        """Return a word; its augmentation follows from index and epoch alone."""


class WordDataset(Dataset[Sample]):
    """The words of one set whose labels an alphabet can write (docs/method.md, section 1.6).

    Labels are judged once, at the start. A worker process is handed the paths of files to map, however large the set.

    Args:
        records: the set.
        charset: the alphabet.
        source: how pictures are augmented and cached, and whether the set's own labels are used.
        options: what the run asks of all words.

    Attributes:
        positions: where the words stand in the set.
        selection: the words, and what the label rules dropped and replaced; None where a teacher labels them.
        distributions: the stored distributions over their characters, where the source asks for them.
        drawn_from: how many words there were before some were drawn; None where all are left.

    Raises:
        UserError: when no word is left, too many records are corrupt, or originals are to be augmented and cached.
    """

    def __init__(
        self, records: Records, charset: Charset, source: SourceSection | None = None,
        options: WordOptions | None = None,
    ) -> None:  # fmt: skip
        self.records, self.charset = records, charset
        self.source, self.options = source or SourceSection(), options or WordOptions()
        self.selection: Selection | None = None
        self.drawn_from: int | None = None
        self._corrupt: set[int] = set()
        cached = self.source.cache == "memory"
        if cached and self.options.keep_aspect:
            raise UserError("cache: memory stores pictures of one size; set cache: none for pictures of any width")
        if self.source.augmentation in ON_ORIGINALS and cached:
            wanted = f"augmentation: {self.source.augmentation}"
            raise UserError(f"{wanted} needs pictures of their original size; set cache: none, or light")
        self.positions = self._select()
        for position in self._missing():
            self._count_corrupt(position, f"{records.describe(position)} isn't there")
        self._builder = SampleBuilder(charset, self.source, self.options, records.name)
        self._cache = PixelCache(records, self.options.image_size) if cached else None
        taught = self.source.labels == "distributions"
        self.distributions = DistributionReader(records, charset) if taught else None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:
        """Return a word as in epoch 0; see `sample`."""
        return self.sample(index, 0)

    def sample(self, index: int, epoch: int) -> Sample:
        """Return a word, augmented as (seed, epoch, index) say; a corrupt one is replaced by the next that can be read.

        Raises:
            UserError: when more records are corrupt than `max_corrupt` allows.
        """
        for step in range(len(self)):
            number = (index + step) % len(self)
            position = self.positions[number]
            try:
                picture = self._picture(position)
                label, codes = self.label(number), self.records.columns(position) if self.labelled else None
                sample = self._builder.build(
                    picture, label, unpack_columns(codes), number, self.source.augmentation_epoch(epoch), position,
                    self.source.version(epoch),
                )  # fmt: skip
                if self.distributions is None:
                    return sample
                return dataclasses.replace(sample, distributions=self.distributions.read(position, label))
            except BadRecordError as error:
                self._count_corrupt(position, str(error))
        raise UserError(f"no picture of {self.records.path} can be read; check it with check-lmdb")

    def label(self, index: int) -> str:
        """Return the cleaned label of a word without its picture; "" when a teacher is to label it."""
        if not self.labelled:
            return ""
        return self.charset.clean(self.records.label(self.positions[index]), self.options.max_length) or ""

    def keep(self, numbers: np.ndarray) -> None:
        """Keep only the words whose numbers (K,) are given."""
        self.drawn_from = len(self)
        self.positions = Positions(np.asarray([self.positions[number] for number in numbers.tolist()], dtype=np.int64))

    def check_pictures(self) -> None:
        """Decode every picture.

        Raises:
            UserError: for the first that can't be read.
        """
        for number in followed(range(len(self)), len(self), f"checking {self.name}"):
            try:
                decode_record(self.records, self.positions[number])
            except BadRecordError as error:
                raise UserError(f"{error}; check-lmdb names all such records") from None

    @property
    def labelled(self) -> bool:
        """Whether the set's own labels are used; otherwise a teacher reads the words."""
        return self.source.labelled

    @property
    def name(self) -> str:
        """The set's name."""
        return self.records.name

    def _select(self) -> Sequence[int] | Positions:
        if not self.labelled:
            return range(len(self.records))
        options = self.options
        selection = select_records(self.records, self.charset, options.max_length, ctc_columns=options.ctc_columns)
        self.selection, unlabelled = selection, selection.dropped["no label"]
        if unlabelled > options.max_corrupt * len(self.records):
            raise UserError(self._too_many_corrupt(unlabelled, "without a label that can be read"))
        if not len(selection.positions):
            reasons = ", ".join(f"{count} {reason}" for reason, count in selection.dropped.items()) or "it is empty"
            longer = set(selection.dropped) == {"too long"}
            hint = "a greater student.max_length leaves them" if longer else "another charset may have them"
            raise UserError(f"{self.records.path}: no word is left ({reasons}); {hint}")
        return selection.positions

    def _missing(self) -> list[int]:
        gone = set(self.records.missing())
        return [position for number in range(len(self)) if (position := self.positions[number]) in gone] if gone else []

    def _picture(self, position: int) -> np.ndarray:
        """Decode a picture, or take it, resized, from the cache.

        Raises:
            BadRecordError: when it can't be decoded.
        """
        if self._cache is not None:
            pixels = self._cache[position]
            if pixels is None:
                raise BadRecordError(f"{self.records.describe(position)} can't be read as a picture")
            return pixels
        try:
            return decode(self.records.image(position))
        except DamagedPictureError as error:
            raise BadRecordError(f"{self.records.describe(position)} can't be read as a picture ({error})") from None

    def _count_corrupt(self, position: int, message: str) -> None:
        if position in self._corrupt:
            return
        self._corrupt.add(position)
        if len(self._corrupt) > self.options.max_corrupt * len(self.records):
            raise UserError(self._too_many_corrupt(len(self._corrupt), f"corrupt, the last: {message}"))
        LOG.warning("skipped (%d of %d so far): %s", len(self._corrupt), len(self.records), message)

    def _too_many_corrupt(self, count: int, what: str) -> str:
        share = self.options.max_corrupt
        most = f"{share:.2%} may be (data.max_corrupt)" if share > 0 else "none may be"
        return f"{self.records.path}: {count} of {len(self.records)} records {what}; {most}; check-lmdb lists them"


def parts_of(words: Words) -> tuple[Words, ...]:
    """Return the sets that words are put together from, or the one that they are."""
    return words.parts if isinstance(words, ConcatWords) else (words,)


def stored_parts(words: Words) -> list[WordDataset]:
    """List the parts of words that are stored; none for those that are drawn."""
    return [part for part in parts_of(words) if isinstance(part, WordDataset)]


class ConcatWords(Dataset[Sample]):
    """Several sets of words, one after the other; `Sample.index` counts over all of them.

    Args:
        parts: the sets.
    """

    def __init__(self, parts: Sequence[Words]) -> None:
        self.parts = tuple(parts)
        self.ends = list(itertools.accumulate(len(part) for part in parts))

    @property
    def name(self) -> str:
        """Names of the sets."""
        return ", ".join(part.name for part in self.parts)

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> Sample:
        """Return a word as in epoch 0."""
        return self.sample(index, 0)

    def sample(self, index: int, epoch: int) -> Sample:
        """Return a word."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect.bisect_right(self.ends, index)
        return self.part_sample(part, index - self._start(part), epoch)

    def part_sample(self, part: int, number: int, epoch: int) -> Sample:
        """Return the word of a number within a part."""
        start, sample = self._start(part), self.parts[part].sample(number, epoch)
        return dataclasses.replace(sample, index=start + sample.index) if start else sample

    def _start(self, part: int) -> int:
        return self.ends[part - 1] if part else 0


class MixtureWords(ConcatWords):
    """The words of several sources, asked for by `Draw`."""

    def __getitem__(self, draw: Draw) -> Sample:  # type: ignore[override]
        """Return the drawn word."""
        return self.part_sample(draw.source, draw.word, draw.epoch)


def load_words(
    path: Path | str, charset: Charset, source: SourceSection | None = None, options: WordOptions | None = None
) -> WordDataset | ConcatWords:
    """Load the words of a set, or of all sets below a folder, one after the other.

    Raises:
        UserError: see `open_sets` (`open_all` where labels are not wanted) and `WordDataset`.
    """
    sets = open_words(path, source is None or source.labelled)
    loaded = [WordDataset(records, charset, source, options) for records in sets]
    if source is not None and source.words:
        loaded = draw_words(loaded, source.words)
    return loaded[0] if len(loaded) == 1 else ConcatWords(loaded)


def draw_words(parts: Sequence[WordDataset], count: int) -> list[WordDataset]:
    """Keep `count` words of all sets together: the same ones in every run, a smaller number of them among a larger.

    Args:
        parts: the sets; those of which no word is left are left out.
        count: how many words.

    Raises:
        UserError: when the sets have fewer.
    """
    ends = list(itertools.accumulate(len(part) for part in parts))
    if count > ends[-1]:
        names = ", ".join(str(part.records.path) for part in parts)
        raise UserError(f"{names}: words is {count}, of {ends[-1]} that there are; 0 takes all")
    drawn = np.sort(Permutation(ends[-1], (0,))(np.arange(count)))
    of_each = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
    for part, start, numbers in zip(parts, [0, *ends[:-1]], of_each, strict=True):
        part.keep(numbers - start)
    return [part for part in parts if len(part)]
