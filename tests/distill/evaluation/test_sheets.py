from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from torch import Tensor

from distill.evaluation.benchmarks import Benchmark, open_benchmarks
from distill.evaluation.compare import compare
from distill.evaluation.sheets import disagreements, reader_words, write_sheets
from students.charset import Charset, Reading

from .conftest import FakeReader, seen


class SureReader(FakeReader):
    """Is the surer the later the word."""

    def read_batch(self, images: Tensor) -> list[Reading]:
        return [Reading(self.words.get(level, ""), level / 10, (level / 10,)) for level in seen(images)]


@pytest.fixture
def benchmarks(tmp_path: Path, charset: Charset, make_set: Callable[[Path, Sequence[str]], Path]) -> list[Benchmark]:
    make_set(tmp_path / "test" / "set", ["zero", "one", "two", "three", "four"])
    return open_benchmarks(tmp_path, "all", charset)


def test_the_surest_mistakes_on_either_side_come_first(benchmarks: list[Benchmark], charset: Charset) -> None:
    student = SureReader("mine", {0: "zero", 1: "one", 2: "two", 3: "x"})
    teacher = SureReader("other", {0: "zero", 1: "y", 2: "z", 3: "three"}, role="teacher")
    result = compare([student, teacher], benchmarks, charset)
    (only_student, first), (only_teacher, second) = disagreements(*result.readers, benchmarks)
    assert only_student == "2 of 2 words that only mine got right; below each: label, mine, other"
    assert only_teacher.startswith("1 of 1 words that only other got right")
    assert [[text for text, _ in item.lines] for item in first] == [
        ["two", "two  0.20", "z  0.20"], ["one", "one  0.10", "y  0.10"],
    ]  # fmt: skip
    assert [[text for text, _ in item.lines] for item in second] == [["three", "x  0.30", "three  0.30"]]
    assert first[0].image.mean() == 2
    shown = [item.lines[0][0] for item in reader_words(result.readers[0], benchmarks)]
    assert shown == ["(nothing)  0.40", "x  0.30", "zero  0.00", "one  0.10", "two  0.20"]


def test_a_sheet_for_every_student_with_every_teacher(
    benchmarks: list[Benchmark], charset: Charset, tmp_path: Path
) -> None:
    readers = [
        FakeReader("a/b", {0: "zero"}), FakeReader("baseline", {0: "zero"}, role="baseline"),
        FakeReader("t", {0: "zero"}, role="teacher"), FakeReader("clip", {}, role="teacher", reading="closed-lexicon"),
    ]  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    write_sheets(out, compare(readers, benchmarks, charset))
    assert sorted(file.name for file in out.iterdir()) == [
        "agreement-a_b-clip.png", "agreement-a_b-t.png", "agreement-baseline-clip.png", "agreement-baseline-t.png",
        "words-a_b.png", "words-baseline.png", "words-t.png",
    ]  # fmt: skip
