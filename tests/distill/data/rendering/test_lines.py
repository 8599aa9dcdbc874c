"""Rendered lines: words of their split with single spaces between, read in wide crops, the same for a number."""

from __future__ import annotations

import pickle
from random import Random

import numpy as np
import pytest

from distill.data.rendering.labels import WordSampler
from distill.data.rendering.lines import MAX_LINE_WIDTH, LineSampler
from distill.data.rendering.render_set import RenderRequest, rendering_warnings
from distill.data.rendering.renderer import WordRenderer
from distill.data.rendering.vocabulary import is_test_word
from students.charset import Charset


@pytest.fixture(scope="module")
def renderer() -> WordRenderer:
    request = RenderRequest(
        20, "test", 3, Charset.load("95").characters, system_fonts=False, max_fonts=8, line_words=(2, 6), max_length=40
    )
    return request.build_renderer()[0]


def test_lines_are_words_of_their_split_within_the_longest() -> None:
    lines = LineSampler(WordSampler("test"), (1, 6), 40)
    random = Random(0)
    drawn = [lines.draw(random) for _ in range(400)]
    assert drawn == [*map(lines.draw, [Random(0)]), *drawn[1:]]
    assert {line.count(" ") + 1 for line in drawn} == {1, 2, 3, 4, 5, 6}
    assert max(map(len, drawn)) <= 40
    assert all(line == " ".join(line.split()) for line in drawn)
    assert all(is_test_word(word) for line in drawn for word in line.split())
    capitals, small = sum(map(str.isupper, drawn)), sum(line[1:].islower() for line in drawn)
    assert capitals > 60
    assert small > 60


def test_a_rendered_line_follows_from_its_number(renderer: WordRenderer) -> None:
    again: WordRenderer = pickle.loads(pickle.dumps(renderer))  # noqa: S301  our own bytes
    for index in (7, 0):
        one, other = renderer.render(index), again.render(index)
        assert one.label == other.label
        assert np.array_equal(one.image, other.image)


def test_lines_are_as_wide_as_they_are_long_and_columns_know_the_spaces(renderer: WordRenderer) -> None:
    words = [renderer.render(index) for index in range(20)]
    assert len({word.label for word in words}) == 20
    assert 288 < max(word.image.shape[1] for word in words) <= MAX_LINE_WIDTH
    per_character = [word.image.shape[1] / word.image.shape[0] / len(word.label) for word in words]
    assert 0.25 < float(np.median(per_character)) < 0.9, "letters keep their shape"
    for word in words:
        under = "".join(map(chr, word.columns[word.columns > 0].tolist()))
        assert set(under) <= set(word.label)
    assert any(ord(" ") in word.columns for word in words)


def test_a_space_is_as_wide_as_the_font_has_it(renderer: WordRenderer) -> None:
    for font in renderer.fonts:
        assert not font.glyphs[" "].ink.any()
        assert 0.1 < font.glyphs[" "].advance / font.glyphs["n"].advance <= 1.1


def test_words_without_spaces_are_reported_for_an_alphabet_with_the_space() -> None:
    assert "data.synthetic.line_words" in rendering_warnings({"without_spaces": True})[0]
    assert rendering_warnings({"without_spaces": False}) == []


def test_a_word_that_gets_too_long_as_capitals_is_drawn_again() -> None:
    class Sampler(WordSampler):
        """Draws a word whose capitals are one character more."""

        def draw(self, random: Random) -> str:
            return "fußes"

    sampler = Sampler("all", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzß")
    drawn = {LineSampler(sampler, (1, 3), 5).draw(Random(seed)) for seed in range(50)}
    assert max(map(len, drawn)) == 5
