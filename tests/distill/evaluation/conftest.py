"""Tiny stand-ins: sets of drawn words, and readers that know what to say."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from distill.data.writing import LmdbWriter
from distill.deployment.readers import ReadingKind, Role
from students.charset import CHARSETS, Charset
from students.decoding import Reading
from students.pictures import to_tensor
from teachers.guidance import Guidance
from teachers.teacher import Teacher


def encode_picture(number: int) -> bytes:
    """A picture whose grey level is the word's number, so that a reader can tell words apart."""
    stored = io.BytesIO()
    Image.fromarray(np.full((8, 20, 3), number, np.uint8)).save(stored, format="PNG")
    return stored.getvalue()


def seen(images: Tensor) -> list[int]:
    """The grey levels of normalised pictures."""
    return [round(value) for value in ((images.mean(dim=(1, 2, 3)) * 0.5 + 0.5) * 255).tolist()]


class FakeReader:
    """Says `words[grey level]`, or nothing."""

    params = 1_500_000

    def __init__(self, name: str, words: dict[int, str], role: Role = "student", reading: ReadingKind = "open") -> None:
        self.name, self.words, self.role, self.reading = name, words, role, reading
        self.charset = CHARSETS["36"]
        self.batches: list[int] = []

    def read_pictures(self, pictures: Sequence[Image.Image]) -> list[Reading]:
        self.batches.append(len(pictures))
        return [Reading(self.words.get(level, ""), 0.5, (0.5,)) for level in seen(to_tensor(pictures))]

    def place(self, device: str, threads: int | None) -> FakeReader:
        return self


class FakeTeacher(Teacher):
    """Embeds pictures by grey level and words by a table of grey levels; one dimension a level."""

    def __init__(self, levels: dict[str, int]) -> None:
        super().__init__("fake-clip")
        self.levels = levels

    def forward(self, images: Tensor, labels: Sequence[str]) -> Guidance:
        raise NotImplementedError

    def embed_images(self, images: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(seen(images)), 256).float()

    def embed_words(self, words: Sequence[str]) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor([self.levels.get(word, 255) for word in words]), 256).float()


@pytest.fixture
def charset() -> Charset:
    return Charset.load("36")


@pytest.fixture
def make_set() -> Callable[[Path, Sequence[str]], Path]:
    """Write an LMDB whose k-th word is a picture of grey level k."""

    def write(folder: Path, labels: Sequence[str]) -> Path:
        with LmdbWriter(folder) as writer:
            for number, label in enumerate(labels):
                writer.add(encode_picture(number), label)
        return folder

    return write
