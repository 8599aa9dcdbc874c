"""SyntheticWords: words that are rendered while training runs, as samples."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from distill.data.augmentation import LightAugment, stream
from distill.data.batch import Sample
from distill.data.datasets import WordOptions, column_ids
from students.charset import Charset
from students.errors import UserError
from students.pictures import resize

TRIES = 1000
"""Words that are passed over for one that the alphabet can write, before that is an error."""


class PixelSource(Protocol):
    """Pictures by number, such as `RenderedWords`."""

    def __len__(self) -> int:
        """Count them."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, str, np.ndarray]:
        """Give picture (H, W, 3) uint8 RGB, label, and ASCII codes of the characters under its columns (32,)."""


class SyntheticWords(Dataset[Sample]):
    """Samples from pictures that are made when asked for.

    Args:
        source: makes the pictures; the same for a number in every process.
        charset: the alphabet.
        options: how words are prepared; `strong` and a cache make no sense here and are refused.
        words: length of the data set; with a source `k` times as long, the first `k` epochs show new pictures.
        name: the set's name.

    Raises:
        UserError: for options that can't be had.
    """

    def __init__(
        self, source: PixelSource, charset: Charset, options: WordOptions | None = None, words: int | None = None,
        name: str = "rendered",
    ) -> None:  # fmt: skip
        self.source, self.charset, self.options, self.name = source, charset, options or WordOptions(), name
        if self.options.augmentation == "strong" or self.options.cache != "none":
            raise UserError("words rendered while training runs take augmentation none or light, and cache none")
        self._words = words or len(source)
        self._columns = column_ids(charset)
        self._light = LightAugment() if self.options.augmentation == "light" else None

    def __len__(self) -> int:
        return self._words

    def __getitem__(self, index: int) -> Sample:
        """Give a word as in epoch 0."""
        return self.sample(index, 0)

    def sample(self, index: int, epoch: int) -> Sample:
        """Give a word; another epoch gives another picture as long as the source has more.

        Raises:
            UserError: when the source hardly writes a word that the alphabet can.
        """
        turn, version = self.options.turn(epoch)
        start = turn * self._words + index
        for number in range(start, start + TRIES):  # a word that is too long gives its place to the next
            pixels, written, codes = self.source[number % len(self.source)]
            label = self.charset.clean(written, self.options.max_length)
            if label is not None:
                break
        else:
            raise UserError(f"rendered word {written!r} can't be written in the alphabet; render with the same charset")
        pixels = resize(Image.fromarray(pixels), self.options.image_size)
        if self._light is not None:
            pixels = self._light(pixels, stream(self.options.seed, self.name, turn, index))
        columns = torch.from_numpy(self._columns[np.asarray(codes, dtype=np.uint8)])
        if self._words != len(self.source):
            version = turn if self.options.versions else None
        return Sample(pixels, label, columns, index, self.name, version)
