from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from distill.evaluation.gallery import (
    CELL,
    HEADING,
    INK,
    LINE,
    RIGHT,
    WRONG,
    AgreementItem,
    GalleryItem,
    choose,
    draw_gallery,
    draw_sheet,
    pick,
    to_pixels,
    write_sheet,
)


def item(label: str, read: str, confidence: float = 0.5) -> GalleryItem:
    return GalleryItem(np.full((20, 60, 3), 128, np.uint8), label, read, confidence)


def test_pixels_come_back() -> None:
    pixels = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(3, 4, 5)
    normalised = (pixels.float() / 255 - 0.5) / 0.5
    assert np.array_equal(to_pixels(normalised), pixels.permute(1, 2, 0).numpy())


def test_sure_misreadings_come_first() -> None:
    assert choose([True, False, True, False, False], [0.9, 0.2, 0.9, 0.8, 0.5], 4) == [3, 4, 0, 2]
    assert choose([False] * 5, [0.1, 0.2, 0.3, 0.4, 0.5], 4) == [4, 3, 2, 1]
    assert choose([True] * 6, [0.5] * 6, 3) == [0, 2, 4]
    assert choose([], [], 3) == []
    assert [each.label for each in pick([item("a", "a"), item("b", "x")], 2)] == ["b", "a"]


def test_read_words_are_green_and_misread_red() -> None:
    picture = draw_gallery([item("cat", "cat"), item("dog", "dot"), item("w" * 99, "")], columns=2)
    assert picture.shape == (2 * CELL[1], 2 * CELL[0], 3)
    assert picture.dtype == np.uint8
    left, right = picture[: CELL[1], : CELL[0]], picture[: CELL[1], CELL[0] :]
    assert (left == RIGHT).all(axis=-1).any()
    assert not (left == WRONG).all(axis=-1).any()
    assert (right == WRONG).all(axis=-1).any()


def test_an_empty_gallery_is_a_picture_too(tmp_path: Path) -> None:
    assert draw_gallery([]).shape == (CELL[1], CELL[0], 3)
    write_sheet(tmp_path / "words.png", [("", [item("cat", "cat")])])
    with Image.open(tmp_path / "words.png") as stored:
        assert stored.size == CELL
    assert [file.name for file in tmp_path.iterdir()] == ["words.png"]


def test_what_two_read_stands_below_the_label() -> None:
    grey = np.full((20, 60, 3), 128, np.uint8)
    first = AgreementItem(grey, "cat", (("cat", 0.5), ("", 0.25)))
    assert first.lines == [("cat", INK), ("cat  0.50", RIGHT), ("(nothing)  0.25", WRONG)]
    sheet = draw_sheet([("only a", [first] * 3), ("only b", [])], columns=2)
    assert sheet.shape == (2 * (HEADING + CELL[1]) + LINE + CELL[1] + LINE, 2 * CELL[0], 3)
    cell = sheet[HEADING : HEADING + CELL[1] + LINE, : CELL[0]]
    for colour in (INK, RIGHT, WRONG):
        assert (cell == colour).all(axis=-1).any()
    assert (sheet[:HEADING] == INK).all(axis=-1).any()
    long = draw_sheet([("w" * 999, [])], columns=1)
    assert long.shape == (HEADING + CELL[1], CELL[0], 3)
