"""SyntheticWords: what the source draws, with words that can't be written passed over."""

from __future__ import annotations

import numpy as np
import pytest

from distill.data.rendering import synthetic
from distill.data.rendering.renderer import RenderedWord
from distill.data.rendering.synthetic import SyntheticWords
from distill.data.samples import WordOptions
from distill.data.sections import Augmentation, SourceSection
from students.charset import Charset
from students.errors import UserError


class Drawn:
    """Renders words in a given order, again and again; picture and columns are those of the first character."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def render(self, index: int) -> RenderedWord:
        word = self.words[index % len(self.words)]
        shade = ord(word[0])
        return RenderedWord(np.full((16, 64, 3), shade, np.uint8), word, np.full(32, shade, np.uint32), 95)


CHARSET = Charset.load("36")


def test_a_word_that_can_not_be_written_gives_its_place_to_the_next() -> None:
    words = SyntheticWords(
        Drawn("alpha", "much-too-long", "!?", "beta", "gamma"), CHARSET, 5, options=WordOptions(max_length=8)
    )
    samples = [words.sample(index, 0) for index in range(5)]
    assert [sample.label for sample in samples] == ["alpha", "beta", "beta", "beta", "gamma"]
    assert [sample.index for sample in samples] == [0, 1, 2, 3, 4]
    for sample in samples:  # picture and columns are those of the word that was taken
        assert float(sample.image.mean()) == pytest.approx(ord(sample.label[0]) / 127.5 - 1, abs=1e-5)
        assert sample.columns is not None
        assert set(sample.columns.tolist()) == {CHARSET.encode([sample.label[0]])[0, 1].item()}


def test_the_last_gives_its_place_to_the_first() -> None:
    words = SyntheticWords(Drawn("alpha", "beta", "much-too-long"), CHARSET, 3, options=WordOptions(max_length=8))
    assert words.sample(2, 0).label == "alpha"


def test_an_epoch_goes_on_where_the_one_before_ended() -> None:
    words = SyntheticWords(Drawn("alpha", "beta", "gamma", "delta"), CHARSET, 2)
    assert len(words) == 2
    drawn = [words.sample(index, epoch).label for epoch in range(3) for index in range(2)]
    assert drawn == ["alpha", "beta", "gamma", "delta", "alpha", "beta"]


def test_a_source_that_writes_another_alphabet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "TRIES", 3)
    words = SyntheticWords(Drawn("!", "?", "&", "alpha"), CHARSET, 4)
    with pytest.raises(UserError, match="rendered word '&' can't be written in the alphabet"):
        words[0]
    assert words[1].label == "alpha"


@pytest.mark.parametrize("source", [SourceSection(augmentation="strong"), SourceSection(cache="memory")])
def test_what_makes_no_sense_live_is_refused(source: SourceSection) -> None:
    with pytest.raises(UserError, match="augmentation none or light, and cache none"):
        SyntheticWords(Drawn("alpha"), CHARSET, 1, source)


@pytest.mark.parametrize(
    ("augmentation", "fixed", "returns"),
    [("none", 0, False), ("light", 0, False), ("light", 1, True), ("none", 1, True)],
)
def test_pictures_come_back_with_fixed_augmentations(augmentation: Augmentation, fixed: int, returns: bool) -> None:
    source = SourceSection(augmentation=augmentation, fixed_augmentations=fixed)
    words = SyntheticWords(Drawn("a", "b", "c"), CHARSET, 2, source)
    first, later = words.sample(0, 0), words.sample(0, 1)
    assert (first.version is not None) == returns
    assert returns == bool((first.pixels == later.pixels).all())
