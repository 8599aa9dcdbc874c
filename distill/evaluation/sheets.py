"""Sheets of a comparison as PNG: each reader's words, and the words that student and teacher don't both read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distill.evaluation.benchmarks import Benchmark
from distill.evaluation.compare import Comparison, ReaderResult
from distill.evaluation.gallery import AgreementItem, Cell, GalleryItem, choose, write_sheet

WORDS = 36
"""Words of a reader's sheet, and of each half of an agreement's."""

Place = tuple[Benchmark, int]
"""A word: its set and its number there."""


def write_sheets(folder: Path, comparison: Comparison) -> None:
    """Write `words-READER.png` for open readers and `agreement-STUDENT-TEACHER.png` for students with teachers."""
    readers = {reader.name: reader for reader in comparison.readers}
    for reader in comparison.readers:
        if reader.reading == "open":
            write_sheet(folder / f"words-{plain(reader.name)}.png", [("", reader_words(reader, comparison.benchmarks))])
    for pair in (*comparison.pairs, *comparison.unlike):
        student, teacher = readers[pair.a], readers[pair.b]
        if student.role != "teacher" and teacher.role == "teacher":
            file = folder / f"agreement-{plain(pair.a)}-{plain(pair.b)}.png"
            write_sheet(file, disagreements(student, teacher, comparison.benchmarks))


def reader_words(reader: ReaderResult, benchmarks: Sequence[Benchmark]) -> list[Cell]:
    """Choose misread and read words of one reader."""
    places = every_word(benchmarks)
    results = [reader.sets[benchmark.name] for benchmark in benchmarks]
    right = [hit for result in results for hit in result.hits]
    sure = [confidence for result in results for confidence in result.confidences]
    chosen = (places[number] for number in choose(right, sure, WORDS))
    return [
        GalleryItem(np.asarray(benchmark.load(number)), benchmark.labels[number], *said(reader, (benchmark, number)))
        for benchmark, number in chosen
    ]


def disagreements(
    student: ReaderResult, teacher: ReaderResult, benchmarks: Sequence[Benchmark]
) -> list[tuple[str, list[Cell]]]:
    """Show words that only the student read, and words that only the teacher read; the surest mistakes first."""
    sections: list[tuple[str, list[Cell]]] = []
    for right, wrong in ((student, teacher), (teacher, student)):
        found = [place for place in every_word(benchmarks) if is_hit(right, place) and not is_hit(wrong, place)]
        found.sort(key=lambda place: -said(wrong, place)[1])
        items: list[Cell] = [
            AgreementItem(
                np.asarray(benchmark.load(number)), benchmark.labels[number],
                (said(student, (benchmark, number)), said(teacher, (benchmark, number))),
            )
            for benchmark, number in found[:WORDS]
        ]  # fmt: skip
        shown = f"{len(items)} of {len(found)} words that only {right.name} got right"
        chosen = " (chosen from a lexicon)" if teacher.reading != student.reading else ""
        sections.append((f"{shown}; below each: label, {student.name}, {teacher.name}{chosen}", items))
    return sections


def every_word(benchmarks: Sequence[Benchmark]) -> list[Place]:
    """List the words of all sets."""
    return [(benchmark, number) for benchmark in benchmarks for number in range(len(benchmark))]


def is_hit(reader: ReaderResult, place: Place) -> bool:
    """Tell whether a reader read a word."""
    return reader.sets[place[0].name].hits[place[1]]


def said(reader: ReaderResult, place: Place) -> tuple[str, float]:
    """Give what a reader read of a word and how sure it was."""
    result = reader.sets[place[0].name]
    return result.predictions[place[1]], result.confidences[place[1]]


def plain(name: str) -> str:
    """Make a reader's name fit for a file's."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)
