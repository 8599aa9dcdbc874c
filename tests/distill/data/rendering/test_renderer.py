"""Rendered words: repeatable, readable in shape, with each character where the columns say."""

from __future__ import annotations

import hashlib
import pickle
import string
from pathlib import Path
from random import Random

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import features

from distill.data.rendering.atlas import FontAtlas, draw_glyphs
from distill.data.rendering.colours import draw_palette
from distill.data.rendering.fonts import DRAWN, FontChoice, choose_fonts
from distill.data.rendering.labels import Split
from distill.data.rendering.layout import Setting, set_word
from distill.data.rendering.render_set import RenderRequest
from distill.data.rendering.renderer import WordRenderer
from distill.data.rendering.warp import Placement, Warp, draw_warp


@pytest.fixture(scope="module")
def choice() -> FontChoice:
    return choose_fonts(system=False)


@pytest.fixture(scope="module")
def renderer(choice: FontChoice) -> WordRenderer:
    return WordRenderer(choice.fonts, seed=5)


def test_a_word_depends_on_seed_split_and_index_only(choice: FontChoice, renderer: WordRenderer) -> None:
    again: WordRenderer = pickle.loads(pickle.dumps(renderer))  # noqa: S301  our own bytes
    for index in (7, 0, 123_456):
        one, other = renderer.render(index), again.render(index)
        assert one.label == other.label
        assert np.array_equal(one.image, other.image)
    assert renderer.generator(0).random() != WordRenderer(choice.fonts, seed=5, split="train").generator(0).random()


def test_words_look_like_crops(renderer: WordRenderer) -> None:
    for index in range(200):
        word = renderer.render(index)
        height, width, channels = word.image.shape
        assert word.image.dtype == np.uint8
        assert channels == 3
        assert 8 <= height <= 160
        assert 8 <= width <= 290
        assert word.columns.shape == (32,)
        assert word.columns.dtype == np.uint32
        assert set(map(chr, word.columns[word.columns > 0])) <= set(word.label)
        assert word.image.std() > 1.0
        assert 40 <= word.quality <= 95


def test_columns_read_the_word(renderer: WordRenderer) -> None:
    read = 0
    for index in range(200):
        word = renderer.render(index)
        seen = [chr(c) for c in word.columns]
        remaining = "".join(c for c, before in zip(seen, ["", *seen[:-1]], strict=True) if c != "\0" and c != before)
        target = "".join(c for c, before in zip(word.label, " " + word.label, strict=False) if c != before)
        read += remaining.replace("\0", "") == target
    assert read > 120  # long words, steep ones and full stops have no column of their own


def test_warp_and_its_inverse_agree(choice: FontChoice) -> None:
    word = set_word("Renderer", choice.fonts[0], Setting(), Random(0))
    random = Random(1)
    u, v = (a.astype(np.float32) for a in np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-0.5, 0.5, 5)))
    for _ in range(100):
        placement = Placement(word, draw_warp(random), 20, (0.1, 0.1, 0.1, 0.1))
        back = placement.to_text(*placement.to_crop(u, v))
        assert max(np.abs(back[0] - u).max(), np.abs(back[1] - v).max()) < 2e-3


def test_plain_warp_keeps_the_word(choice: FontChoice) -> None:
    word = set_word("HOME", choice.fonts[0], Setting(), Random(0))
    ink = Placement(word, Warp(), 26, (0, 0, 0, 0)).layers()[..., 0]
    left, top, right, bottom = word.box
    expected = word.layers[top:bottom, left:right, 0]
    assert ink.shape == expected.shape
    assert np.abs(ink.astype(int) - expected).mean() < 2


def test_ink_is_inside_the_crop(choice: FontChoice) -> None:
    word = set_word("Curved", choice.fonts[0], Setting(), Random(0))
    random = Random(2)
    for _ in range(60):
        layers = Placement(word, draw_warp(random), 20, (0.2, 0.2, 0.2, 0.2)).layers()[..., 0]
        border = np.concatenate([layers[0], layers[-1], layers[:, 0], layers[:, -1]])
        assert (border > 100).mean() < 0.02
        assert layers.max() > 150


def test_colours_keep_the_contrast_asked_for() -> None:
    random = Random(3)
    contrasts = [draw_palette(random, 40.0).contrast for _ in range(500)]
    assert min(contrasts) >= 40
    assert 70 < np.median(contrasts) < 160


LIBRARIES = (features.version("freetype2"), cv2.__version__)


@pytest.mark.skipif(LIBRARIES != ("2.14.3", "5.0.0"), reason="other versions of FreeType and OpenCV draw other pixels")
def test_pictures_of_a_seed_stay_what_they_are() -> None:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = {name: folder / f"{name}.ttf" for name in ("DejaVuSans", "DejaVuSerif", "STIXGeneral")}
    fonts = [FontAtlas(str(file), name, name, draw_glyphs(file, DRAWN)) for name, file in files.items()]
    renderer = WordRenderer(fonts, seed=3, split="train", difficulty=0.9)
    pictures = hashlib.sha256(b"".join(renderer.render(index).image.tobytes() for index in range(40)))
    assert pictures.hexdigest()[:24] == "9ef87c9a5d000999dad90eec", "or runs would no longer see the words of before"


@pytest.mark.parametrize("split", ["train", "test"])
def test_words_beyond_ascii_are_drawn_by_fonts_that_have_their_letters(split: Split) -> None:
    german = string.digits + string.ascii_lowercase + "äöüß"
    renderer, fonts = RenderRequest(40, split, charset=german + "漢", system_fonts=False).build_renderer()
    assert fonts.undrawn == "漢"
    words = [renderer.render(index) for index in range(40)]
    beyond = [word for word in words if not word.label.isascii()]
    assert len(beyond) > 3
    assert {chr(code) for word in words for code in word.columns if code} <= set(german + german.upper())
    assert any(code > 127 for word in beyond for code in word.columns)
    assert split == "train" or len({word.label.lower() for word in words}) == 40
