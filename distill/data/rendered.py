"""Rendered words as they are needed (a torch Dataset) or written to an LMDB, in parallel and in order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np
from torch.utils.data import Dataset

from distill.data.rendering.atlas import FontAtlas
from distill.data.rendering.renderer import RenderedWord, WordRenderer
from distill.data.words import Split, WordSampler

CHUNK = 100


@dataclass(frozen=True)
class Record:
    """What the LMDB holds for one word: the encoded picture, the label, the character under each 32nd of the width."""

    image: bytes
    label: str
    columns: bytes


def encode(word: RenderedWord) -> bytes:
    """Encode a rendered word as JPEG in its own quality."""
    options = (cv2.IMWRITE_JPEG_QUALITY, word.quality)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(word.image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV can't encode a picture of shape {word.image.shape}")
    return data.tobytes()


class RenderedWords(Dataset[tuple[np.ndarray, str, np.ndarray]]):
    """Words rendered when asked for: no disk, as many as wanted, the same for an index in every process.

    An item is the image (H, W, 3) uint8 RGB after JPEG, its label, and its columns (32,) uint8.

    Args:
        fonts: the fonts' glyphs (`fonts.choose_fonts`).
        words: the length of the data set.
        seed: two data sets of one seed and split are equal.
        split: which words are drawn.
        charset: characters that may occur.
        difficulty: see `WordRenderer`.
    """

    def __init__(
        self, fonts: Sequence[FontAtlas], words: int, seed: int = 0, split: Split = "train",
        charset: str | None = None, difficulty: float = 1.0,
    ) -> None:  # fmt: skip
        labels = test_labels(words, seed, split, charset)
        self.renderer = WordRenderer(fonts, seed, split, charset, labels, difficulty)
        self.words = words

    def __len__(self) -> int:
        return self.words

    def __getitem__(self, index: int) -> tuple[np.ndarray, str, np.ndarray]:
        if not 0 <= index < self.words:
            raise IndexError(f"word {index} of {self.words}")
        word = self.renderer.render(index)
        image = cv2.imdecode(np.frombuffer(encode(word), np.uint8), cv2.IMREAD_COLOR_RGB)
        return np.asarray(image, np.uint8), word.label, word.columns


def test_labels(words: int, seed: int, split: Split, charset: str | None) -> list[str] | None:
    """Draw the labels of a test set beforehand, so that no word occurs twice; None for the other splits.

    Raises:
        UserError: if the split does not hold that many words.
    """
    if split != "test":
        return None
    return WordSampler(split, charset).distinct(words, Random(f"labels {seed}"))


def render_records(renderer: WordRenderer, words: int, workers: int) -> Iterator[Record]:
    """Render words 0 to `words` - 1 with some processes, and hand them out in order."""
    chunks = [(start, min(start + CHUNK, words)) for start in range(0, words, CHUNK)]
    if workers <= 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            for chunk in chunks:
                yield from _records(renderer, chunk)
        finally:
            cv2.setNumThreads(threads)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _Worker.start, (renderer,)) as pool:
        for records in pool.imap(_Worker.work, chunks):
            yield from records


def _records(renderer: WordRenderer, chunk: tuple[int, int]) -> list[Record]:
    words = [renderer.render(index) for index in range(*chunk)]
    return [Record(encode(word), word.label, word.columns.tobytes()) for word in words]


class _Worker:
    """The renderer of a worker process, handed over once instead of with every chunk."""

    renderer: WordRenderer

    @classmethod
    def start(cls, renderer: WordRenderer) -> None:
        cv2.setNumThreads(1)
        cls.renderer = renderer

    @classmethod
    def work(cls, chunk: tuple[int, int]) -> list[Record]:
        return _records(cls.renderer, chunk)
