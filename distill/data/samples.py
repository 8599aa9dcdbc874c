"""From a picture and what is known of it to a sample: augmented, resized, with token ids of its columns."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill.data.augmentation import LightAugment, Picture, RandAugment, as_image, sample_generator
from distill.data.batch import Sample
from distill.data.columns import column_ids
from distill.data.photo_augmentation import PhotoAugment
from distill.data.sections import SourceSection
from students.charset import Charset
from students.pictures import fitted_size, resize

STRETCH = 0.25
"""Largest logarithm of the factor by which augmentation changes the width of pictures that keep their aspect."""


@dataclass(frozen=True)
class WordOptions:
    """What a run asks of all its words; what differs from source to source stands in `SourceSection`."""

    max_length: int = 25
    """Longest label in characters."""
    image_size: tuple[int, int] = (32, 128)
    """Height and width of the samples; of the widest with `keep_aspect`."""
    keep_aspect: bool = False
    """Whether pictures keep their aspect, within a factor that augmentation draws."""
    seed: int = 0
    """Seed of the augmentation."""
    max_corrupt: float = 0.01
    """Largest share of corrupt records that is skipped; 0 makes the first one an error."""
    ctc_columns: int | None = None
    """Columns that CTC reads off, to count the words that need more; None counts none."""
    second_view: bool = False
    """Whether every picture is augmented in a second way, see `Sample.second`."""


class SampleBuilder:
    """Turn a picture and what is known of it into a sample: augment, resize, and map its columns to token ids.

    Args:
        charset: the alphabet.
        source: augmentation of the pictures.
        options: size of the samples and seed of the augmentation.
        name: name of the set, which the augmentation's generator follows from too.
    """

    def __init__(self, charset: Charset, source: SourceSection, options: WordOptions, name: str) -> None:
        self.source, self.options, self.name = source, options, name
        self._column_ids = column_ids(charset)
        policies: dict[str, RandAugment | PhotoAugment] = {"strong": RandAugment(), "photo": PhotoAugment()}
        self._on_original = policies.get(source.augmentation)
        self._light = LightAugment() if source.augmentation == "light" else None

    def build(
        self, picture: Picture, label: str, columns: np.ndarray | None, index: int, epoch: int,
        position: int | None = None, version: int | None = None,
    ) -> Sample:  # fmt: skip
        """Build one sample.

        Args:
            picture: pixels (H, W, 3) uint8 or a Pillow picture of any size; pixels of the samples' size stay so.
            label: its cleaned label.
            columns: code points (32,) of the characters under its columns; None where they aren't known.
            index: its number in the data set.
            epoch: epoch of its augmentation.
            position: its number in what is stored, when that is another one.
            version: see `Sample.version`.
        """
        number = index if position is None else position
        rng = sample_generator(self.options.seed, self.name, epoch, number)
        other = sample_generator(self.options.seed, f"{self.name}, second view", epoch, number)
        second = picture if self.options.second_view else None
        if self._on_original is not None:
            if second is None:
                picture, moved = self._on_original(picture, rng)
            else:
                picture, second, moved = self._on_original.pair(picture, rng, other)
            columns = None if moved else columns
        size = self._size(picture, rng)
        pixels, second_pixels = self._resize(picture, size), None if second is None else self._resize(second, size)
        if self._light is not None:
            if second_pixels is None:
                pixels = self._light(pixels, rng)
            else:
                pixels, second_pixels = self._light.pair(pixels, rng, other)
        return Sample(pixels, label, self._ids(columns), index, self.name, version, second=second_pixels)

    def _resize(self, picture: Picture, size: tuple[int, int]) -> np.ndarray:
        """Bring a picture to the size of its sample."""
        fits = isinstance(picture, np.ndarray) and picture.shape[:2] == size
        return np.asarray(picture) if fits else resize(as_image(picture), size)

    def _size(self, picture: Picture, rng: random.Random) -> tuple[int, int]:
        """Return height and width of the sample."""
        options = self.options
        if not options.keep_aspect:
            return options.image_size
        height, width = picture.shape[:2] if isinstance(picture, np.ndarray) else picture.size[::-1]
        stretch = 1.0 if self.source.augmentation == "none" else math.exp(rng.uniform(-STRETCH, STRETCH))
        return fitted_size(width, height, options.image_size, stretch)

    def _ids(self, columns: np.ndarray | None) -> Tensor | None:
        if columns is None:
            return None
        last = len(self._column_ids) - 1  # ids of what lies beyond the alphabet are 0, as that of code point 0
        return torch.from_numpy(self._column_ids[np.where(columns <= last, columns, 0)])
