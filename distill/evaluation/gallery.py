"""Gallery: a grid of words with what was read of them, green when right and red when wrong, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from students.files import replacing

CELL = (176, 84)
"""Width and height of a word with its two lines of text, pixels."""
PICTURE = (168, 42)
"""Largest width and height of the word's picture, pixels."""
RIGHT, WRONG, INK = (20, 120, 50), (190, 30, 30), (40, 40, 40)


@dataclass(frozen=True)
class GalleryItem:
    """One word of a gallery."""

    image: np.ndarray
    """(H, W, 3) uint8."""
    label: str
    """What it says."""
    prediction: str
    """What was read."""
    confidence: float
    """How sure the reader was, 0 to 1."""

    @property
    def right(self) -> bool:
        """Whether it was read exactly."""
        return self.label == self.prediction


def to_pixels(image: Tensor) -> np.ndarray:
    """Turn a normalised (3, H, W) input back into (H, W, 3) uint8 pixels."""
    pixels = (image.detach().float().cpu() * 0.5 + 0.5).clamp(0, 1) * 255
    return pixels.round().byte().permute(1, 2, 0).numpy()


def choose(right: Sequence[bool], confidences: Sequence[float], count: int) -> list[int]:
    """Choose words to show: half of `count` misread, the surest first, and words that were read, spread evenly."""
    wrong = sorted((place for place, hit in enumerate(right) if not hit), key=lambda place: -confidences[place])
    read = [place for place, hit in enumerate(right) if hit]
    shown = wrong[: max(count // 2, count - len(read))]
    rest = min(count - len(shown), len(read))
    return [*shown, *(read[step * len(read) // rest] for step in range(rest))]


def pick(items: Sequence[GalleryItem], count: int) -> list[GalleryItem]:
    """Pick items to show, see `choose`."""
    return [
        items[place] for place in choose([item.right for item in items], [item.confidence for item in items], count)
    ]


def draw_gallery(items: Sequence[GalleryItem], columns: int = 6) -> np.ndarray:
    """Draw words in a grid: (H, W, 3) uint8; one empty cell when there are none."""
    columns = max(1, min(columns, len(items)))
    rows = max(1, -(-len(items) // columns))
    canvas = Image.new("RGB", (columns * CELL[0], rows * CELL[1]), "white")
    font = ImageFont.load_default(size=13)
    for number, item in enumerate(items):
        row, column = divmod(number, columns)
        draw_item(canvas, (column * CELL[0], row * CELL[1]), item, font)
    return np.asarray(canvas)


def draw_item(
    canvas: Image.Image, corner: tuple[int, int], item: GalleryItem, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    """Draw one word: its picture, what was read, and below the label when that differs."""
    left, top = corner[0] + (CELL[0] - PICTURE[0]) // 2, corner[1] + 4
    picture = Image.fromarray(item.image)
    scale = min(PICTURE[0] / picture.width, PICTURE[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    canvas.paste(picture.resize(size, Image.Resampling.BICUBIC), (left, top))
    draw = ImageDraw.Draw(canvas)
    said = f"{item.prediction or '(nothing)'}  {item.confidence:.2f}"
    draw.text((left, top + PICTURE[1] + 1), fitting(draw, said, font), fill=RIGHT if item.right else WRONG, font=font)
    if not item.right:
        draw.text((left, top + PICTURE[1] + 17), fitting(draw, item.label, font), fill=INK, font=font)


def fitting(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cut a text to the width of a cell, with three dots where it was cut."""
    if draw.textlength(text, font=font) <= PICTURE[0]:
        return text
    while text and draw.textlength(text + "...", font=font) > PICTURE[0]:
        text = text[:-1]
    return text + "..."


def write_gallery(path: Path, items: Sequence[GalleryItem], columns: int = 6) -> None:
    """Write a gallery as PNG, beside its place and renamed."""
    with replacing(path) as beside:
        Image.fromarray(draw_gallery(items, columns)).save(beside, format="PNG")
