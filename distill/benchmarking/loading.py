"""Time loading words: augmented words a second, and seconds and memory from a start to the first batch."""

from __future__ import annotations

import io
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from distill.benchmarking.measuring import (
    Row,
    Setup,
    held_bytes,
    in_new_process,
    interleaved,
    mapped_bytes,
    own_bytes,
    peak_bytes,
    reset_peak,
    row,
)
from distill.data.batch import Batch
from distill.data.datasets import load_words
from distill.data.loading import Context, Source, build_loader
from distill.data.sections import Augmentation, SourceSection
from distill.data.writing import LmdbWriter
from students.charset import Charset

WORDS, BATCH = 2000, 64
"""Words of the LMDB that loaders read, and words of a batch."""
CHUNK = 100_000
"""Words of the start-up's LMDB that are written at a time."""
WORKER_BATCHES = 100
"""Batches that a worker loads before its memory is measured."""
STARTUP = {"CPU time": "s", "memory held": "MiB", "memory at the peak": "MiB"}
"""Measurements of a start and their units; the peak counts pages of the LMDB, which the system can take back."""
WORKER = ("a worker's own memory", "pages of files that it has mapped")
"""Measurements of a worker, in MiB."""


def loader_words_per_s(setup: Setup) -> Iterator[Row]:
    """Measure words a second from an LMDB of JPEG crops about 100 pixels wide.

    With 0 workers the loader works in this process and the clock counts its CPU time: the rate of one worker. With
    more workers it is the wall clock.
    """
    charset = Charset.load("36")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words"
        write_crops(path, 256 if setup.quick else WORDS)
        policies: tuple[Augmentation, ...] = ("strong",) if setup.quick else ("none", "light", "strong")
        count = 2 if setup.quick else 8
        sides: dict[str, Callable[[], None]] = {}
        for policy in policies:
            words = load_words(path, charset, SourceSection(augmentation=policy))
            sides[policy] = partial(take, iter(build_loader([Source(words)], BATCH)), count)
        for name, seconds in interleaved(sides, setup).items():
            case: dict[str, object] = {"augmentation": name, "workers": 0, "clock": "CPU"}
            yield row("loader_words_per_s", case, [BATCH * count / value for value in seconds], "words/s")
        for workers in () if setup.quick else (1, 2):
            case = {"augmentation": "strong", "workers": workers, "clock": "wall"}
            yield row("loader_words_per_s", case, rates_with_workers(path, charset, workers, setup), "words/s")


def rates_with_workers(path: Path, charset: Charset, workers: int, setup: Setup) -> list[float]:
    """Measure words a second by the wall clock, round by round, after what was prefetched is used up."""
    words = load_words(path, charset, SourceSection(augmentation="strong"))
    batches = iter(build_loader([Source(words)], BATCH, workers))
    take(batches, 10 * workers)
    rates = []
    for _ in range(setup.rounds):
        started = time.perf_counter()
        take(batches, 8)
        rates.append(8 * BATCH / (time.perf_counter() - started))
    return rates


def take(batches: Iterator[Batch], count: int) -> None:
    """Load batches and drop them."""
    for _ in range(count):
        next(batches)


def write_crops(path: Path, count: int) -> None:
    """Write an LMDB of drawn words: JPEG, 70 to 130 pixels wide, with a camera's noise."""
    source, noise = random.Random(0), np.random.default_rng(0)
    font = ImageFont.load_default(24)
    with LmdbWriter(path) as writer:
        for _ in range(count):
            word = "".join(source.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=source.randint(3, 9)))
            picture = Image.new("RGB", (source.randint(70, 130), 34), (200, 190, 170))
            ImageDraw.Draw(picture).text((4, 2), word, (40, 30, 60), font)
            pixels = np.asarray(picture, np.int16) + noise.integers(-12, 13, (*picture.size[::-1], 3))
            stored = io.BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stored, "JPEG", quality=85)
            writer.add(stored.getvalue(), word)


def startup_s(setup: Setup) -> Iterator[Row]:
    """Measure time and memory of opening N words at a first start, which may build an index, and later; of a worker."""
    for words in (10_000,) if setup.quick else (100_000, 1_000_000, 10_000_000):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "words"
            write_words(path, words)
            for start in ("first", "next"):
                repeats = 1 if start == "first" or words > 10**6 else 3
                measured = [in_new_process(measure_startup, path) for _ in range(repeats)]
                case = {"words": words, "start": start}
                for (name, unit), values in zip(STARTUP.items(), zip(*measured, strict=True), strict=True):
                    yield row("startup_s", {**case, "of": name}, values, unit)
            for name, value in zip(WORKER, in_new_process(measure_worker, path, WORKER_BATCHES), strict=True):
                yield row("startup_s", {"words": words, "start": "next", "of": name}, [value], "MiB")


def measure_startup(path: Path) -> tuple[float, float, float]:
    """Open a set and draw its first batch: the values of `STARTUP`."""
    charset = Charset.load("36")
    held, before, started = held_bytes(), reset_peak(), time.process_time()
    loader = build_loader([Source(load_words(path, charset))], BATCH)
    next(iter(loader.batch_sampler))  # type: ignore[arg-type,union-attr]
    seconds = time.process_time() - started
    return seconds, (held_bytes() - held) / 2**20, (peak_bytes() - before) / 2**20


def measure_worker(path: Path, count: int) -> tuple[float, float]:
    """Let a worker load `count` batches of words at random: the values of `WORKER`."""
    words = load_words(path, Charset.load("36"))
    # Forked as in training: this process was spawned, and its children would be too.
    start: Context | None = "fork" if sys.platform == "linux" else None
    batches = iter(build_loader([Source(words)], BATCH, workers=1, context=start))
    take(batches, count)
    worker = multiprocessing.active_children()[0].pid or 0
    return own_bytes(worker) / 2**20, mapped_bytes(worker) / 2**20


def write_words(path: Path, words: int) -> None:
    """Write an LMDB of words that all have the same small picture."""
    path.mkdir()
    letters, source = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789", np.uint8), np.random.default_rng(0)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    picture = file.getvalue()
    with lmdb.open(str(path), map_size=2**28 + 400 * words, lock=False, sync=False) as environment:

        def put(records: list[tuple[bytes, bytes]]) -> None:
            with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(records, append=True)  # keys have to come in order

        for start in range(1, words + 1, CHUNK):
            put([(b"image-%09d" % number, picture) for number in range(start, min(start + CHUNK, words + 1))])
        for start in range(1, words + 1, CHUNK):
            count = min(CHUNK, words + 1 - start)
            drawn, lengths = letters[source.integers(0, 36, (count, 10))], source.integers(2, 11, count)
            put([
                (b"label-%09d" % (start + number), drawn[number, :length].tobytes())
                for number, length in enumerate(lengths.tolist())
            ])  # fmt: skip
        put([(b"num-samples", b"%d" % words)])
