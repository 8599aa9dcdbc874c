from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.data.sheets import CELL, INK, RIGHT, WRONG
from distill.evaluation.benchmarks import Benchmark, open_benchmarks
from distill.evaluation.compare import compare
from distill.evaluation.gallery import (
    GalleryItem,
    choose,
    disagreements,
    draw_gallery,
    file_names,
    pick,
    to_pixels,
    words_of,
    write_galleries,
)
from distill.evaluation.readings import ReadWord, collect_readings
from students.charset import Charset
from students.decoding import Reading
from students.pictures import to_tensor

from .conftest import FakeReader, seen


def item(label: str, read: str, confidence: float = 0.5) -> GalleryItem:
    return GalleryItem(np.full((20, 60, 3), 128, np.uint8), label, read, confidence)


def test_pixels_come_back() -> None:
    pixels = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(3, 4, 5)
    normalised = (pixels.float() / 255 - 0.5) / 0.5
    assert np.array_equal(to_pixels(normalised), pixels.permute(1, 2, 0).numpy())


def test_sure_misreadings_come_first() -> None:
    assert choose([True, False, True, False, False], [0.9, 0.2, 0.9, 0.8, 0.5], 4) == [3, 4, 0, 2]
    assert choose([False] * 5, [0.1, 0.2, 0.3, 0.4, 0.5], 4) == [4, 3, 2, 1]
    assert choose([True] * 6, [0.5] * 6, 3) == [0, 2, 4]
    assert choose([], [], 3) == []
    assert [each.label for each in pick([item("a", "a"), item("b", "x")], 2)] == ["b", "a"]


def test_a_misread_word_stands_above_its_label() -> None:
    assert item("cat", "cat").drawn.lines == [("cat  0.50", RIGHT)]
    assert item("dog", "", 0.25).drawn.lines == [("(nothing)  0.25", WRONG), ("dog", INK)]
    assert draw_gallery([item("cat", "cat"), item("dog", "dot")]).shape == (CELL[1], 2 * CELL[0], 3)


def test_files_of_readers_have_names_that_differ() -> None:
    assert file_names(["v1 (a)", "v1_a_", "模型一", "Tiny", "tiny"]) == {
        "v1 (a)": "v1_a_", "v1_a_": "v1_a_-2", "模型一": "模型一", "Tiny": "Tiny", "tiny": "tiny-2",
    }  # fmt: skip


class SureReader(FakeReader):
    """Is the surer the later the word."""

    def read_pictures(self, pictures: Sequence[Image.Image]) -> list[Reading]:
        levels = seen(to_tensor(pictures))
        return [Reading(self.words.get(level, ""), level / 10, (level / 10,)) for level in levels]


@pytest.fixture
def benchmarks(tmp_path: Path, charset: Charset, make_set: Callable[[Path, Sequence[str]], Path]) -> list[Benchmark]:
    make_set(tmp_path / "test" / "set", ["zero", "one", "two", "three", "four"])
    return open_benchmarks(tmp_path, "all", charset)


def test_the_surest_mistakes_on_either_side_come_first(benchmarks: list[Benchmark], charset: Charset) -> None:
    student = SureReader("mine", {0: "zero", 1: "one", 2: "two", 3: "x"})
    teacher = SureReader("other", {0: "zero", 1: "y", 2: "z", 3: "three"}, role="teacher")
    result = compare([student, teacher], benchmarks, charset)
    words = collect_readings(result)

    def load(word: ReadWord) -> np.ndarray:
        return np.asarray(benchmarks[0].load(word.number))

    (only_student, first), (only_teacher, second) = disagreements(*result.readers, words, load)
    assert only_student == "2 of 2 words that only mine got right; below each: label, mine, other"
    assert only_teacher.startswith("1 of 1 words that only other got right")
    assert [[text for text, _ in item.lines] for item in first] == [
        ["two", "two  0.20", "z  0.20"], ["one", "one  0.10", "y  0.10"],
    ]  # fmt: skip
    assert [[text for text, _ in item.lines] for item in second] == [["three", "x  0.30", "three  0.30"]]
    assert first[0].image.mean() == 2
    drawn = [item.lines[0][0] for item in words_of("mine", words, load)]
    assert drawn == ["(nothing)  0.40", "x  0.30", "zero  0.00", "one  0.10", "two  0.20"]


def test_a_sheet_for_every_student_with_every_teacher(
    benchmarks: list[Benchmark], charset: Charset, tmp_path: Path
) -> None:
    readers = [
        FakeReader("a/b", {0: "zero"}), FakeReader("baseline", {0: "zero"}, role="baseline"),
        FakeReader("t", {0: "zero"}, role="teacher"), FakeReader("clip", {}, role="teacher", reading="closed-lexicon"),
    ]  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    (out / "words-of an earlier report.png").touch()
    write_galleries(out, compare(readers, benchmarks, charset))
    assert sorted(file.name for file in out.iterdir()) == [
        "agreement-a_b-clip.png", "agreement-a_b-t.png", "agreement-baseline-clip.png", "agreement-baseline-t.png",
        "words-a_b.png", "words-baseline.png", "words-t.png",
    ]  # fmt: skip
