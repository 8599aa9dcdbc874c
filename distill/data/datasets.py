"""Data sets of words: which of a set's words are kept, how a word becomes a sample, and sets put together."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill.data.augmentation import LightAugment, Policy, RandAugment, stream
from distill.data.batch import COLUMNS, Sample
from distill.data.decoding import decode
from distill.data.kept import Positions
from distill.data.label_index import keep
from distill.data.operations import Picture, as_image
from distill.data.pixel_cache import PixelCache
from distill.data.records import LIST_SUFFIX, BadRecordError, Records
from distill.data.trees import find_all, find_sets, open_set
from students.charset import Charset
from students.errors import UserError
from students.pictures import DamagedPictureError, resize

__all__ = ["ConcatWords", "WordDataset", "WordOptions", "Words", "column_ids", "find_sets", "load_words"]

LOG = logging.getLogger(__name__)


class Words(Protocol):
    """Anything that gives samples by index and epoch: a set, several, or words rendered on the fly."""

    def __len__(self) -> int:
        """Count the words."""

    def sample(self, index: int, epoch: int) -> Sample:
        """Give a word; its augmentation follows from index and epoch alone."""


@dataclass(frozen=True)
class WordOptions:
    """How words are prepared."""

    augmentation: Policy = "none"
    """`strong` works on pictures of original size, `light` on resized ones."""
    cache: Literal["none", "memory"] = "none"
    """`memory` decodes and resizes each picture once and keeps the pixels in a mapped file."""
    cache_folder: Path | None = None
    """Where that file lies; None takes the set's own folder, or the user's cache when that is read-only."""
    seed: int = 0
    """Seed of the augmentation."""
    versions: int = 0
    """Ways in which a picture is augmented, one an epoch in turn; 0: another one in each."""
    max_corrupt: float = 0.01
    """Largest share of corrupt records that is skipped; 0 makes the first one an error."""
    max_length: int = 25
    """Longest label in characters."""
    image_size: tuple[int, int] = (32, 128)
    """Height and width of the samples."""
    labelled: bool = True
    """False keeps every picture, whatever its label, and gives none: a teacher is to read them."""

    def turn(self, epoch: int) -> tuple[int, int | None]:
        """Give the epoch that a picture is augmented as in, and `Sample.version` of what comes out."""
        turn = epoch % self.versions if self.versions else epoch
        return turn, 0 if self.augmentation == "none" else turn if self.versions else None


class WordDataset(Dataset[Sample]):
    """The words of one set whose labels an alphabet can write (METHOD 1.6).

    Labels are judged once, at the start. What a worker process gets of a large set is the paths of files to map.

    Args:
        records: the set.
        charset: the alphabet.
        options: how words are prepared.

    Attributes:
        dropped: how many records were left out, by reason.

    Raises:
        UserError: when no word is kept, too many records are corrupt, or `strong` is asked for with a cache.
    """

    def __init__(self, records: Records, charset: Charset, options: WordOptions | None = None) -> None:
        self.records, self.charset, self.options = records, charset, options or WordOptions()
        self.dropped: Counter[str] = Counter()
        self._bad: set[int] = set()
        if self.options.augmentation == "strong" and self.options.cache == "memory":
            raise UserError("augmentation: strong needs pictures of their original size; set cache: none, or light")
        self._kept = self._keep()
        self._columns = column_ids(charset)
        self._strong = RandAugment() if self.options.augmentation == "strong" else None
        self._light = LightAugment() if self.options.augmentation == "light" else None
        wanted = self.options.cache == "memory"
        self._cache = PixelCache(records, self.options.image_size, self.options.cache_folder) if wanted else None

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Sample:
        """Give a word as in epoch 0; see `sample`."""
        return self.sample(index, 0)

    def sample(self, index: int, epoch: int) -> Sample:
        """Give a word, augmented as (seed, epoch, index) say; a corrupt one is replaced by the next that can be read.

        Raises:
            UserError: when more records are corrupt than `max_corrupt` allows.
        """
        for step in range(len(self)):
            at = (index + step) % len(self)
            position = self._kept[at]
            try:
                return self._prepare(position, at, epoch)
            except BadRecordError as error:
                self._note_bad(position, str(error))
        raise UserError(f"no picture of {self.records.path} can be read; check it with check_lmdb")

    def label(self, index: int) -> str:
        """Give the cleaned label of a word without its picture; "" when labels are not wanted."""
        if not self.options.labelled:
            return ""
        cleaned = self.charset.clean(self.records.label(self._kept[index]), self.options.max_length)
        return cleaned or ""

    @property
    def name(self) -> str:
        """The set's name."""
        return self.records.name

    def _keep(self) -> Sequence[int] | Positions:
        if not self.options.labelled:
            return range(len(self.records))
        kept = keep(self.records, self.charset, self.options.max_length)
        self.dropped = kept.dropped
        if self.dropped["no label"] > self.options.max_corrupt * len(self.records):
            raise UserError(self._too_many_bad(self.dropped["no label"], "without a label that can be read"))
        if not len(kept.positions):
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items()) or "it is empty"
            raise UserError(f"{self.records.path}: no word is left ({reasons}); another charset may keep them")
        return kept.positions

    def _prepare(self, position: int, index: int, epoch: int) -> Sample:
        turn, version = self.options.turn(epoch)
        rng = stream(self.options.seed, self.name, turn, position)
        if self._cache is not None:
            cached = self._cache[position]
            if cached is None:
                raise BadRecordError(f"{self.records.describe(position)} can't be read as a picture")
            pixels, moved = cached, False
        else:
            picture: Picture = self._decode(position)
            moved = False
            if self._strong is not None:
                picture, moved = self._strong(picture, rng)
            pixels = resize(as_image(picture), self.options.image_size)
        if self._light is not None:
            pixels = self._light(pixels, rng)
        columns = None if moved else self._column_labels(position)
        return Sample(pixels, self.label(index), columns, index, self.name, version)

    def _decode(self, position: int) -> np.ndarray:
        try:
            return decode(self.records.image(position))
        except DamagedPictureError as error:
            raise BadRecordError(f"{self.records.describe(position)} can't be read as a picture ({error})") from None

    def _column_labels(self, position: int) -> Tensor | None:
        codes = self.records.columns(position) if self.options.labelled else None
        if codes is None or len(codes) != COLUMNS:
            return None
        return torch.from_numpy(self._columns[np.frombuffer(codes, dtype=np.uint8)])

    def _note_bad(self, position: int, message: str) -> None:
        if position in self._bad:
            return
        self._bad.add(position)
        if len(self._bad) > self.options.max_corrupt * len(self.records):
            raise UserError(self._too_many_bad(len(self._bad), f"corrupt, the last: {message}"))
        LOG.warning("skipped (%d of %d so far): %s", len(self._bad), len(self.records), message)

    def _too_many_bad(self, count: int, what: str) -> str:
        share = self.options.max_corrupt
        most = f"{share:.2%} may be (data.max_corrupt)" if share > 0 else "none may be"
        return f"{self.records.path}: {count} of {len(self.records)} records {what}; {most}; check_lmdb lists them"


def column_ids(charset: Charset) -> np.ndarray:
    """Map ASCII codes to token ids (256,): 0 for none and for characters that the alphabet has not."""
    ids = np.zeros(256, dtype=np.int64)
    for code in range(33, 127):
        adapted = charset.adapt(chr(code))
        ids[code] = charset.ids[adapted] if len(adapted) == 1 else 0
    return ids


class ConcatWords(Dataset[Sample]):
    """Several sets of words, one after the other."""

    def __init__(self, parts: Sequence[Words]) -> None:
        self.parts = tuple(parts)
        self.ends = list(itertools.accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> Sample:
        """Give a word as in epoch 0."""
        return self.sample(index, 0)

    def sample(self, index: int, epoch: int) -> Sample:
        """Give a word; `Sample.index` counts over all parts."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect.bisect_right(self.ends, index)
        start = self.ends[part - 1] if part else 0
        found = self.parts[part].sample(index - start, epoch)
        return dataclasses.replace(found, index=found.index + start)


def load_words(path: Path | str, charset: Charset, options: WordOptions | None = None) -> WordDataset | ConcatWords:
    """Load the words of a set, or of all sets below a folder, one after the other.

    Raises:
        UserError: see `find_sets` (`find_all` where labels are not wanted) and `WordDataset`.
    """
    path = Path(path)
    listed = path.name.endswith(LIST_SUFFIX) or not path.exists()
    find = find_sets if options is None or options.labelled else find_all
    sets = [open_set(path)] if listed else find(path)
    loaded = [WordDataset(records, charset, options) for records in sets]
    return loaded[0] if len(loaded) == 1 else ConcatWords(loaded)
