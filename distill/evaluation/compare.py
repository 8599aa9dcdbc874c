"""The comparison: every reader on the same words of the same sets, counted, timed and tested pair by pair."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from PIL import Image
from rich.console import Console

from distill.data.progress import followed
from distill.evaluation.agreement import Agreement, Pair, agreement
from distill.evaluation.benchmarks import Benchmark, averaged
from distill.evaluation.lexicon import ClosedReader
from distill.evaluation.metrics import Tally, tally
from distill.evaluation.readers import ReadingKind, Role, WordReader, place
from distill.evaluation.timing import ms_per_word
from students.charset import Charset
from students.errors import UserError
from students.pictures import to_tensor


@dataclass(frozen=True)
class SetResult:
    """One reader on one set."""

    tally: Tally
    """Words, hits, 1-NED."""
    predictions: tuple[str, ...]
    """What was read, after the rule for predictions."""
    confidences: tuple[float, ...]
    """How sure the reader was of each."""
    hits: tuple[bool, ...]
    """Whether each was right."""
    lexicon: int | None = None
    """Words that were chosen among; None for open reading."""
    partial: bool = False
    """Whether only some words of the set were read."""


@dataclass(frozen=True)
class ReaderResult:
    """One reader on all sets."""

    name: str
    role: Role
    reading: ReadingKind
    params: int
    charset: str
    ms_per_word: float
    """One word at a time, one CPU thread, from decoded picture to text."""
    sets: dict[str, SetResult]
    seconds: float
    """Wall time of reading all sets in batches."""


@dataclass(frozen=True)
class Comparison:
    """What came out."""

    readers: tuple[ReaderResult, ...]
    pairs: tuple[Pair, ...]
    """Each two readers of one kind of reading."""
    unlike: tuple[Pair, ...]
    """Students that read openly beside teachers that choose from a lexicon; see `unlike_pairs`."""
    averaged: tuple[str, ...]
    """Sets that averages and pairs are taken over."""
    benchmarks: tuple[Benchmark, ...]
    device: str
    """Where the sets were read; times a word are the CPU's always."""


def compare(
    readers: Sequence[WordReader], benchmarks: Sequence[Benchmark], charset: Charset, device: str = "cpu",
    threads: int | None = None, batch_size: int = 64, timed_words: int = 50, console: Console | None = None,
) -> Comparison:  # fmt: skip
    """Let every reader read every set.

    Args:
        readers: with names that differ; a `ClosedReader` without a lexicon gets each set's own words.
        benchmarks: sets, with labels cleaned for `charset`.
        charset: test alphabet; predictions go through its case rule and lose what is outside of it.
        device: where the sets are read.
        threads: CPU threads of ONNX readers while they read in batches.
        batch_size: words read at once.
        timed_words: words that the time a word is measured on.
        console: where progress goes.

    Raises:
        UserError: when a picture can't be read, or two readers have one name.
    """
    repeated = [name for name, count in Counter(reader.name for reader in readers).items() if count > 1]
    if repeated or not readers or not benchmarks:
        raise UserError(f"{repeated[0]!r} stands twice in the comparison" if repeated else "nothing to compare")
    chosen = averaged(benchmarks)
    pictures = sample_pictures([benchmark for benchmark in benchmarks if benchmark.name in chosen], timed_words)
    milliseconds = [ms_per_word(over(reader, benchmarks[0]), pictures) for reader in readers]
    placed = [place(reader, device, threads) for reader in readers]
    raw = read_all(placed, benchmarks, batch_size, console)
    results = tuple(
        ReaderResult(
            reader.name, reader.role, reader.reading, reader.params, reader.charset, ms_per_word=took,
            sets={each.name: score(each, read, charset) for each in benchmarks}, seconds=read.seconds,
        )
        for reader, took, read in zip(readers, milliseconds, raw, strict=True)
    )  # fmt: skip
    pairs = tuple(pair(a, b, chosen) for a, b in combinations(results, 2) if a.reading == b.reading)
    return Comparison(results, pairs, unlike_pairs(results, chosen), tuple(chosen), tuple(benchmarks), device)


class RawReadings:
    """What one reader gave, before the rules for predictions."""

    def __init__(self) -> None:
        self.words: dict[str, list[tuple[str, float]]] = {}
        self.lexicons: dict[str, int | None] = {}
        self.seconds = 0.0


def read_all(
    readers: Sequence[WordReader], benchmarks: Sequence[Benchmark], batch_size: int, console: Console | None
) -> list[RawReadings]:
    """Read every set with every reader; each picture is decoded once."""
    raw = [RawReadings() for _ in readers]
    total = sum(-(-len(benchmark) // batch_size) for benchmark in benchmarks)
    current: str | None = None
    ready: list[WordReader] = []
    for benchmark, start in followed(chunks(benchmarks, batch_size), total, "reading", console):
        if benchmark.name != current:
            current, ready = benchmark.name, [over(reader, benchmark) for reader in readers]
            for read, reader in zip(raw, ready, strict=True):
                read.words[current] = []
                read.lexicons[current] = len(reader.words) if isinstance(reader, ClosedReader) else None
        pictures = [benchmark.load(number) for number in range(start, min(start + batch_size, len(benchmark)))]
        inputs = {size: to_tensor(pictures, size) for size in {reader.image_size for reader in ready}}
        for read, reader in zip(raw, ready, strict=True):
            started = time.perf_counter()
            readings = reader.read_batch(inputs[reader.image_size])
            read.seconds += time.perf_counter() - started
            read.words[benchmark.name] += [(reading.text, reading.confidence) for reading in readings]
    return raw


def chunks(benchmarks: Sequence[Benchmark], batch_size: int) -> Iterator[tuple[Benchmark, int]]:
    """Give each batch of each set by its first word's number."""
    for benchmark in benchmarks:
        for start in range(0, len(benchmark), batch_size):
            yield benchmark, start


def over(reader: WordReader, benchmark: Benchmark) -> WordReader:
    """Give a closed-lexicon reader the set's words; leave others as they are."""
    return reader.over(benchmark.vocabulary) if isinstance(reader, ClosedReader) else reader


def score(benchmark: Benchmark, read: RawReadings, charset: Charset) -> SetResult:
    """Score what one reader read of a set.

    Raises:
        RuntimeError: when not every word of the set was read exactly once.
    """
    words = read.words[benchmark.name]
    if len(words) != len(benchmark):
        raise RuntimeError(f"{len(words)} readings of the {len(benchmark)} words of {benchmark.name}")
    predictions = tuple(charset.adapt(text) for text, _ in words)
    counted = tally(predictions, benchmark.labels)
    hits = tuple(word == label for word, label in zip(predictions, benchmark.labels, strict=True))
    sure = tuple(confidence for _, confidence in words)
    return SetResult(counted, predictions, sure, hits, read.lexicons[benchmark.name], benchmark.partial)


def pair(a: ReaderResult, b: ReaderResult, averaged: Sequence[str]) -> Pair:
    """Set two readers against each other, set by set; the total is over the sets `averaged`."""
    sets = {name: agreement(result.hits, b.sets[name].hits) for name, result in a.sets.items()}
    return Pair(a.name, b.name, sets, sum((sets[name] for name in averaged), Agreement()), a.reading == b.reading)


def unlike_pairs(results: Sequence[ReaderResult], averaged: Sequence[str]) -> tuple[Pair, ...]:
    """Set students that read openly against teachers that choose from a lexicon, for want of a fairer pair.

    There is a fairer one where students were asked to choose from the lexicon too.
    """
    students = [result for result in results if result.role != "teacher"]
    if any(student.reading == "closed-lexicon" for student in students):
        return ()
    teachers = [result for result in results if result.role == "teacher" and result.reading == "closed-lexicon"]
    return tuple(pair(student, teacher, averaged) for student in students for teacher in teachers)


def sample_pictures(benchmarks: Sequence[Benchmark], count: int) -> list[Image.Image]:
    """Load `count` pictures spread evenly over the words of all sets, or all when there are fewer."""
    places = [(benchmark, number) for benchmark in benchmarks for number in range(len(benchmark))]
    count = min(count, len(places))
    spread = (places[step * len(places) // count] for step in range(count))
    return [benchmark.load(number) for benchmark, number in spread]
