"""Start-up: seconds and memory until the first words are drawn, against the number of words."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np

from distill.benchmarking.measuring import Row, Setup, apart, row
from distill.benchmarking.memory import forget_peak, held_bytes, peak_bytes
from distill.data.datasets import load_words
from distill.data.loading import Source, build_loader
from students.charset import Charset

CHUNK = 100_000
"""Labels written at a time."""
MEASURED = {"CPU time": "s", "memory held": "MiB", "memory at the peak": "MiB"}
"""What is measured, in which unit; pages of the LMDB count at the peak, which the system takes back when it must."""


def startup_s(setup: Setup) -> Iterator[Row]:
    """Seconds and memory of opening N labels: at the first start, which may make an index, and at the next."""
    for words in (10_000,) if setup.quick else (100_000, 1_000_000, 10_000_000):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "words"
            write_labels(place, words)
            for start in ("first", "next"):
                measured = [apart(measure, place) for _ in range(1 if start == "first" or words > 10**6 else 3)]
                case = {"words": words, "start": start}
                for (name, unit), values in zip(MEASURED.items(), zip(*measured, strict=True), strict=True):
                    yield row("startup_s", {**case, "of": name}, values, unit)


def measure(place: Path) -> tuple[float, float, float]:
    """Open a set and draw its first batch: `MEASURED`."""
    charset = Charset.load("36")
    held, before, started = held_bytes(), forget_peak(), time.process_time()
    loader = build_loader([Source(load_words(place, charset))], 64)
    next(iter(loader.batch_sampler))  # type: ignore[arg-type]
    seconds = time.process_time() - started
    return seconds, (held_bytes() - held) / 2**20, (peak_bytes() - before) / 2**20


def write_labels(place: Path, words: int) -> None:
    """Write an LMDB of labels without pictures, which are looked up one by one and not at the start."""
    place.mkdir()
    letters, source = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789", np.uint8), np.random.default_rng(0)
    with lmdb.open(str(place), map_size=2**28 + 200 * words, lock=False, sync=False) as environment:
        for start in range(0, words, CHUNK):
            count = min(CHUNK, words - start)
            drawn, lengths = letters[source.integers(0, 36, (count, 10))], source.integers(2, 11, count)
            records = [
                (b"label-%09d" % (start + number + 1), drawn[number, :length].tobytes())
                for number, length in enumerate(lengths.tolist())
            ]
            with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(records, append=True)
        with environment.begin(write=True) as transaction:
            transaction.put(b"num-samples", b"%d" % words)
