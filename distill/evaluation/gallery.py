"""Gallery: a grid of words with what was read of them, green when right and red when wrong, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from students.files import replacing

CELL = (176, 84)
"""Width and height of a word with two lines of text, pixels."""
PICTURE = (168, 42)
"""Largest width and height of the word's picture, pixels."""
LINE, HEADING = 16, 28
"""Height of a line of text and of a heading, pixels."""
RIGHT, WRONG, INK = (20, 120, 50), (190, 30, 30), (40, 40, 40)
Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Cell(Protocol):
    """What a gallery shows of one word."""

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        ...

    @property
    def lines(self) -> list[tuple[str, Colour]]:
        """What stands below the picture."""
        ...


@dataclass(frozen=True)
class GalleryItem:
    """One word as one reader read it."""

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

    @property
    def lines(self) -> list[tuple[str, Colour]]:
        """What was read, and below the label when that differs."""
        said = (f"{self.prediction or '(nothing)'}  {self.confidence:.2f}", RIGHT if self.right else WRONG)
        return [said] if self.right else [said, (self.label, INK)]


@dataclass(frozen=True)
class AgreementItem:
    """One word as several readers read it."""

    image: np.ndarray
    """(H, W, 3) uint8."""
    label: str
    """What it says."""
    readings: tuple[tuple[str, float], ...]
    """What each read and how sure it was."""

    @property
    def lines(self) -> list[tuple[str, Colour]]:
        """The label, and what each read."""
        read = [
            (f"{prediction or '(nothing)'}  {confidence:.2f}", RIGHT if prediction == self.label else WRONG)
            for prediction, confidence in self.readings
        ]
        return [(self.label, INK), *read]


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


def draw_gallery(items: Sequence[Cell], columns: int = 6) -> np.ndarray:
    """Draw words in a grid: (H, W, 3) uint8; one empty cell when there are none."""
    return draw_sheet([("", items)], columns)


def draw_sheet(sections: Sequence[tuple[str, Sequence[Cell]]], columns: int = 6) -> np.ndarray:
    """Draw several grids below each other, each under its heading where it has one: (H, W, 3) uint8."""
    if not any(heading for heading, _ in sections):
        columns = max(1, min(columns, max((len(items) for _, items in sections), default=0)))
    drawn = [draw_section(heading, items, columns) for heading, items in sections]
    canvas = Image.new("RGB", (columns * CELL[0], sum(each.height for each in drawn)), "white")
    top = 0
    for each in drawn:
        canvas.paste(each, (0, top))
        top += each.height
    return np.asarray(canvas)


def draw_section(heading: str, items: Sequence[Cell], columns: int) -> Image.Image:
    """Draw a grid under its heading."""
    height = CELL[1] + LINE * max(0, max((len(item.lines) for item in items), default=0) - 2)
    above = HEADING if heading else 0
    canvas = Image.new("RGB", (columns * CELL[0], above + height * max(1, -(-len(items) // columns))), "white")
    draw, large, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15), ImageFont.load_default(size=13)
    draw.text((4, 6), fitting(draw, heading, large, canvas.width - 8), fill=INK, font=large)
    for number, item in enumerate(items):
        row, column = divmod(number, columns)
        draw_item(canvas, (column * CELL[0], above + row * height), item, font)
    return canvas


def draw_item(canvas: Image.Image, corner: tuple[int, int], item: Cell, font: Font) -> None:
    """Draw one word: its picture, and its lines below."""
    left, top = corner[0] + (CELL[0] - PICTURE[0]) // 2, corner[1] + 4
    picture = Image.fromarray(item.image)
    scale = min(PICTURE[0] / picture.width, PICTURE[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    canvas.paste(picture.resize(size, Image.Resampling.BICUBIC), (left, top))
    draw = ImageDraw.Draw(canvas)
    for number, (text, colour) in enumerate(item.lines):
        below = top + PICTURE[1] + 1 + LINE * number
        draw.text((left, below), fitting(draw, text, font, PICTURE[0]), fill=colour, font=font)


def fitting(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    """Cut a text to a width, with three dots where it was cut."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text + "..."


def write_sheet(path: Path, sections: Sequence[tuple[str, Sequence[Cell]]], columns: int = 6) -> None:
    """Write a sheet as PNG, beside its place and renamed; see `draw_sheet`."""
    with replacing(path) as beside:
        Image.fromarray(draw_sheet(sections, columns)).save(beside, format="PNG")
