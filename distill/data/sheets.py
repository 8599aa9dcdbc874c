"""Draw words in a grid, each above a few lines of text, as one picture to look through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from distill.data.records import BadRecordError, Records, decode_record
from distill.data.rendering.fonts import matplotlib_fonts
from students.files import replacing

CELL = (176, 84)
"""Width and height of a word with two lines of text, pixels."""
MARGIN = 4
"""Pixels around a word's picture."""
PICTURE_HEIGHT = 42
"""Largest height of a word's picture, pixels."""
LINE, HEADING = 16, 28
"""Height of a line of text and of a heading, pixels."""
RIGHT, WRONG, INK = (20, 120, 50), (190, 30, 30), (40, 40, 40)
"""Colours of a reading that is right, of one that is wrong, and of all else."""
Line = tuple[str, tuple[int, int, int]]
"""A line of text and its colour."""


@dataclass(frozen=True)
class SheetItem:
    """One word of a sheet."""

    image: np.ndarray
    """(H, W, 3) uint8."""
    lines: Sequence[Line]
    """The lines of text below the picture."""


def record_item(records: Records, position: int, lines: Sequence[Line]) -> SheetItem:
    """Show a stored word; a damaged picture is grey."""
    try:
        return SheetItem(np.asarray(decode_record(records, position)), lines)
    except BadRecordError:
        return SheetItem(np.full((32, 128, 3), 128, np.uint8), lines)


def reading_line(text: str, confidence: float, label: str | None) -> Line:
    """Write what was read of a word: green where it is the label, red where it isn't, dark where there is none."""
    return f"{text or '(nothing)'}  {confidence:.2f}", INK if label is None else RIGHT if text == label else WRONG


def draw_sheet(items: Sequence[SheetItem], columns: int = 6, width: int = CELL[0]) -> np.ndarray:
    """Draw words in a grid: (H, W, 3) uint8; one empty cell when there are none."""
    return draw_sections([("", items)], columns, width)


def draw_sections(
    sections: Sequence[tuple[str, Sequence[SheetItem]]], columns: int = 6, width: int = CELL[0]
) -> np.ndarray:
    """Draw several grids below each other, each under its heading where it has one: (H, W, 3) uint8.

    Args:
        sections: heading and words of each.
        columns: cells beside each other, fewer where no section has as many and none has a heading.
        width: width of a cell in pixels.
    """
    if not any(heading for heading, _ in sections):
        columns = max(1, min(columns, max((len(items) for _, items in sections), default=0)))
    drawn = [_draw_section(heading, items, columns, width) for heading, items in sections]
    canvas = Image.new("RGB", (columns * width, sum(each.height for each in drawn)), "white")
    top = 0
    for each in drawn:
        canvas.paste(each, (0, top))
        top += each.height
    return np.asarray(canvas)


def write_sheet(
    path: Path, sections: Sequence[tuple[str, Sequence[SheetItem]]], columns: int = 6, width: int = CELL[0],
    title: str = "",
) -> None:  # fmt: skip
    """Write grids as one PNG, which appears whole or not at all; see `draw_sections`. The file gets the title."""
    info = PngInfo()
    info.add_text("Title", title)
    with replacing(path) as beside:
        Image.fromarray(draw_sections(sections, columns, width)).save(beside, format="PNG", pnginfo=info)


@lru_cache(maxsize=8)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans, which has Latin, Greek, Cyrillic, Arabic and more; Pillow's own font has ASCII alone."""
    return ImageFont.truetype(str(matplotlib_fonts() / "DejaVuSans.ttf"), size)


def _draw_section(heading: str, items: Sequence[SheetItem], columns: int, width: int) -> Image.Image:
    height = CELL[1] + LINE * max(0, max((len(item.lines) for item in items), default=0) - 2)
    above = HEADING if heading else 0
    canvas = Image.new("RGB", (columns * width, above + height * max(1, -(-len(items) // columns))), "white")
    draw, large = ImageDraw.Draw(canvas), load_font(14)
    draw.text((MARGIN, 6), _shorten(draw, heading, large, canvas.width - 2 * MARGIN), fill=INK, font=large)
    for number, item in enumerate(items):
        row, column = divmod(number, columns)
        _draw_item(canvas, (column * width + MARGIN, above + row * height + MARGIN), item, width - 2 * MARGIN)
    return canvas


def _draw_item(canvas: Image.Image, corner: tuple[int, int], item: SheetItem, width: int) -> None:
    left, top = corner
    picture = Image.fromarray(item.image)
    scale = min(width / picture.width, PICTURE_HEIGHT / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    canvas.paste(picture.resize(size, Image.Resampling.BICUBIC), (left, top))
    draw, font = ImageDraw.Draw(canvas), load_font(12)
    for number, (text, colour) in enumerate(item.lines):
        below = top + PICTURE_HEIGHT + 1 + LINE * number
        draw.text((left, below), _shorten(draw, text, font, width), fill=colour, font=font)


def _shorten(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Cut a text to a width in pixels, with three dots where it was cut; line ends become spaces."""
    text = " ".join(text.splitlines())
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text + "..."
