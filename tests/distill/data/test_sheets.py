"""Sheets of words to look through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.sheets import (
    CELL,
    HEADING,
    INK,
    LINE,
    RIGHT,
    WRONG,
    Line,
    SheetItem,
    draw_sections,
    draw_sheet,
    reading_line,
    write_sheet,
)  # fmt: skip


def item(*lines: Line) -> SheetItem:
    return SheetItem(np.full((20, 60, 3), 128, np.uint8), lines)


def test_read_words_are_green_and_misread_red() -> None:
    assert reading_line("cat", 0.5, "cat") == ("cat  0.50", RIGHT)
    assert reading_line("", 0.25, "cat") == ("(nothing)  0.25", WRONG)
    assert reading_line("cat", 0.5, None) == ("cat  0.50", INK), "of a picture without a label"


def test_words_stand_in_a_grid() -> None:
    picture = draw_sheet([item(("cat", RIGHT)), item(("dot", WRONG)), item(("w" * 99, INK))], columns=2)
    assert picture.shape == (2 * CELL[1], 2 * CELL[0], 3)
    assert picture.dtype == np.uint8
    left, right = picture[: CELL[1], : CELL[0]], picture[: CELL[1], CELL[0] :]
    assert (left == RIGHT).all(axis=-1).any()
    assert not (left == WRONG).all(axis=-1).any()
    assert (right == WRONG).all(axis=-1).any()


def test_lines_stand_below_each_other_and_sections_below_headings() -> None:
    each = item(("cat", INK), ("cat  0.50", RIGHT), ("(nothing)  0.25", WRONG))
    sheet = draw_sections([("only a", [each] * 3), ("only b", [])], columns=2)
    assert sheet.shape == (2 * (HEADING + CELL[1]) + LINE + CELL[1] + LINE, 2 * CELL[0], 3)
    cell = sheet[HEADING : HEADING + CELL[1] + LINE, : CELL[0]]
    for colour in (INK, RIGHT, WRONG):
        assert (cell == colour).all(axis=-1).any()
    assert (sheet[:HEADING] == INK).all(axis=-1).any()
    long = draw_sections([("w" * 999, [])], columns=1)
    assert long.shape == (HEADING + CELL[1], CELL[0], 3)


def test_a_sheet_is_one_file(tmp_path: Path) -> None:
    assert draw_sheet([]).shape == (CELL[1], CELL[0], 3)
    write_sheet(tmp_path / "words.png", [("", [item(("cat", INK))])], title="Words")
    with Image.open(tmp_path / "words.png") as stored:
        assert (stored.size, stored.info["Title"]) == (CELL, "Words")
    assert [file.name for file in tmp_path.iterdir()] == ["words.png"]


@pytest.mark.parametrize("letters", ["éö", "жя", "λπ", "ßÑ"])
def test_letters_of_other_alphabets_can_be_told_apart(letters: str) -> None:
    one, other = (draw_sheet([item((letter, INK))]) for letter in letters)
    assert not np.array_equal(one, other)
