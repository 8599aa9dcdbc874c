"""SyntheticWords: what the source draws, with words that can't be written passed over."""

from __future__ import annotations

import numpy as np
import pytest

from distill.data import live
from distill.data.datasets import WordOptions
from distill.data.live import SyntheticWords
from students.charset import Charset
from students.errors import UserError


class Drawn:
    """Words in a given order; picture and columns are those of the first character."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str, np.ndarray]:
        word = self.words[index]
        shade = ord(word[0])
        return np.full((16, 64, 3), shade, np.uint8), word, np.full(32, shade, np.uint8)


CHARSET = Charset.load("36")


def test_a_word_that_can_not_be_written_gives_its_place_to_the_next() -> None:
    words = SyntheticWords(Drawn("alpha", "much-too-long", "!?", "beta", "gamma"), CHARSET, WordOptions(max_length=8))
    samples = [words.sample(index, 0) for index in range(5)]
    assert [sample.label for sample in samples] == ["alpha", "beta", "beta", "beta", "gamma"]
    assert [sample.index for sample in samples] == [0, 1, 2, 3, 4]
    for sample in samples:  # picture and columns are those of the word that was taken
        assert float(sample.image.mean()) == pytest.approx(ord(sample.label[0]) / 127.5 - 1, abs=1e-5)
        assert sample.columns is not None
        assert set(sample.columns.tolist()) == {CHARSET.encode([sample.label[0]])[0, 1].item()}


def test_the_last_gives_its_place_to_the_first() -> None:
    words = SyntheticWords(Drawn("alpha", "beta", "much-too-long"), CHARSET, WordOptions(max_length=8))
    assert words.sample(2, 0).label == "alpha"


def test_an_epoch_goes_on_where_the_one_before_ended() -> None:
    words = SyntheticWords(Drawn("alpha", "beta", "gamma", "delta"), CHARSET, words=2)
    assert len(words) == 2
    shown = [words.sample(index, epoch).label for epoch in range(3) for index in range(2)]
    assert shown == ["alpha", "beta", "gamma", "delta", "alpha", "beta"]


def test_a_source_that_writes_another_alphabet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TRIES", 3)
    words = SyntheticWords(Drawn("!", "?", "&", "alpha"), CHARSET)
    with pytest.raises(UserError, match="rendered word '&' can't be written in the alphabet"):
        words[0]
    assert words[1].label == "alpha"


@pytest.mark.parametrize("options", [WordOptions(augmentation="strong"), WordOptions(cache="memory")])
def test_what_makes_no_sense_live_is_refused(options: WordOptions) -> None:
    with pytest.raises(UserError, match="augmentation none or light, and cache none"):
        SyntheticWords(Drawn("alpha"), CHARSET, options)
