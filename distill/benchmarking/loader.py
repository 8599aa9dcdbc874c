"""The loader: augmented words a second of one process."""

from __future__ import annotations

import io
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from distill.benchmarking.measuring import Row, Setup, interleaved, row
from distill.data.batch import Batch
from distill.data.datasets import load_words
from distill.data.loading import Source, build_loader
from distill.data.sections import Augmentation, SourceSection
from distill.data.writing import LmdbWriter
from students.charset import Charset

WORDS = 2000
"""Words of the LMDB that is read."""
BATCH = 64


def loader_words_per_s(setup: Setup) -> Iterator[Row]:
    """Words a second from an LMDB of JPEG crops about 100 pixels wide.

    With 0 workers the loader works in this process and the clock counts its CPU time: that is what one worker gives.
    With more of them it is the wall's clock.
    """
    charset = Charset.load("36")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "words"
        write_crops(place, 256 if setup.quick else WORDS)
        policies: tuple[Augmentation, ...] = ("strong",) if setup.quick else ("none", "light", "strong")
        batches = 2 if setup.quick else 8
        sides: dict[str, Callable[[], None]] = {}
        for policy in policies:
            words = load_words(place, charset, SourceSection(augmentation=policy))
            loaded = iter(build_loader([Source(words)], BATCH))
            sides[policy] = partial(take, loaded, batches)
        for name, seconds in interleaved(sides, setup).items():
            alone = {"augmentation": name, "workers": 0, "clock": "CPU"}
            yield row("loader_words_per_s", alone, [BATCH * batches / value for value in seconds], "words/s")
        for workers in () if setup.quick else (1, 2):
            rates = _with_workers(place, charset, workers, setup)
            case = {"augmentation": "strong", "workers": workers, "clock": "wall"}
            yield row("loader_words_per_s", case, rates, "words/s")


def _with_workers(place: Path, charset: Charset, workers: int, setup: Setup) -> list[float]:
    """Give words a second by the wall's clock, round by round; what lies ready at the start does not count."""
    words = load_words(place, charset, SourceSection(augmentation="strong"))
    loaded = iter(build_loader([Source(words)], BATCH, workers))
    take(loaded, 10 * workers)
    rates = []
    for _ in range(setup.rounds):
        started = time.perf_counter()
        take(loaded, 8)
        rates.append(8 * BATCH / (time.perf_counter() - started))
    return rates


def take(batches: Iterator[Batch], count: int) -> None:
    """Load batches and forget them."""
    for _ in range(count):
        next(batches)


def write_crops(place: Path, count: int) -> None:
    """Write an LMDB of drawn words: JPEG, 70 to 130 pixels wide, noise as cameras have it."""
    source, noise = random.Random(0), np.random.default_rng(0)
    font = ImageFont.load_default(24)
    with LmdbWriter(place) as writer:
        for _ in range(count):
            word = "".join(source.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=source.randint(3, 9)))
            picture = Image.new("RGB", (source.randint(70, 130), 34), (200, 190, 170))
            ImageDraw.Draw(picture).text((4, 2), word, (40, 30, 60), font)
            pixels = np.asarray(picture, np.int16) + noise.integers(-12, 13, (*picture.size[::-1], 3))
            stored = io.BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stored, "JPEG", quality=85)
            writer.add(stored.getvalue(), word)
