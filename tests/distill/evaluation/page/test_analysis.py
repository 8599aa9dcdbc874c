from __future__ import annotations

import pytest

from distill.evaluation.metrics import Tally
from distill.evaluation.page.analysis import HEIGHTS, LENGTHS, Bin, by_bins, by_characters, reliability
from distill.evaluation.readings import ReadWord
from tests.distill.evaluation.fakes import read_words


def words_of(*words: tuple[str, str, float]) -> list[ReadWord]:
    """Words by label, reading and confidence."""
    return read_words([label for label, _, _ in words], mine=[(text, sure) for _, text, sure in words])


def test_words_are_scored_by_length_and_height() -> None:
    words = words_of(("a", "a", 1), ("no", "no", 1), ("so", "", 1), ("abcdefghijk", "x", 1), ("l" * 70, "l" * 70, 1))
    assert by_bins(words, "mine", LENGTHS, lambda word: len(word.label)) == [
        Bin("1", Tally(1, 1)), Bin("2", Tally(2, 1)), Bin("10–11", Tally(1, 0)), Bin("60+", Tally(1, 1)),
    ]  # fmt: skip
    # The pictures are 8, 12, 16, 20 and 24 pixels high.
    assert by_bins(words, "mine", HEIGHTS, lambda word: word.size[1]) == [
        Bin("1–11", Tally(1, 1)), Bin("12–15", Tally(1, 1)), Bin("16–23", Tally(2, 0)), Bin("24–31", Tally(1, 1)),
    ]  # fmt: skip


def test_characters_are_confused_lost_and_added() -> None:
    found = by_characters(
        words_of(("hello", "hella", 0.3), ("bob", "bab", 0.9), ("on", "n", 0.5), ("on", "one", 0.5), ("up", "up", 1.0)),
        "mine",
    )
    assert found.confusions == {("o", "a"): 2, ("o", ""): 1, ("", "e"): 1}
    assert found.examples[("o", "a")] == ("bob", "bab"), "the surest of those with one edit"
    assert found.scores["o"] == Tally(4, 1)
    assert found.scores["l"] == Tally(2, 2)
    assert next(iter(found.scores)) == "o", "the most frequent first"


def test_the_example_of_a_confusion_has_few_edits() -> None:
    found = by_characters(words_of(("oxen", "a", 0.99), ("on", "an", 0.2)), "mine")
    assert found.examples[("o", "a")] == ("on", "an")


def test_the_threshold_covers_as_much_as_can_be_99_percent_right() -> None:
    sure = [("a", "a", 0.9)] * 99 + [("a", "b", 0.8)] + [("a", "a", 0.7)] * 50 + [("a", "b", 0.6)] * 50
    found = reliability(words_of(*sure), "mine")
    assert found.threshold is not None
    assert found.threshold.confidence == 0.7
    assert found.threshold.accepted == Tally(150, 149)
    assert found.threshold.covered == 75
    assert found.coverage == ((49.5, 100.0), (50.0, 99.0), (75.0, pytest.approx(99.333, abs=1e-3)), (100.0, 74.5))


def test_equal_confidences_are_accepted_together() -> None:
    found = reliability(words_of(*[("a", "a", 1.0)] * 99, *[("a", "b", 1.0)] * 5), "mine")
    assert found.threshold is None
    assert len(found.coverage) == 1


def test_calibration_error_is_the_distance_of_confidence_and_accuracy() -> None:
    found = reliability(words_of(("a", "a", 0.95), ("a", "b", 0.95), ("a", "a", 0.25), ("a", "b", 0.0)), "mine")
    assert [(round(sure, 9), tally) for sure, tally in found.bins] == [
        (0.0, Tally(1, 0)), (25.0, Tally(1, 1)), (95.0, Tally(2, 1)),
    ]  # fmt: skip
    assert found.error == pytest.approx((0 + 75 + 2 * 45) / 4)
