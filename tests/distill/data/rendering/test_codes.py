"""Rendered codes take after labels: their shapes, what stands at each place, and their part of what is drawn."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from distill.data.rendering.codes import EXCHANGED, CodeSampler, shape
from distill.data.rendering.labels import WordSampler
from distill.data.rendering.vocabulary import is_test_word
from students.errors import UserError

PLATES = ["AB12CDE", "AB34FGH", "AX56IJK", "7-KLM-89"]


@pytest.fixture(scope="module")
def words() -> WordSampler:
    return WordSampler("train")


def draw(sampler: WordSampler, count: int = 2000) -> list[str]:
    random = Random(0)
    return [sampler.draw(random) for _ in range(count)]


def test_shapes_are_as_frequent_as_among_the_labels(words: WordSampler) -> None:
    counts = Counter(map(shape, draw(CodeSampler(words, PLATES, 1.0))))
    assert set(counts) == {"AA99AAA", "9-AAA-99"}
    assert counts["AA99AAA"] / 2000 == pytest.approx(3 / 4, abs=0.03)


def test_characters_are_mostly_those_of_a_label_at_this_place(words: WordSampler) -> None:
    codes = [code for code in draw(CodeSampler(words, PLATES, 1.0)) if shape(code) == "AA99AAA"]
    first = sum(code[0] == "A" for code in codes) / len(codes)
    assert first == pytest.approx(EXCHANGED + (1 - EXCHANGED) / 26, abs=0.03)
    assert len({code[0] for code in codes}) == 26, "and now and then any other of its kind"
    assert sum(code in PLATES for code in codes) < 0.05 * len(codes), "hardly any is a label that is there already"


def test_words_stand_between_the_codes(words: WordSampler) -> None:
    drawn = draw(CodeSampler(words, PLATES, 0.25))
    codes = sum(shape(text) in ("AA99AAA", "9-AAA-99") for text in drawn)
    assert codes / len(drawn) == pytest.approx(0.25, abs=0.04)
    assert draw(CodeSampler(words, PLATES, 0.25)) == drawn, "the same random numbers give the same labels"


def test_codes_that_are_held_out_are_not_drawn(words: WordSampler) -> None:
    drawn = draw(CodeSampler(words, PLATES, 1.0))
    assert not any(map(is_test_word, drawn))
    for_testing = CodeSampler(WordSampler("test"), ["77"], 1.0)
    assert all(map(is_test_word, draw(for_testing, 200)))


def test_labels_follow_the_label_rules(words: WordSampler) -> None:
    labels = ["ÄB 12 CÉ", "###", "", "-", "X" * 26, "Q7"]
    sampler = CodeSampler(words, labels, 1.0)
    assert sampler.labels == ("AB12CE", "Q7")
    digits = WordSampler("train", "0123456789")
    assert set(map(shape, draw(CodeSampler(digits, PLATES, 1.0), 200))) == {"99", "999"}
    with pytest.raises(UserError, match="no label with a letter or digit that the alphabet can write"):
        CodeSampler(digits, ["ABC", "?"], 0.5)


def test_letters_without_case_keep_to_their_script() -> None:
    words = WordSampler("all", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ京沪粤")
    codes = draw(CodeSampler(words, ["京A1234", "沪B5678"], 1.0), 300)
    assert set(map(shape, codes)) == {"[CJK]A9999"}
    assert {code[0] for code in codes} == set("京沪粤")


def test_codes_are_as_short_as_the_words_between_them(words: WordSampler) -> None:
    short = WordSampler("train")
    short.max_length = 4
    assert CodeSampler(short, ["AB12", "AB-1234"], 1.0).labels == ("AB12",)
    with pytest.raises(UserError, match="can write in 4 characters"):
        CodeSampler(short, ["AB-1234"], 1.0)
