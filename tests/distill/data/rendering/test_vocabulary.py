"""Vocabulary: languages follow the alphabet, words are spelled as people write them, a tenth is held out."""

from __future__ import annotations

import string

import pytest

from distill.data.rendering.vocabulary import (
    check_languages,
    choose_languages,
    is_test_word,
    load_vocabulary,
    needs_shaping,
)
from students.errors import UserError

RUSSIAN = "абвгдежзийклмнопрстуфхцчшщъыьэюяё"


def both_cases(characters: str) -> frozenset[str]:
    return frozenset(characters + characters.lower() + characters.upper())


@pytest.mark.parametrize(
    ("characters", "languages"),
    [
        (string.ascii_lowercase + string.digits, ("en",)),
        (string.ascii_lowercase + "äöüß", ("de", "en")),
        (string.ascii_lowercase + "áéíóúüñ", ("es", "en")),
        (string.ascii_lowercase + "łężąóśćńź", ("pl", "en")),
        (string.digits + RUSSIAN, ("ru",)),
        (string.ascii_lowercase + RUSSIAN, ("ru", "en")),
        ("αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώ", ("el",)),
        (string.digits, ()),
        (string.digits + "ႠႡႢ", ()),
    ],
)
def test_languages_follow_the_alphabet(characters: str, languages: tuple[str, ...]) -> None:
    assert choose_languages(both_cases(characters)) == languages


def test_casefolded_words_are_spelled_as_people_write_them() -> None:
    german = set(load_vocabulary(("de",), both_cases(string.ascii_lowercase + "äöüß")).words)
    assert {"straße", "groß", "weiß", "dreißig", "müssen", "besser", "fluss", "aussehen"} <= german
    greek = set(load_vocabulary(("el",), both_cases("αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώ")).words)
    assert "της" in greek
    assert "τησ" not in greek


def test_words_are_those_that_the_alphabet_can_write() -> None:
    alphabet = both_cases(string.ascii_lowercase + "é")
    words, french = load_vocabulary(("fr", "en"), alphabet), len(load_vocabulary(("fr",), alphabet).words)
    assert all(set(word) <= set(string.ascii_lowercase + "é'") for word in words.words)
    assert "été" in words.words
    assert words.cumulative[french - 1] == pytest.approx(words.cumulative[-1] / 2), "languages weigh the same"


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(UserError, match="no words of xx; give some of ar, bg"):
        load_vocabulary(("de", "xx"), both_cases("abc"))


def test_a_tenth_is_held_out_whatever_the_case_and_marks() -> None:
    words = load_vocabulary(("en",), both_cases(string.ascii_lowercase)).words[:20_000]
    share = sum(map(is_test_word, words)) / len(words)
    assert 0.09 < share < 0.11
    assert all(is_test_word(word) == is_test_word(word.upper() + "!") for word in words[:200])


def test_letters_that_join_or_stack_are_told_from_those_that_stand_alone() -> None:
    assert not any(needs_shaping(char) for char in "aß€жΩのｱ한漢")
    assert all(needs_shaping(char) for char in " \u0301אبि")


def test_languages_with_a_comma_between_them_are_one_that_there_is_not() -> None:
    with pytest.raises(UserError, match=r"no words of de,ru; .* \(each by itself, no commas"):
        check_languages(["de,ru"])
    with pytest.raises(UserError) as plain:
        check_languages(["xx"])
    assert "commas" not in str(plain.value)
