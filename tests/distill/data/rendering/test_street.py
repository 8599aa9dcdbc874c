"""Words in the style `street`: repeatable, legible, at their own aspect, and as varied as real crops."""

from __future__ import annotations

import pickle
from random import Random

import cv2
import numpy as np
import pytest

from distill.data.rendering import street
from distill.data.rendering.fonts import FontChoice, choose_fonts
from distill.data.rendering.layout import Setting, set_word
from distill.data.rendering.render_set import RenderRequest
from distill.data.rendering.renderer import RenderedWord
from distill.data.rendering.scenes import SceneBank
from distill.data.rendering.street import StreetRenderer, draw_warp, place
from distill.data.rendering.street_effects import contrast_of_text
from distill.data.rendering.street_labels import StreetSampler


@pytest.fixture(scope="module")
def choice() -> FontChoice:
    return choose_fonts(system=False)


@pytest.fixture(scope="module")
def renderer(choice: FontChoice) -> StreetRenderer:
    return StreetRenderer(choice.fonts, seed=5)


@pytest.fixture(scope="module")
def words(renderer: StreetRenderer) -> list[RenderedWord]:
    return [renderer.render(index) for index in range(300)]


def test_a_word_depends_on_seed_and_index_only(renderer: StreetRenderer, words: list[RenderedWord]) -> None:
    again: StreetRenderer = pickle.loads(pickle.dumps(renderer))  # noqa: S301  our own bytes
    for index in (7, 0, 299):
        assert again.render(index).label == words[index].label
        assert np.array_equal(again.render(index).image, words[index].image)


def test_crops_keep_the_words_aspect(words: list[RenderedWord]) -> None:
    shapes = np.array([word.image.shape for word in words])
    assert shapes[:, 0].min() >= 12
    assert shapes[:, 0].max() <= 64
    assert 32 < np.median(shapes[:, 0]) < 48
    assert shapes[:, 1].max() <= 640
    aspect, length = shapes[:, 1] / shapes[:, 0], [len(word.label) for word in words]
    assert np.corrcoef(aspect, length)[0, 1] > 0.4, "arcs and turned words are nearly square"
    assert {word.columns.shape for word in words} == {(32,)}
    assert all(set(map(chr, word.columns[word.columns > 0])) <= set(word.label) for word in words)


def test_columns_read_most_words(words: list[RenderedWord]) -> None:
    read = 0
    for word in words:
        codes = word.columns[word.columns > 0]
        seen = codes[np.append(True, codes[1:] != codes[:-1])]
        written = np.frombuffer(word.label.encode("utf-32-le"), "<u4")
        read += np.array_equal(seen, written[np.append(True, written[1:] != written[:-1])])
    assert read > 180  # long words, steep ones and full stops have no column of their own


def test_text_differs_from_what_is_around_it() -> None:
    ink = np.zeros((32, 96), np.uint8)
    cv2.putText(ink, "TEXT", (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 3)
    covers = [ink, *[np.zeros_like(ink)] * 3]
    crop = np.full((32, 96, 3), 100, np.uint8)
    noise = np.random.default_rng(0).normal(0, 30, crop.shape)
    written = np.where(ink[..., None] > 128, 160, crop)
    assert contrast_of_text(crop, covers) == 0
    assert contrast_of_text(written.astype(np.uint8), covers) > 3
    assert contrast_of_text(np.clip(written + noise, 0, 255).astype(np.uint8), covers) > 1.7
    assert contrast_of_text(np.clip(crop + noise, 0, 255).astype(np.uint8), covers) < 0.5
    assert contrast_of_text(np.where(ink[..., None] > 128, 106, crop).astype(np.uint8), covers) < 1, "too faint to read"


def test_unreadable_words_are_painted_again(monkeypatch: pytest.MonkeyPatch, choice: FontChoice) -> None:
    def dark(image: np.ndarray, random: Random) -> None:
        image *= 0

    monkeypatch.setattr(street.street_effects, "light", dark)
    renderer = StreetRenderer(choice.fonts, seed=6)
    assert min(renderer.render(index).image.std() for index in range(20)) > 2, "a label of a black picture"


def test_capitals_stay_large_enough(choice: FontChoice) -> None:
    word, random = set_word("Internationalisation", choice.fonts[0], Setting(), Random(0)), Random(4)
    scales = [place(word, draw_warp(random), random.uniform(13, 58), (0.1, 0.1, 0.1, 0.1)).scale for _ in range(300)]
    assert min(scales) > 0.75 * street.LEAST_CAP
    assert np.mean([scale < street.LEAST_CAP for scale in scales]) < 0.05


def test_words_are_those_of_the_street() -> None:
    sampler, random = StreetSampler("train"), Random(3)
    labels = [sampler.draw(random) for _ in range(4000)]
    letters = [label for label in labels if label.isalpha()]
    assert 0.45 < np.mean([label.isupper() for label in letters]) < 0.65
    assert 0.1 < np.mean([not label.isalnum() for label in labels]) < 0.25
    assert 4 <= np.median([len(label) for label in labels]) <= 6
    known = set(sampler.words)
    assert 0.05 < np.mean([label.lower() not in known for label in letters]) < 0.3, "words of other languages, codes"
    held_out = StreetSampler("test")
    assert not {held_out.draw(random).lower() for _ in range(300)} & {label.lower() for label in labels}


def test_languages_asked_for_stay_alone() -> None:
    sampler, random = StreetSampler("all", languages=("de",)), Random(3)
    assert sampler.languages == ("de",)
    known = set(sampler.words)
    letters = [label.lower() for label in (sampler.draw(random) for _ in range(600)) if label.isalpha()]
    assert np.mean([label in known for label in letters]) > 0.85


def test_the_request_names_the_style() -> None:
    renderer, _ = RenderRequest(4, "train", system_fonts=False, style="street").build_renderer()
    assert isinstance(renderer, StreetRenderer)


def test_scenes_are_repeated_by_seed() -> None:
    one, other = SceneBank(count=3), SceneBank(count=3)
    assert all(np.array_equal(a, b) for a, b in zip(one.scenes, other.scenes, strict=True))
    piece = one.cut(480, 64, Random(0))
    assert piece.shape == (3, 64, 480)
    assert piece.std() > 1
