"""Start-up: seconds and memory until the first words are drawn, and memory of a worker, against the number of words."""

from __future__ import annotations

import io
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

from distill.benchmarking.measuring import Row, Setup, apart, row
from distill.benchmarking.memory import forget_peak, held_bytes, mapped_bytes, own_bytes, peak_bytes
from distill.data.datasets import load_words
from distill.data.loading import Context, Source, build_loader
from students.charset import Charset

CHUNK = 100_000
"""Words written at a time."""
BATCHES = 100
"""Batches of 64 words that a worker loads before its memory is looked at."""
MEASURED = {"CPU time": "s", "memory held": "MiB", "memory at the peak": "MiB"}
"""What is measured, in which unit; pages of the LMDB count at the peak, which the system takes back when it must."""
WORKER = ("a worker's own memory", "pages of files that it has mapped")
"""What is measured of a worker."""


def startup_s(setup: Setup) -> Iterator[Row]:
    """Seconds and memory of opening N words, at the first start, which may make an index, and the next; of a worker."""
    for words in (10_000,) if setup.quick else (100_000, 1_000_000, 10_000_000):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "words"
            write_words(place, words)
            for start in ("first", "next"):
                measured = [apart(measure, place) for _ in range(1 if start == "first" or words > 10**6 else 3)]
                case = {"words": words, "start": start}
                for (name, unit), values in zip(MEASURED.items(), zip(*measured, strict=True), strict=True):
                    yield row("startup_s", {**case, "of": name}, values, unit)
            for name, value in zip(WORKER, apart(measure_worker, place), strict=True):
                yield row("startup_s", {"words": words, "start": "next", "of": name}, [value], "MiB")


def measure(place: Path) -> tuple[float, float, float]:
    """Open a set and draw its first batch: `MEASURED`."""
    charset = Charset.load("36")
    held, before, started = held_bytes(), forget_peak(), time.process_time()
    loader = build_loader([Source(load_words(place, charset))], 64)
    next(iter(loader.batch_sampler))  # type: ignore[arg-type]
    seconds = time.process_time() - started
    return seconds, (held_bytes() - held) / 2**20, (peak_bytes() - before) / 2**20


def measure_worker(place: Path) -> tuple[float, float]:
    """Let a worker load words at random, and give its memory in MiB: `WORKER`."""
    words = load_words(place, Charset.load("36"))
    # Forked as in training: this process was spawned, and its children would be too.
    start: Context | None = "fork" if sys.platform == "linux" else None
    batches = iter(build_loader([Source(words)], 64, workers=1, context=start))
    for _ in range(BATCHES):
        next(batches)
    worker = multiprocessing.active_children()[0].pid or 0
    return own_bytes(worker) / 2**20, mapped_bytes(worker) / 2**20


def write_words(place: Path, words: int) -> None:
    """Write an LMDB of words that all have the same small picture."""
    place.mkdir()
    letters, source = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789", np.uint8), np.random.default_rng(0)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    picture = file.getvalue()
    with lmdb.open(str(place), map_size=2**28 + 400 * words, lock=False, sync=False) as environment:

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
