"""Galleries: pictures of words with what was read of them, right in green and wrong in red, as one image.

Training draws one of each validation; a comparison writes one a reader, and one a pair of student and teacher.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from distill.data.sampling import spread
from distill.data.sheets import INK, SheetItem, draw_sheet, reading_line, write_sheet
from distill.evaluation.compare import Comparison, ReaderResult
from distill.evaluation.readings import ReadWord, collect_readings

WORDS = 36
"""Words of a reader's gallery, and of each half of a pair's."""
LoadWord = Callable[[ReadWord], np.ndarray]
"""Loads the picture of a word, (H, W, 3) uint8."""


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
    names, words = file_names(list(readers)), collect_readings(comparison)
    sets = {benchmark.name: benchmark for benchmark in comparison.benchmarks}

    def load(word: ReadWord) -> np.ndarray:
        return np.asarray(sets[word.set].load(word.number))

    for earlier in (*folder.glob("words-*.png"), *folder.glob("agreement-*.png")):
        earlier.unlink()
    for reader in comparison.readers:
        if reader.reading == "open":
            write_sheet(folder / f"words-{names[reader.name]}.png", [("", words_of(reader.name, words, load))])
    for pair in (*comparison.pairs, *comparison.unlike):
        student, teacher = readers[pair.a], readers[pair.b]
        if student.role in ("student", "baseline") and teacher.role == "teacher":
            file = folder / f"agreement-{names[pair.a]}-{names[pair.b]}.png"
            write_sheet(file, disagreements(student, teacher, words, load))


def words_of(reader: str, words: Sequence[ReadWord], load: LoadWord) -> list[SheetItem]:
    """Choose misread and read words of one reader."""
    chosen = choose([word.is_hit(reader) for word in words], [word.readings[reader][1] for word in words], WORDS)
    return [GalleryItem(load(words[n]), words[n].label, *words[n].readings[reader]).drawn for n in chosen]


def disagreements(
    student: ReaderResult, teacher: ReaderResult, words: Sequence[ReadWord], load: LoadWord
) -> list[tuple[str, list[SheetItem]]]:
    """Collect words that only the student read, and words that only the teacher read; most confident errors first."""
    closed = " (chosen from a lexicon)" if teacher.reading != student.reading else ""
    sections: list[tuple[str, list[SheetItem]]] = []
    for right, wrong in ((student.name, teacher.name), (teacher.name, student.name)):
        found = [word for word in words if word.is_hit(right) and not word.is_hit(wrong)]
        found.sort(key=lambda word: -word.readings[wrong][1])
        items = []
        for word in found[:WORDS]:
            lines = (reading_line(*word.readings[name], word.label) for name in (student.name, teacher.name))
            items.append(SheetItem(load(word), [(word.label, INK), *lines]))
        count = f"{len(items)} of {len(found)} words that only {right} got right"
        sections.append((f"{count}; below each: label, {student.name}, {teacher.name}{closed}", items))
    return sections


def file_names(names: Sequence[str]) -> dict[str, str]:
    """Turn readers' names into parts of file names, which differ too."""
    chosen: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name)
        free = (plain if number == 1 else f"{plain}-{number}" for number in itertools.count(1))
        chosen[name] = next(each for each in free if each.casefold() not in map(str.casefold, chosen.values()))
    return chosen
