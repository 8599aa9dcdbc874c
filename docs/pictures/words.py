"""Words as the renderer draws them for `configs/tiny.yaml`, each at three difficulties.

Only fonts are used that come with the extra `render` and with matplotlib, so the sheet is the same everywhere.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from distill.data.rendering.fonts import matplotlib_fonts
from distill.data.rendering.render_set import RenderRequest
from distill.evaluation.page.svg import INK, MUTED
from students.files import replacing

REQUEST = RenderRequest(words=12, split="train", seed=3, system_fonts=False, style="street")
DIFFICULTIES = (0.0, 0.5, 1.0)
COLUMNS = 6
CELL, GAP, MARGIN, HEAD, LABEL = (150, 50), 8, 40, 22, 20
"""Size of a word's room, and between two; room for difficulties on the left, above, and for labels below a block."""
GROUND = "#f0f2f4"
"""Neither white nor black, as some of the words are."""
COLOURS = 192
"""Colours of the file: the fewer the smaller."""


def draw(folder: Path) -> list[Path]:
    """Write words.png into a folder."""
    file = folder / "words.png"
    with replacing(file) as beside:
        sheet().save(beside, format="PNG", optimize=True)
    return [file]


def sheet() -> Image.Image:
    """Render the words: blocks of a few words, in each a row a difficulty, and the labels below."""
    renderer, _ = REQUEST.build_renderer()
    across, down = CELL[0] + GAP, CELL[1] + GAP
    block = len(DIFFICULTIES) * down + LABEL
    page = Image.new("RGB", (MARGIN + COLUMNS * across, HEAD + REQUEST.words // COLUMNS * block), GROUND)
    pen = ImageDraw.Draw(page)
    pen.font = ImageFont.truetype(str(matplotlib_fonts() / "DejaVuSans.ttf"), 12)
    pen.text((4, 4), "difficulty", MUTED)
    for index in range(REQUEST.words):
        left, top = MARGIN + index % COLUMNS * across, HEAD + index // COLUMNS * block
        for row, renderer.difficulty in enumerate(DIFFICULTIES):
            word = renderer.render(index)
            crop = Image.fromarray(word.image)
            scale = min(CELL[0] / crop.width, CELL[1] / crop.height)
            size = max(1, round(crop.width * scale)), max(1, round(crop.height * scale))
            crop = crop.resize(size, Image.Resampling.BILINEAR)
            page.paste(crop, (left, top + row * down + (CELL[1] - size[1]) // 2))
            if index % COLUMNS == 0:
                pen.text((8, top + row * down + CELL[1] // 2 - 7), f"{renderer.difficulty:g}", INK)
        pen.text((left, top + len(DIFFICULTIES) * down - 4), word.label, MUTED)
    return page.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
