"""Timing: milliseconds a word, from a decoded picture to text, one word at a time on one CPU thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image

from distill.evaluation.readers import WordReader, place
from students.pictures import to_tensor

WARM_UP = 3
"""Words read before the clock counts."""


def ms_per_word(reader: WordReader, pictures: Sequence[Image.Image]) -> float:
    """Give the median time of reading one picture alone on one CPU thread, resizing included, in milliseconds.

    The reader may be moved to the CPU for it; the caller places it afterwards.
    """
    alone = place(reader, "cpu", 1)
    seconds = []
    with one_thread():
        for number, picture in enumerate([*pictures[:WARM_UP], *pictures]):
            started = time.perf_counter()
            alone.read_batch(to_tensor([picture], alone.image_size))
            if number >= min(WARM_UP, len(pictures)):
                seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
