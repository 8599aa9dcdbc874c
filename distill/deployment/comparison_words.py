"""Pictures of words on which a reader and its export are compared: real crops, or words that are drawn here."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from distill.data.folders import find_pictures
from distill.data.records import LIST_SUFFIX, BadRecordError, Records, decode_record
from distill.data.sampling import spread
from distill.data.sheets import load_font
from distill.data.trees import open_all, open_set
from students.errors import UserError
from students.pictures import decode_picture, to_tensor
from students.reading import Reader

LOG = logging.getLogger(__name__)
LONGEST = 14
"""Most characters of a word that is drawn."""


@dataclass(frozen=True)
class ComparisonWord:
    """A picture of a word, and what it says where that is known."""

    picture: Image.Image
    label: str | None = None


def count_right(reader: Reader, words: Sequence[ComparisonWord], texts: Sequence[str]) -> tuple[int, int]:
    """Count the words that are read right, by the reader's label rules, and those whose label is known and counts."""
    labels = [None if word.label is None else reader.charset.clean(word.label, reader.max_length) for word in words]
    right = sum(label == text for label, text in zip(labels, texts, strict=True) if label is not None)
    return right, sum(label is not None for label in labels)


def load_words(paths: Sequence[str | Path], most: int = 512) -> list[ComparisonWord]:
    """Load word pictures from LMDBs (or trees of them), picture files and folders.

    Args:
        paths: LMDB folders, folders that hold LMDBs anywhere, lists of records, folders of pictures, picture files.
        most: how many to take, spread evenly; records that can't be decoded are left out, and counted in a warning.

    Raises:
        UserError: when a path holds none, or a picture file can't be read.
    """
    words: list[ComparisonWord] = []
    for budget, path in zip(split(most, len(paths)), map(Path, paths), strict=True):
        sets = [open_set(path)] if path.name.endswith(LIST_SUFFIX) else open_all(path) if path.is_dir() else []
        if not sets:
            words += [ComparisonWord(decode_picture(file)) for file in spread(find_pictures([path]).pictures, budget)]
        for part, records in zip(split(budget, len(sets)), sets, strict=True):
            words += load_records(records, part)
    if not words:
        raise UserError(f"no picture in {', '.join(map(str, paths))} can be decoded; give word pictures or LMDBs")
    return words


def load_records(records: Records, most: int) -> list[ComparisonWord]:
    """Decode up to `most` words of a set, spread evenly over its records."""
    words, positions = [], spread(range(len(records)), most)
    for position in positions:
        with contextlib.suppress(BadRecordError):
            picture, label = decode_record(records, position), None
            with contextlib.suppress(BadRecordError):
                label = records.label(position)
            words.append(ComparisonWord(picture, label))
    if len(words) < len(positions):
        LOG.warning("%s: %d pictures can't be decoded, left out", records.path, len(positions) - len(words))
    return words


def split(most: int, parts: int) -> list[int]:
    """Split a budget into equal parts, of at least one each."""
    return [max(1, most // parts + (k < most % parts)) for k in range(parts)]


def draw_words(characters: str, size: tuple[int, int], count: int = 96, keep_aspect: bool = False) -> Tensor:
    """Draw words as `draw_pictures` does: normalised (N, 3, H, W)."""
    return to_tensor(draw_pictures(characters, count), size, keep_aspect)


def draw_pictures(characters: str, count: int = 96) -> list[Image.Image]:
    """Draw `count` words of 1 to `LONGEST` characters, and as many pictures of noise; the same every time."""
    source, noise = random.Random(0), np.random.default_rng(0)
    font = ImageFont.load_default(24) if characters.isascii() else load_font(24)
    pictures = []
    for number in range(count):
        word = "".join(source.choices(characters, k=1 + number % LONGEST))
        left, top, right, bottom = font.getbbox(word)
        dark, light = source.randrange(90), source.randrange(165, 256)
        ink, paper = (dark, light) if number % 2 else (light, dark)
        picture = Image.new("RGB", (int(right - left) + 12, int(bottom - top) + 10), (paper, paper, paper))
        ImageDraw.Draw(picture).text((6 - left, 5 - top), word, (ink, ink, ink), font)
        pictures.append(picture)
    pictures += [Image.fromarray(noise.integers(0, 256, (8, 24, 3), np.uint8)) for _ in range(count)]
    source.shuffle(pictures)
    return pictures
