from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from distill.evaluation.benchmarks import Benchmark, open_benchmarks
from distill.evaluation.compare import compare
from distill.evaluation.lexicon import LexiconReader
from distill.evaluation.metrics import Agreement
from students.charset import Charset
from students.decoding import Reading
from students.errors import UserError

from .conftest import FakeReader, FakeTeacher

LABELS = {"first": ["one", "Two", "three!", "four"], "second": ["five", "six"]}
"""Grey levels 0.. in each set: the second's words look like the first's."""


@pytest.fixture
def benchmarks(tmp_path: Path, charset: Charset, make_set: Callable[[Path, Sequence[str]], Path]) -> list[Benchmark]:
    for name, labels in LABELS.items():
        make_set(tmp_path / "test" / name, labels)
    return open_benchmarks(tmp_path, "all", charset)


def test_scores_go_through_the_rules_on_both_sides(benchmarks: list[Benchmark], charset: Charset) -> None:
    reader = FakeReader("reader", {0: "ONE", 1: "t-w-o", 2: "three", 3: "for"})
    result = compare([reader], benchmarks, charset, batch_size=3).readers[0]
    assert result.sets["first"].predictions == ("one", "two", "three", "for")
    assert result.sets["first"].hits == (True, True, True, False)
    assert result.sets["first"].tally.hits == 3
    assert result.sets["first"].tally.one_minus_ned_sum == pytest.approx(3.75)
    assert (result.sets["second"].tally.words, result.sets["second"].tally.hits) == (2, 0)
    assert result.ms_per_word > 0


def test_pairs_are_over_the_same_words(benchmarks: list[Benchmark], charset: Charset) -> None:
    first = FakeReader("a", {0: "one", 1: "two", 2: "three", 3: "x"})
    second = FakeReader("b", {0: "five", 1: "two", 2: "x", 3: "x"}, role="baseline")
    comparison = compare([first, second], benchmarks, charset, batch_size=64)
    (pair,) = comparison.pairs
    assert (pair.a, pair.b) == ("a", "b")
    assert pair.sets == {"first": Agreement(1, 2, 0, 1), "second": Agreement(0, 0, 1, 1)}
    assert pair.total == Agreement(both=1, only_a=2, only_b=1, neither=2)
    assert pair.total.words == 6
    assert pair.p == 1.0


def test_time_is_measured_one_word_at_a_time(benchmarks: list[Benchmark], charset: Charset) -> None:
    threads = torch.get_num_threads()
    reader = FakeReader("reader", {})
    compare([reader], benchmarks, charset, batch_size=64, timed_words=5)
    assert reader.batches == [1] * (3 + 5) + [4, 2]
    assert torch.get_num_threads() == threads


def test_a_teacher_chooses_among_the_words_of_each_set(benchmarks: list[Benchmark], charset: Charset) -> None:
    teacher = FakeTeacher({"one": 0, "two": 1, "three": 3, "four": 2, "five": 0, "six": 1})
    readers = [FakeReader("reader", {0: "one"}), LexiconReader(teacher, charset)]
    comparison = compare(readers, benchmarks, charset)
    closed = comparison.readers[1]
    assert (closed.role, closed.reading) == ("teacher", "closed-lexicon")
    assert [closed.sets[name].tally.hits for name in LABELS] == [2, 2]
    assert [closed.sets[name].lexicon for name in LABELS] == [4, 2]
    assert comparison.readers[0].sets["first"].lexicon is None
    (pair,) = comparison.unlike
    assert (pair.a, pair.b, pair.p) == ("reader", "fake-clip", None)
    assert pair.sets["first"] == Agreement(both=1, only_a=0, only_b=1, neither=2)
    assert comparison.pairs == (), "open and closed-lexicon reading are never tested against each other"


def test_readers_need_names_of_their_own(benchmarks: list[Benchmark], charset: Charset) -> None:
    with pytest.raises(UserError, match="two readers are called 'same'"):
        compare([FakeReader("same", {}), FakeReader("same", {})], benchmarks, charset)


def test_a_reader_that_leaves_words_out_is_a_bug(benchmarks: list[Benchmark], charset: Charset) -> None:
    reader = FakeReader("lazy", {})
    reader.read_pictures = lambda pictures: []  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="0 readings of the 4 words"):
        compare([reader], benchmarks, charset)


def test_words_that_an_alphabet_cannot_write_are_counted(
    tmp_path: Path, make_set: Callable[[Path, Sequence[str]], Path]
) -> None:
    charset = Charset.load("94")
    make_set(tmp_path / "test" / "signs", ["one", "Two", "three!", "4"])
    benchmarks = open_benchmarks(tmp_path, "all", charset)
    reader = FakeReader("reader", {0: "one", 1: "two"})
    comparison = compare([reader], benchmarks, charset)
    assert comparison.readers[0].sets["signs"].unreadable == 2
    (warning,) = comparison.warnings
    assert "reader can't write 58 of the 94 characters" in warning
    assert "2 of the 4 words have one of them and count as misread" in warning
    assert compare([reader], open_benchmarks(tmp_path, "all", Charset.load("36")), Charset.load("36")).warnings == ()


@pytest.mark.parametrize("confidence", [math.nan, math.inf])
def test_a_reader_without_probabilities_is_refused(
    benchmarks: list[Benchmark], charset: Charset, confidence: float
) -> None:
    reader = FakeReader("diverged", {})
    reader.read_pictures = lambda pictures: [Reading("a", confidence, ())] * len(pictures)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="diverged gives NaN"):
        compare([reader], benchmarks, charset)


def test_words_that_a_teacher_cannot_choose_are_said(
    tmp_path: Path, make_set: Callable[[Path, Sequence[str]], Path]
) -> None:
    make_set(tmp_path / "test" / "set", ["one", "One", "two"])
    charset = Charset.load("94")
    teacher = FakeTeacher({"one": 0, "One": 0, "two": 2})
    result = compare([LexiconReader(teacher, charset)], open_benchmarks(tmp_path, "all", charset), charset)
    assert result.readers[0].sets["set"].tally.hits == 2
    assert any("can't tell words from others that differ in case alone: 1 of the 3 words" in w for w in result.warnings)
