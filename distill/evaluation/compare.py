"""Compare readers: all of them on the same words of the same sets, counted, timed and tested pair by pair."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations

import torch
from PIL import Image

from distill.data.progress import followed
from distill.data.sampling import spread
from distill.deployment.readers import ModelReader, ReadingKind, Role, WordReader
from distill.evaluation.benchmarks import Benchmark, averaged
from distill.evaluation.lexicon import ClosedReader, LexiconReader
from distill.evaluation.metrics import Agreement, Pair, Tally, agreement, tally
from students.charset import Charset, show_characters
from students.errors import UserError

WARM_UP = 3
"""Words read before the clock counts."""


@dataclass(frozen=True)
class SetResult:
    """One reader on one set."""

    tally: Tally
    """Words, hits, 1-NED."""
    predictions: tuple[str, ...]
    """What was read, after the rule for predictions."""
    confidences: tuple[float, ...]
    """Confidence of each prediction."""
    hits: tuple[bool, ...]
    """Whether each is right."""
    lexicon: int | None = None
    """Number of words that were chosen among; None for open reading."""
    partial: bool = False
    """Whether only some words of the set were read."""
    unreadable: int = 0
    """Words with a character that the reader's alphabet lacks."""


@dataclass(frozen=True)
class ReaderResult:
    """One reader on all sets."""

    name: str
    role: Role
    reading: ReadingKind
    params: int | None
    charset: str
    ms_per_word: float
    """One word at a time, one CPU thread, from decoded picture to text."""
    sets: dict[str, SetResult]
    seconds: float
    """Wall time of reading all sets in batches."""
    language_model: str | None = None
    """What weighs its words; None for what the pictures say."""


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`."""

    readers: tuple[ReaderResult, ...]
    pairs: tuple[Pair, ...]
    """Each two readers of one kind of reading."""
    unlike: tuple[Pair, ...]
    """Students that read openly beside teachers that choose from a lexicon; see `unlike_pairs`."""
    averaged: tuple[str, ...]
    """Sets that averages and pairs are taken over."""
    benchmarks: tuple[Benchmark, ...]
    device: str
    """Where the sets were read; times a word are always the CPU's."""
    sizes: dict[str, tuple[tuple[int, int], ...]]
    """Width and height of each picture, pixels, by set."""
    charset: str = ""
    """Characters that are scored."""
    warnings: tuple[str, ...] = ()
    """What the numbers leave out: labels that a reader can't write in its alphabet."""


def compare(
    readers: Sequence[WordReader], benchmarks: Sequence[Benchmark], charset: Charset, device: str = "cpu",
    threads: int | None = None, batch_size: int = 64, timed_words: int = 50,
) -> Comparison:  # fmt: skip
    """Read every set with every reader, and compare.

    Args:
        readers: with names that differ; a `ClosedReader` without a lexicon gets each set's own words.
        benchmarks: sets, with labels cleaned for `charset`.
        charset: test alphabet; predictions go through its case rule and lose what is outside of it.
        device: where the sets are read.
        threads: CPU threads of ONNX readers while they read in batches.
        batch_size: words read at once.
        timed_words: words that the time a word is measured on.

    Raises:
        UserError: when a picture can't be read, two readers have one name, or a reader's weights give no numbers.
    """
    check_names(readers)
    if not readers or not benchmarks:
        raise UserError("nothing to compare")
    chosen = averaged(benchmarks)
    pictures = sample_pictures([benchmark for benchmark in benchmarks if benchmark.name in chosen], timed_words)
    milliseconds = [ms_per_word(with_lexicon(reader, benchmarks[0]), pictures) for reader in readers]
    placed = [reader.place(device, threads) for reader in readers]
    raw, sizes = read_all(placed, benchmarks, batch_size)
    results = tuple(
        ReaderResult(
            reader.name, reader.role, reader.reading, reader.params, reader.charset, ms_per_word=duration,
            sets={each.name: score(each, readings, charset, reader) for each in benchmarks}, seconds=readings.seconds,
            language_model=reader.language_model if isinstance(reader, ModelReader) else None,
        )
        for reader, duration, readings in zip(readers, milliseconds, raw, strict=True)
    )  # fmt: skip
    pairs = tuple(make_pair(a, b, chosen) for a, b in combinations(results, 2) if a.reading == b.reading)
    return Comparison(
        results, pairs, unlike_pairs(results, chosen), tuple(chosen), tuple(benchmarks), device,
        {name: tuple(each) for name, each in sizes.items()}, charset.characters,
        (*alphabet_warnings(results, charset), *lexicon_warnings(readers, raw, benchmarks)),
    )  # fmt: skip


class RawReadings:
    """What one reader read, before the rules for predictions."""

    def __init__(self) -> None:
        self.words: dict[str, list[tuple[str, float]]] = {}
        self.lexicons: dict[str, int | None] = {}
        self.indistinct = 0
        self.seconds = 0.0


def read_all(
    readers: Sequence[WordReader], benchmarks: Sequence[Benchmark], batch_size: int
) -> tuple[list[RawReadings], dict[str, list[tuple[int, int]]]]:
    """Read every set with every reader; each picture is decoded once.

    Returns:
        What each reader read, and width and height of the pictures of each set.

    Raises:
        UserError: see `compare`.
    """
    raw = [RawReadings() for _ in readers]
    sizes: dict[str, list[tuple[int, int]]] = {benchmark.name: [] for benchmark in benchmarks}
    total = sum(-(-len(benchmark) // batch_size) for benchmark in benchmarks)
    current: str | None = None
    ready: list[WordReader] = []
    for benchmark, start in followed(batches(benchmarks, batch_size), total, "reading"):
        if benchmark.name != current:
            current, ready = benchmark.name, [with_lexicon(reader, benchmark) for reader in readers]
            for result, reader in zip(raw, ready, strict=True):
                result.words[current] = []
                result.lexicons[current] = len(reader.words) if isinstance(reader, ClosedReader) else None
                alike = reader.indistinct if isinstance(reader, LexiconReader) else frozenset()
                result.indistinct += sum(label in alike for label in benchmark.labels)
        pictures = [benchmark.load(number) for number in range(start, min(start + batch_size, len(benchmark)))]
        sizes[benchmark.name] += [picture.size for picture in pictures]
        for result, reader in zip(raw, ready, strict=True):
            started = time.perf_counter()
            readings = reader.read_pictures(pictures)
            result.seconds += time.perf_counter() - started
            if not all(math.isfinite(reading.confidence) for reading in readings):
                raise UserError(f"{reader.name} gives NaN instead of probabilities: its weights are damaged")
            result.words[benchmark.name] += [(reading.text, reading.confidence) for reading in readings]
    return raw, sizes


def batches(benchmarks: Sequence[Benchmark], batch_size: int) -> Iterator[tuple[Benchmark, int]]:
    """Yield each batch of each set by its first word's number."""
    for benchmark in benchmarks:
        for start in range(0, len(benchmark), batch_size):
            yield benchmark, start


def with_lexicon(reader: WordReader, benchmark: Benchmark) -> WordReader:
    """Return a closed-lexicon reader with the set's words as its lexicon; leave others as they are."""
    return reader.over(benchmark.vocabulary) if isinstance(reader, ClosedReader) else reader


def score(benchmark: Benchmark, raw: RawReadings, charset: Charset, reader: WordReader) -> SetResult:
    """Score what one reader read of a set.

    Raises:
        RuntimeError: when not every word of the set was read exactly once.
    """
    words = raw.words[benchmark.name]
    if len(words) != len(benchmark):
        raise RuntimeError(f"{len(words)} readings of the {len(benchmark)} words of {benchmark.name}")
    predictions = tuple(charset.adapt_reading(text) for text, _ in words)
    hits = tuple(word == label for word, label in zip(predictions, benchmark.labels, strict=True))
    confidences = tuple(confidence for _, confidence in words)
    missing = unwritable(reader.charset, charset)
    return SetResult(
        tally(predictions, benchmark.labels), predictions, confidences, hits, raw.lexicons[benchmark.name],
        benchmark.partial, sum(not missing.isdisjoint(label) for label in benchmark.labels),
    )  # fmt: skip


def unwritable(characters: str, charset: Charset) -> set[str]:
    """Return the characters of the test alphabet that no prediction of a reader with these `characters` has."""
    return set(charset.characters) - set(charset.adapt(characters))


def alphabet_warnings(results: Sequence[ReaderResult], charset: Charset) -> Iterator[str]:
    """Report for each reader how many characters of the test alphabet, and words with them, it can't write."""
    for result in results:
        missing = unwritable(result.charset, charset)
        if missing:
            words = sum(each.unreadable for each in result.sets.values())
            total = sum(each.tally.words for each in result.sets.values())
            named = show_characters("".join(sorted(missing)))
            yield (
                f"{result.name} can't write {len(missing)} of the {len(charset.characters)} characters that are scored "
                f"({named}): {words} of the {total} words have one of them and count as misread"
            )


def lexicon_warnings(
    readers: Sequence[WordReader], raw: Sequence[RawReadings], benchmarks: Sequence[Benchmark]
) -> Iterator[str]:
    """Report how many words a reader can't choose: it can't tell them from others, or its lexicon lacks them."""
    for reader, result in zip(readers, raw, strict=True):
        if result.indistinct:
            yield (
                f"{reader.name} can't tell words from others that differ in case alone: {result.indistinct} of the "
                f"{sum(map(len, benchmarks))} words count as misread"
            )
        if isinstance(reader, ClosedReader) and reader.words:
            known = set(reader.words)
            outside = sum(label not in known for benchmark in benchmarks for label in benchmark.labels)
            if outside:
                total = sum(map(len, benchmarks))
                yield f"{reader.name}: {outside} of the {total} words are not in the lexicon and count as misread"


def check_names(readers: Sequence[WordReader]) -> None:
    """Refuse readers of one name, which nobody could tell apart in a report; raises `UserError`."""
    repeated = [name for name, count in Counter(reader.name for reader in readers).items() if count > 1]
    if repeated:
        raise UserError(f"two readers are called {repeated[0]!r}; leave one out, or give a dictionary with other names")


def make_pair(a: ReaderResult, b: ReaderResult, averaged: Sequence[str]) -> Pair:
    """Compare two readers word by word, set by set; the total is over the sets `averaged`."""
    sets = {name: agreement(result.hits, b.sets[name].hits) for name, result in a.sets.items()}
    return Pair(a.name, b.name, sets, sum((sets[name] for name in averaged), Agreement()), a.reading == b.reading)


def unlike_pairs(results: Sequence[ReaderResult], averaged: Sequence[str]) -> tuple[Pair, ...]:
    """Pair students that read openly with teachers that choose from a lexicon, where there is no fairer pair.

    There is a fairer one when students were asked to choose from the lexicon too.
    """
    students = [result for result in results if result.role in ("student", "baseline")]
    if any(student.reading == "closed-lexicon" for student in students):
        return ()
    teachers = [result for result in results if result.role == "teacher" and result.reading == "closed-lexicon"]
    return tuple(make_pair(student, teacher, averaged) for student in students for teacher in teachers)


def sample_pictures(benchmarks: Sequence[Benchmark], count: int) -> list[Image.Image]:
    """Load `count` pictures spread evenly over the words of all sets, or all when there are fewer."""
    words = [(benchmark, number) for benchmark in benchmarks for number in range(len(benchmark))]
    return [benchmark.load(number) for benchmark, number in spread(words, count)]


def ms_per_word(reader: WordReader, pictures: Sequence[Image.Image]) -> float:
    """Measure the median time of reading one picture alone on one CPU thread, resizing included, in milliseconds.

    The reader may be moved to the CPU for it; the caller places it afterwards.
    """
    alone = reader.place("cpu", 1)
    seconds = []
    with one_thread():
        for number, picture in enumerate([*pictures[:WARM_UP], *pictures]):
            started = time.perf_counter()
            alone.read_pictures([picture])
            if number >= min(WARM_UP, len(pictures)):
                seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
