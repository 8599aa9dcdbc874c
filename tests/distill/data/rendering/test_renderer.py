"""Rendered words: repeatable, readable in shape, with each character where the columns say; and the command."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from random import Random

import cv2
import lmdb
import numpy as np
import pytest

from distill.commands.render_words import main
from distill.data.fonts import FontChoice, choose_fonts
from distill.data.rendered import RenderedWords
from distill.data.rendering.colours import draw_palette
from distill.data.rendering.layout import Setting, set_word
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
        assert word.columns.dtype == np.uint8
        assert set(map(chr, word.columns[word.columns > 0])) <= set(word.label)
        assert word.image.std() > 1.0
        assert 40 <= word.quality <= 95


def test_columns_read_the_word(renderer: WordRenderer) -> None:
    read = 0
    for index in range(200):
        word = renderer.render(index)
        seen = [chr(c) for c in word.columns]
        kept = "".join(c for c, before in zip(seen, ["", *seen[:-1]], strict=True) if c != "\0" and c != before)
        target = "".join(c for c, before in zip(word.label, " " + word.label, strict=False) if c != before)
        read += kept.replace("\0", "") == target
    assert read > 120  # long words, steep ones and full stops have no column of their own


def test_warp_and_its_inverse_agree(choice: FontChoice) -> None:
    word = set_word("Renderer", choice.fonts[0], Setting(), Random(0))
    random = Random(1)
    u, v = (a.astype(np.float32) for a in np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-0.5, 0.5, 5)))
    for _ in range(100):
        place = Placement(word, draw_warp(random), 20, (0.1, 0.1, 0.1, 0.1))
        back = place._backward(*place._forward(u, v))
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


def test_dataset_on_the_fly(choice: FontChoice) -> None:
    words = RenderedWords(choice.fonts, words=60, seed=1, split="test")
    image, label, columns = words[3]
    assert image.ndim == 3
    assert columns.shape == (32,)
    assert words[3][1] == label
    assert len(words) == 60
    assert len({words[index][1].lower() for index in range(60)}) == 60
    with pytest.raises(IndexError):
        words[60]


def test_command_writes_the_same_words_with_any_workers(tmp_path: Path) -> None:
    common = ["--words", "130", "--seed", "4", "--no-system-fonts", "--max-fonts", "6"]
    assert main([*common, "--out", str(tmp_path / "one"), "--workers", "1", "--sheet", str(tmp_path / "a.png")]) == 0
    assert main([*common, "--out", str(tmp_path / "two"), "--workers", "2"]) == 0
    first, second = _records(tmp_path / "one"), _records(tmp_path / "two")
    assert first == second
    assert first[b"num-samples"] == b"130"
    assert len(first) == 3 * 130 + 1
    image = cv2.imdecode(np.frombuffer(first[b"image-000000130"], np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert len(first[b"columns-000000001"]) == 32
    recipe = json.loads((tmp_path / "one" / "recipe.json").read_text())
    assert recipe["seed"] == 4
    assert recipe["split"] == "train"
    assert recipe["families"]
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_command_refuses_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 2
    assert main([]) == 2
    assert main(["--out", str(tmp_path / "x"), "--words", "0"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert "--overwrite" in lines[0]
    assert not (tmp_path / "x").exists()


def _records(folder: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return dict(transaction.cursor())
