"""Words to render: what is drawn, in which case, and that the splits share no word."""

from __future__ import annotations

import hashlib
import string
from random import Random

import pytest

from distill.data.rendering.labels import Split, WordSampler, change_case
from distill.data.rendering.vocabulary import word_key
from students.errors import UserError


def test_splits_share_no_word() -> None:
    random = Random(3)
    train = {word_key(WordSampler("train").draw(random)) for _ in range(3_000)}
    test = {word_key(WordSampler("test").draw(random)) for _ in range(600)}
    assert not train & test


def test_distinct_words_repeat_none() -> None:
    labels = WordSampler("test").distinct(1_000, Random("labels"))
    assert len({word_key(label) for label in labels}) == 1_000
    assert labels == WordSampler("test").distinct(1_000, Random("labels"))


def test_too_many_distinct_words_are_refused() -> None:
    with pytest.raises(UserError, match=r"would work|ask for fewer"):
        WordSampler("test", charset="0").distinct(100, Random(0))


def test_mixture_has_numbers_marks_and_rare_words() -> None:
    random = Random(0)
    sampler = WordSampler("all")
    labels = [sampler.draw(random) for _ in range(5_000)]
    assert all(1 <= len(label) <= 25 and label.isascii() and " " not in label for label in labels)
    assert 0.06 < sum(label.isdigit() for label in labels) / 5_000 < 0.2
    assert 0.08 < sum(not label.isalnum() for label in labels) / 5_000 < 0.3
    common = set(sampler.words[:1_000])
    letters = [label.lower() for label in labels if label.isalpha()]
    assert 0.1 < sum(label in common for label in letters) / len(letters) < 0.4
    assert len(set("".join(labels))) == 94


def test_cases_of_signs() -> None:
    random = Random(1)
    cased = [change_case("street", random) for _ in range(4_000)]
    shares = {form: cased.count(form) / 4_000 for form in ("STREET", "Street", "street")}
    assert shares == pytest.approx({"STREET": 0.42, "Street": 0.28, "street": 0.27}, abs=0.03)


def test_charset_is_kept() -> None:
    sampler = WordSampler("all", charset="0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    random = Random(2)
    assert all(sampler.draw(random).isalnum() for _ in range(2_000))


@pytest.mark.parametrize("bad", [{"split": "half"}, {"charset": "!?"}])
def test_mistakes_are_named(bad: dict[str, str]) -> None:
    with pytest.raises(UserError):
        WordSampler(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("split", "charset", "digest"),
    [
        ("train", None, "753bc1bf53756758d139b8da"),
        ("train", string.digits + string.ascii_letters, "42f2e10c8d577cd8794527a8"),
        ("test", None, "37e0d44210ca48270b9f66da"),
        ("test", string.digits + string.ascii_letters, "eb406818daedf1d172d3c6f0"),
    ],
)
def test_words_of_ascii_alphabets_stay_what_they_are(split: Split, charset: str | None, digest: str) -> None:
    sampler, random = WordSampler(split, charset), Random(11)
    words = "\n".join(sampler.draw(random) for _ in range(2_000))
    assert hashlib.sha256(words.encode()).hexdigest()[:24] == digest


@pytest.mark.parametrize(
    ("charset", "languages"),
    [
        (string.digits + string.ascii_letters + "äöüÄÖÜß", ()),
        (string.digits + "абвгдежзийклмнопрстуфхцчшщъыьэюяёАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯЁ", ()),
        ("".join(map(chr, range(0x3041, 0x3094))), ()),
        (string.ascii_lowercase + "ႠႡႢႣ♥", ()),
        (string.ascii_letters + "éèà", ("fr", "it")),
    ],
)
def test_every_character_beyond_ascii_occurs(charset: str, languages: tuple[str, ...]) -> None:
    random, sampler = Random(0), WordSampler("train", charset, languages)
    labels = [sampler.draw(random) for _ in range(3_000)]
    assert set("".join(labels)) == set(charset)
    assert max(map(len, labels)) <= 25
    assert sum(not label.isascii() for label in labels) > 400
    assert not languages or sampler.languages == languages


def test_random_strings_stay_within_a_script() -> None:
    sampler, random = WordSampler("train", "abcäöЖЩъのにて"), Random(0)
    scripts = ["abcäö", "ЖЩъ", "のにて"]
    for _ in range(300):
        label = sampler._random_string(random).rstrip(string.digits)
        assert sum(bool(set(label) & set(script)) for script in scripts) == 1


def test_letters_that_join_are_not_drawn() -> None:
    sampler = WordSampler("train", string.ascii_lowercase + "ä\u0301אب ")
    assert sampler.extra == "ä"
