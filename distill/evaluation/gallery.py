"""Galleries: pictures of words with what was read of them, right in green and wrong in red, as one image.

Training draws one of each validation; a comparison writes one a reader, and one a pair of student and teacher.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from distill.evaluation.benchmarks import Benchmark
from distill.evaluation.compare import Comparison, ReaderResult
from students.files import replacing

CELL = (176, 84)
"""Width and height of a word with two lines of text, pixels."""
PICTURE = (168, 42)
"""Largest width and height of the word's picture, pixels."""
LINE, HEADING = 16, 28
"""Height of a line of text and of a heading, pixels."""
RIGHT, WRONG, INK = (20, 120, 50), (190, 30, 30), (40, 40, 40)
WORDS = 36
"""Words of a reader's gallery, and of each half of a pair's."""
Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
WordIndex = tuple[Benchmark, int]
"""A word: its set and its number there."""


class Cell(Protocol):
    """One word of a gallery."""

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        ...

    @property
    def lines(self) -> list[tuple[str, Colour]]:
        """The lines of text below the picture."""
        ...


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
    def lines(self) -> list[tuple[str, Colour]]:
        """What was read, and below it the label when that differs."""
        prediction = (f"{self.prediction or '(nothing)'}  {self.confidence:.2f}", RIGHT if self.right else WRONG)
        return [prediction] if self.right else [prediction, (self.label, INK)]


@dataclass(frozen=True)
class AgreementItem:
    """One word as several readers read it."""

    image: np.ndarray
    """(H, W, 3) uint8."""
    label: str
    """The true word."""
    readings: tuple[tuple[str, float], ...]
    """Prediction and confidence of each."""

    @property
    def lines(self) -> list[tuple[str, Colour]]:
        """The label, and what each read."""
        predictions = [
            (f"{prediction or '(nothing)'}  {confidence:.2f}", RIGHT if prediction == self.label else WRONG)
            for prediction, confidence in self.readings
        ]
        return [(self.label, INK), *predictions]


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
    return [*chosen, *(read[step * len(read) // rest] for step in range(rest))]


def pick(items: Sequence[GalleryItem], count: int) -> list[GalleryItem]:
    """Pick items to draw, see `choose`."""
    return [items[number] for number in choose([i.right for i in items], [i.confidence for i in items], count)]


def draw_gallery(items: Sequence[Cell], columns: int = 6) -> np.ndarray:
    """Draw words in a grid: (H, W, 3) uint8; one empty cell when there are none."""
    return draw_sections([("", items)], columns)


def draw_sections(sections: Sequence[tuple[str, Sequence[Cell]]], columns: int = 6) -> np.ndarray:
    """Draw several grids below each other, each under its heading where it has one: (H, W, 3) uint8."""
    if not any(heading for heading, _ in sections):
        columns = max(1, min(columns, max((len(items) for _, items in sections), default=0)))
    drawn = [draw_section(heading, items, columns) for heading, items in sections]
    canvas = Image.new("RGB", (columns * CELL[0], sum(each.height for each in drawn)), "white")
    top = 0
    for each in drawn:
        canvas.paste(each, (0, top))
        top += each.height
    return np.asarray(canvas)


def draw_section(heading: str, items: Sequence[Cell], columns: int) -> Image.Image:
    """Draw a grid under its heading."""
    height = CELL[1] + LINE * max(0, max((len(item.lines) for item in items), default=0) - 2)
    above = HEADING if heading else 0
    canvas = Image.new("RGB", (columns * CELL[0], above + height * max(1, -(-len(items) // columns))), "white")
    draw, large, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15), ImageFont.load_default(size=13)
    draw.text((4, 6), shorten(draw, heading, large, canvas.width - 8), fill=INK, font=large)
    for number, item in enumerate(items):
        row, column = divmod(number, columns)
        draw_item(canvas, (column * CELL[0], above + row * height), item, font)
    return canvas


def draw_item(canvas: Image.Image, corner: tuple[int, int], item: Cell, font: Font) -> None:
    """Draw one word: its picture, and its lines below."""
    left, top = corner[0] + (CELL[0] - PICTURE[0]) // 2, corner[1] + 4
    picture = Image.fromarray(item.image)
    scale = min(PICTURE[0] / picture.width, PICTURE[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    canvas.paste(picture.resize(size, Image.Resampling.BICUBIC), (left, top))
    draw = ImageDraw.Draw(canvas)
    for number, (text, colour) in enumerate(item.lines):
        below = top + PICTURE[1] + 1 + LINE * number
        draw.text((left, below), shorten(draw, text, font, PICTURE[0]), fill=colour, font=font)


def shorten(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    """Cut a text to a width in pixels, with three dots where it was cut; line ends become spaces."""
    text = " ".join(text.splitlines())
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text + "..."


def write_gallery(path: Path, sections: Sequence[tuple[str, Sequence[Cell]]], columns: int = 6) -> None:
    """Write grids as one PNG, which appears whole or not at all; see `draw_sections`."""
    with replacing(path) as beside:
        Image.fromarray(draw_sections(sections, columns)).save(beside, format="PNG")


def write_galleries(folder: Path, comparison: Comparison) -> None:
    """Write `words-READER.png` for open readers and `agreement-STUDENT-TEACHER.png` for students with teachers."""
    readers = {reader.name: reader for reader in comparison.readers}
    names = file_names(list(readers))
    for earlier in (*folder.glob("words-*.png"), *folder.glob("agreement-*.png")):
        earlier.unlink()
    for reader in comparison.readers:
        if reader.reading == "open":
            sections = [("", reader_words(reader, comparison.benchmarks))]
            write_gallery(folder / f"words-{names[reader.name]}.png", sections)
    for pair in (*comparison.pairs, *comparison.unlike):
        student, teacher = readers[pair.a], readers[pair.b]
        if student.role in ("student", "baseline") and teacher.role == "teacher":
            file = folder / f"agreement-{names[pair.a]}-{names[pair.b]}.png"
            write_gallery(file, disagreements(student, teacher, comparison.benchmarks))


def reader_words(reader: ReaderResult, benchmarks: Sequence[Benchmark]) -> list[Cell]:
    """Choose misread and read words of one reader."""
    words = all_words(benchmarks)
    results = [reader.sets[benchmark.name] for benchmark in benchmarks]
    hits = [hit for result in results for hit in result.hits]
    confidences = [confidence for result in results for confidence in result.confidences]
    chosen = (words[number] for number in choose(hits, confidences, WORDS))
    return [
        GalleryItem(np.asarray(benchmark.load(n)), benchmark.labels[n], *prediction(reader, (benchmark, n)))
        for benchmark, n in chosen
    ]


def disagreements(
    student: ReaderResult, teacher: ReaderResult, benchmarks: Sequence[Benchmark]
) -> list[tuple[str, list[Cell]]]:
    """Collect words that only the student read, and words that only the teacher read; most confident errors first."""
    sections: list[tuple[str, list[Cell]]] = []
    for right, wrong in ((student, teacher), (teacher, student)):
        words = [word for word in all_words(benchmarks) if is_hit(right, word) and not is_hit(wrong, word)]
        words.sort(key=lambda word: -prediction(wrong, word)[1])
        items: list[Cell] = [
            AgreementItem(
                np.asarray(benchmark.load(n)), benchmark.labels[n],
                (prediction(student, (benchmark, n)), prediction(teacher, (benchmark, n))),
            )
            for benchmark, n in words[:WORDS]
        ]  # fmt: skip
        count = f"{len(items)} of {len(words)} words that only {right.name} got right"
        closed = " (chosen from a lexicon)" if teacher.reading != student.reading else ""
        sections.append((f"{count}; below each: label, {student.name}, {teacher.name}{closed}", items))
    return sections


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
