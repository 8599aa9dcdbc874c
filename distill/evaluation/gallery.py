"""Galleries: pictures of words with what was read of them, right in green and wrong in red, as one image.

Training draws one of each validation; a comparison writes one a reader, and one a pair of student and teacher.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from distill.data.sampling import spread
from distill.data.sheets import INK, SheetItem, draw_sheet, reading_line, write_sheet
from distill.evaluation.benchmarks import Benchmark
from distill.evaluation.compare import Comparison, ReaderResult

WORDS = 36
"""Words of a reader's gallery, and of each half of a pair's."""
WordIndex = tuple[Benchmark, int]
"""A word: its set and its number there."""


@dataclass(frozen=True)
class GalleryItem:
    """One word as one reader read it."""

    image: np.ndarray
    """(H, W, 3) uint8."""
    label: str
    """The true word."""
    prediction: str
    """What was read."""
    confidence: float
    """The reader's confidence, 0 to 1."""

    @property
    def right(self) -> bool:
        """Whether it was read exactly."""
        return self.label == self.prediction

    @property
    def drawn(self) -> SheetItem:
        """What was read, and below it the label when that differs."""
        prediction = reading_line(self.prediction, self.confidence, self.label)
        return SheetItem(self.image, [prediction] if self.right else [prediction, (self.label, INK)])


def to_pixels(image: Tensor) -> np.ndarray:
    """Turn a normalised (3, H, W) input back into (H, W, 3) uint8 pixels."""
    pixels = (image.detach().float().cpu() * 0.5 + 0.5).clamp(0, 1) * 255
    return pixels.round().byte().permute(1, 2, 0).numpy()


def choose(hits: Sequence[bool], confidences: Sequence[float], count: int) -> list[int]:
    """Choose words to draw: half of `count` misread, the most confident first, and read ones, spread evenly."""
    wrong = sorted((number for number, hit in enumerate(hits) if not hit), key=lambda number: -confidences[number])
    read = [number for number, hit in enumerate(hits) if hit]
    chosen = wrong[: max(count // 2, count - len(read))]
    rest = min(count - len(chosen), len(read))
    return [*chosen, *spread(read, rest)]


def pick(items: Sequence[GalleryItem], count: int) -> list[GalleryItem]:
    """Pick items to draw, see `choose`."""
    return [items[number] for number in choose([i.right for i in items], [i.confidence for i in items], count)]


def draw_gallery(items: Sequence[GalleryItem]) -> np.ndarray:
    """Draw words in a grid: (H, W, 3) uint8; one empty cell when there are none."""
    return draw_sheet([item.drawn for item in items])


def write_galleries(folder: Path, comparison: Comparison) -> None:
    """Write `words-READER.png` for open readers and `agreement-STUDENT-TEACHER.png` for students with teachers."""
    readers = {reader.name: reader for reader in comparison.readers}
    names = file_names(list(readers))
    for earlier in (*folder.glob("words-*.png"), *folder.glob("agreement-*.png")):
        earlier.unlink()
    for reader in comparison.readers:
        if reader.reading == "open":
            sections = [("", reader_words(reader, comparison.benchmarks))]
            write_sheet(folder / f"words-{names[reader.name]}.png", sections)
    for pair in (*comparison.pairs, *comparison.unlike):
        student, teacher = readers[pair.a], readers[pair.b]
        if student.role in ("student", "baseline") and teacher.role == "teacher":
            file = folder / f"agreement-{names[pair.a]}-{names[pair.b]}.png"
            write_sheet(file, disagreements(student, teacher, comparison.benchmarks))


def reader_words(reader: ReaderResult, benchmarks: Sequence[Benchmark]) -> list[SheetItem]:
    """Choose misread and read words of one reader."""
    words = all_words(benchmarks)
    results = [reader.sets[benchmark.name] for benchmark in benchmarks]
    hits = [hit for result in results for hit in result.hits]
    confidences = [confidence for result in results for confidence in result.confidences]
    chosen = (words[number] for number in choose(hits, confidences, WORDS))
    return [
        GalleryItem(np.asarray(benchmark.load(n)), benchmark.labels[n], *prediction(reader, (benchmark, n))).drawn
        for benchmark, n in chosen
    ]


def disagreements(
    student: ReaderResult, teacher: ReaderResult, benchmarks: Sequence[Benchmark]
) -> list[tuple[str, list[SheetItem]]]:
    """Collect words that only the student read, and words that only the teacher read; most confident errors first."""
    sections: list[tuple[str, list[SheetItem]]] = []
    for right, wrong in ((student, teacher), (teacher, student)):
        words = [word for word in all_words(benchmarks) if is_hit(right, word) and not is_hit(wrong, word)]
        words.sort(key=lambda word: -prediction(wrong, word)[1])
        items = [read_by_both(student, teacher, word) for word in words[:WORDS]]
        count = f"{len(items)} of {len(words)} words that only {right.name} got right"
        closed = " (chosen from a lexicon)" if teacher.reading != student.reading else ""
        sections.append((f"{count}; below each: label, {student.name}, {teacher.name}{closed}", items))
    return sections


def read_by_both(student: ReaderResult, teacher: ReaderResult, word: WordIndex) -> SheetItem:
    """Show a word with its label and what each of two read."""
    benchmark, number = word
    label = benchmark.labels[number]
    readings = (reading_line(*prediction(reader, word), label) for reader in (student, teacher))
    return SheetItem(np.asarray(benchmark.load(number)), [(label, INK), *readings])


def all_words(benchmarks: Sequence[Benchmark]) -> list[WordIndex]:
    """List the words of all sets."""
    return [(benchmark, number) for benchmark in benchmarks for number in range(len(benchmark))]


def is_hit(reader: ReaderResult, word: WordIndex) -> bool:
    """Tell whether a reader read a word exactly."""
    return reader.sets[word[0].name].hits[word[1]]


def prediction(reader: ReaderResult, word: WordIndex) -> tuple[str, float]:
    """Return what a reader read of a word, and its confidence."""
    result = reader.sets[word[0].name]
    return result.predictions[word[1]], result.confidences[word[1]]


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Turn readers' names into parts of file names, which differ too."""
    chosen: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name)
        free = (plain if number == 1 else f"{plain}-{number}" for number in itertools.count(1))
        chosen[name] = next(each for each in free if each.casefold() not in map(str.casefold, chosen.values()))
    return chosen
