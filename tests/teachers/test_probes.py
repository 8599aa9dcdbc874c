from __future__ import annotations

import pytest
from rapidfuzz.distance import DamerauLevenshtein
from rapidfuzz.distance import Levenshtein as Edits

from students.charset import CHARSETS
from teachers.probes import PROBES, probes

CYRILLIC = "джфлюяДЖФЛЮЯ0123456789"


@pytest.mark.parametrize("characters", [*CHARSETS.values(), "0123456789ABCDEF-", CYRILLIC, "!?", "7"])
def test_words_are_of_the_alphabet_and_differ_as_they_should(characters: str) -> None:
    made = probes(characters)
    assert made == probes(characters), "the same words every time"
    for kind, pairs in made.items():
        for a, b in pairs:
            assert set(a + b) <= set(characters)
            assert a != b
            assert max(len(a), len(b)) <= 25
            if kind == "case only":
                assert a.lower() == b.lower()
            elif kind == "order of two":
                assert DamerauLevenshtein.distance(a, b) == 1
                assert sorted(a) == sorted(b)
            elif kind != "everything":
                assert Edits.distance(a.lower(), b.lower()) == 1
                assert len(a) == len(b)


def test_kinds_follow_from_the_alphabet() -> None:
    assert list(probes(CHARSETS["94"])) == [
        "case only", "one letter", "one digit", "one sign", "order of two", "everything",
    ]  # fmt: skip
    assert list(probes(CHARSETS["36"])) == ["one letter", "one digit", "order of two", "everything"]
    assert list(probes(CYRILLIC)) == ["case only", "one letter", "one digit", "order of two", "everything"]
    assert probes("7") == {"everything": probes("7")["everything"]}
    assert len(probes(CHARSETS["36"])["one digit"]) == PROBES
    assert all(len(a) <= 4 for pairs in probes(CHARSETS["36"], longest=4).values() for a, _ in pairs)
