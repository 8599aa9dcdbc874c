"""The label rules and token ids, by their properties."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from students.charset import CHARSETS, Charset
from students.errors import UserError


def test_length_is_checked_before_characters_are_removed() -> None:
    charset = Charset.load("36")
    assert charset.clean("a" + "!" * 24) == "a"
    assert charset.clean("a" + "!" * 25) is None
    assert charset.drop_reason("a" + "!" * 25) == "too long"
    assert charset.drop_reason("!?") == "empty"
    assert charset.drop_reason("Hello!") is None
    assert charset.outside("Hello!?") == "!?"


def test_ties_take_the_lowest_id_and_a_word_without_end_is_not_cut() -> None:
    charset = Charset("ab")
    probabilities = torch.tensor([[[0.0, 0.5, 0.5], [0.2, 0.1, 0.7]]])
    reading = charset.decode(probabilities)[0]
    assert (reading.text, len(reading.token_probs)) == ("ab", 2)
    assert reading.confidence == pytest.approx(0.35)


def test_an_alphabet_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "alphabet.txt"
    file.write_text("äöü\nß-\n", encoding="utf-8")
    assert Charset.load(str(file)).characters == "äöüß-"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        Charset.load(str(file))
    with pytest.raises(UserError, match="37"):
        Charset.load("37")


@pytest.mark.parametrize("characters", ["", "aba"])
def test_a_useless_alphabet_is_refused(characters: str) -> None:
    with pytest.raises(UserError, match="alphabet"):
        Charset(characters)


def test_a_label_outside_the_alphabet_is_named() -> None:
    with pytest.raises(UserError, match=r"'a-b'.*'-'"):
        Charset.load("36").encode(["ok", "a-b"])


def test_a_charset_can_be_pickled() -> None:
    charset = Charset.load("62")
    assert charset.ids["a"] == 11
    assert pickle.loads(pickle.dumps(charset)) == charset  # noqa: S301  what the test pickled itself


@given(st.text(max_size=40), st.sampled_from(sorted(CHARSETS)))
def test_cleaning_twice_changes_nothing(label: str, name: str) -> None:
    charset = Charset.load(name)
    cleaned = charset.clean(label)
    if cleaned is None:
        assert charset.drop_reason(label) is not None
    else:
        assert charset.drop_reason(label) is None
        assert charset.clean(cleaned) == cleaned == charset.adapt(cleaned)
        assert charset.outside(cleaned) == ""
        assert 0 < len(cleaned) <= 25


@given(st.lists(st.text(alphabet=CHARSETS["94"], min_size=1, max_size=25), min_size=1, max_size=5))
def test_what_is_encoded_is_decoded(labels: list[str]) -> None:
    charset = Charset.load("94")
    encoded = charset.encode(labels)
    assert encoded.shape == (len(labels), max(map(len, labels)) + 2)
    assert (encoded[:, 0] == charset.start_id).all()
    targets = encoded[:, 1:].masked_fill(encoded[:, 1:] == charset.pad_id, charset.end_id)
    probabilities = torch.nn.functional.one_hot(targets, len(charset.characters) + 1).float()
    readings = charset.decode(probabilities)
    assert [reading.text for reading in readings] == labels
    assert [len(reading.token_probs) for reading in readings] == [len(label) + 1 for label in labels]
