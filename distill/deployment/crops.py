"""Pictures to compare an export on: real crops from LMDBs or picture files, or words drawn for the purpose."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from distill.data.folders import find_pictures
from distill.data.lmdb_reader import DATA_FILE
from distill.data.records import LIST_SUFFIX, BadRecordError, Records, decode_record
from distill.data.trees import open_set, open_sets
from students.errors import UserError
from students.pictures import decode_picture, to_tensor


def load_crops(places: Sequence[str | Path], size: tuple[int, int], most: int = 512) -> Tensor:
    """Load word pictures from LMDBs (or trees of them), picture files and folders: normalised (N, 3, H, W).

    Args:
        places: LMDB folders, folders that hold LMDBs anywhere, lists of records, folders of pictures, picture files.
        size: height and width.
        most: how many to take, spread evenly; records that can't be decoded are left out.

    Raises:
        UserError: when a place holds none, or a picture file can't be read.
    """
    pictures: list[Image.Image] = []
    for share, place in zip(split(most, len(places)), map(Path, places), strict=True):
        if place.name.endswith(LIST_SUFFIX):
            sets = [open_set(place)]
        else:
            sets = open_sets(place) if place.is_dir() and any(place.rglob(DATA_FILE)) else []
        if not sets:
            pictures += [decode_picture(path) for path in spread(find_pictures([place]).pictures, share)]
        for part, records in zip(split(share, len(sets)), sets, strict=True):
            pictures += load_records(records, part)
    if not pictures:
        raise UserError(f"no picture in {', '.join(map(str, places))} can be decoded; give word pictures or LMDBs")
    return to_tensor(pictures, size)


def load_records(records: Records, most: int) -> list[Image.Image]:
    """Decode up to `most` pictures of a set, spread evenly over its records."""
    pictures = []
    for position in spread(range(len(records)), most):
        with contextlib.suppress(BadRecordError):
            pictures.append(decode_record(records, position))
    return pictures


def split(most: int, parts: int) -> list[int]:
    """Split a budget evenly, at least one each."""
    return [max(1, most // parts + (k < most % parts)) for k in range(parts)]


def spread(items: Sequence, most: int) -> list:
    """Take up to `most` items, evenly spread, in order."""
    if len(items) <= most:
        return list(items)
    return [items[k * len(items) // most] for k in range(most)]


def draw_words(characters: str, size: tuple[int, int], count: int = 96, longest: int = 14, seed: int = 0) -> Tensor:
    """Draw `count` words of 1 to `longest` characters, and as many pictures of noise: normalised (N, 3, H, W)."""
    source = random.Random(seed)
    noise = np.random.default_rng(seed)
    font = ImageFont.load_default(24)
    pictures = []
    for number in range(count):
        word = "".join(source.choices(characters, k=1 + number % longest))
        left, top, right, bottom = font.getbbox(word)
        dark, light = source.randrange(90), source.randrange(165, 256)
        ink, paper = (dark, light) if number % 2 else (light, dark)
        picture = Image.new("RGB", (int(right - left) + 12, int(bottom - top) + 10), (paper, paper, paper))
        ImageDraw.Draw(picture).text((6 - left, 5 - top), word, (ink, ink, ink), font)
        pictures.append(picture)
    pictures += [Image.fromarray(noise.integers(0, 256, (8, 24, 3), np.uint8)) for _ in range(count)]
    source.shuffle(pictures)
    return to_tensor(pictures, size)
