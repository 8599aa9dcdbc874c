"""A sheet of word crops with their labels, to look at."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from distill.data.rendering.renderer import RenderedWord

CELL_WIDTH, CELL_HEIGHT, LABEL_HEIGHT = 160, 56, 14


def draw_sheet(words: Sequence[RenderedWord], columns: int = 10) -> Image.Image:
    """Draw crops in a grid, at one size, with their labels underneath."""
    rows = -(-len(words) // columns)
    sheet = Image.new("RGB", (columns * CELL_WIDTH, rows * (CELL_HEIGHT + LABEL_HEIGHT)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, word in enumerate(words):
        x, y = place % columns * CELL_WIDTH, place // columns * (CELL_HEIGHT + LABEL_HEIGHT)
        crop = Image.fromarray(word.image)
        scale = min((CELL_WIDTH - 6) / crop.width, (CELL_HEIGHT - 2) / crop.height)
        size = max(1, round(crop.width * scale)), max(1, round(crop.height * scale))
        sheet.paste(crop.resize(size, Image.Resampling.BILINEAR), (x, y))
        pen.text((x, y + CELL_HEIGHT), word.label, fill="black")
    return sheet
