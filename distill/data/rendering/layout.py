"""Set a word: glyphs pasted one by one, with neighbouring lines, outline, shadow and the board it stands on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random

import cv2
import numpy as np

from distill.data.rendering.atlas import CAP_HEIGHT, FontAtlas, Glyph

PAD = 22  # room around the ink for neighbours, outline and shadow, in atlas pixels
INK, RIM, SHADE, BOARD = range(4)


@dataclass(frozen=True)
class Setting:
    """How a word is set; drawn once a word by `draw_setting`.

    Attributes:
        spacing: added to every advance, in atlas pixels.
        jitter: standard deviation of the baseline, in atlas pixels.
        stroke: steps of dilation (positive) or erosion (negative).
        rim: width of the outline, 0 for none.
        hollow: whether only the outline is inked.
        shadow: offset (x, y) of the shadow, or None.
        extrude: whether the shadow is swept from the letter to its offset.
        shadow_blur: whether the shadow is soft.
        neighbours: which sides show parts of other text, of "above", "below", "left", "right".
        underline: whether a line runs below.
        board: distances of the board's edges from the ink (left, top, right, bottom), or None.
        pad: room around the ink for neighbours, outline and shadow, in atlas pixels.
        initial: size of the first character, relative to the others.
        tiles: whether every character stands on a board of its own.
        dots: distance of the lamps of a display, in atlas pixels; 0 for strokes without gaps.
        apart: further distance of the neighbours beside the word, in atlas pixels.
    """

    spacing: float = 0.0
    jitter: float = 0.0
    stroke: int = 0
    rim: int = 0
    hollow: bool = False
    shadow: tuple[int, int] | None = None
    extrude: bool = False
    shadow_blur: bool = False
    neighbours: frozenset[str] = frozenset()
    underline: bool = False
    board: tuple[int, int, int, int] | None = None
    pad: int = PAD
    initial: float = 1.0
    tiles: bool = False
    dots: int = 0
    apart: int = 0


@dataclass(frozen=True)
class SetWord:
    """A word as layers, before it's warped.

    Attributes:
        layers: (h, w, 4) uint8: ink, outline, shadow, board.
        box: left, top, right, bottom of the word's own ink.
        spans: left and right edge of every character's glyph.
        middles: y of every character's middle.
    """

    layers: np.ndarray
    box: tuple[int, int, int, int]
    spans: list[tuple[int, int]]
    middles: list[float]


def draw_setting(random: Random) -> Setting:
    """Draw how a word is set: mostly plain, sometimes spaced, outlined, shadowed, on a board, between other lines."""
    dice = random.random
    spread, stroke_dice = dice(), dice()
    wide = random.uniform(1, 5) if spread < 0.92 else random.uniform(5, 16)
    stroke = 0 if stroke_dice < 0.64 else 1 if stroke_dice < 0.9 else 2 if stroke_dice < 0.97 else -1
    rim = random.choice((1, 1, 2, 3)) if dice() < 0.12 else 0
    shadow = None
    if dice() < 0.15:
        reach = random.choice((1, 1, 2, 2, 3, 4))
        shadow = (random.choice((-reach, reach, reach, 0)), random.choice((-reach, reach, reach)))
    sides = (("above", 0.13), ("below", 0.14), ("left", 0.1), ("right", 0.1))
    neighbours = frozenset(side for side, share in sides if dice() < share)
    board = None
    if dice() < 0.2:
        board = (random.randint(2, 20), random.randint(2, 20), random.randint(2, 20), random.randint(2, 20))
    return Setting(
        spacing=random.gauss(0.3, 0.7) if spread < 0.72 else wide,
        jitter=0.0 if dice() < 0.85 else random.uniform(0.3, 2.0),
        stroke=stroke,
        rim=rim,
        hollow=rim > 0 and dice() < 0.12,
        shadow=shadow,
        extrude=dice() < 0.3,
        shadow_blur=dice() < 0.5,
        neighbours=neighbours,
        underline=dice() < 0.03,
        board=board,
    )


def set_word(text: str, font: FontAtlas, setting: Setting, random: Random, filler: str = "") -> SetWord:
    """Paste a word's glyphs, its neighbours and what surrounds them.

    Args:
        text: the label; the font has all its characters.
        font: the glyphs.
        setting: see `Setting`.
        random: for baseline jitter and the neighbours' positions.
        filler: text that the neighbouring lines are made of, in characters of the font.
    """
    glyphs = _position_glyphs(text, font, setting, random)
    left = min(x for x, _, _ in glyphs)
    top = min(y for _, y, _ in glyphs)
    width = max(x + g.ink.shape[1] for x, _, g in glyphs) - left
    height = max(y + g.ink.shape[0] for _, y, g in glyphs) - top
    pad = setting.pad
    layers = np.zeros((height + 2 * pad, width + 2 * pad, 4), np.uint8)
    ink = np.zeros(layers.shape[:2], np.uint8)
    spans, middles = [], []
    for x, y, glyph in glyphs:
        column, row = x - left + pad, y - top + pad
        h, w = glyph.ink.shape
        part = ink[row : row + h, column : column + w]
        np.maximum(part, glyph.ink, out=part)
        spans.append((column, column + w))
        middles.append(row + h / 2)
    box = (pad, pad, pad + width, pad + height)
    if setting.neighbours and filler:
        _add_neighbours(ink, box, font, filler, setting, random)
    if setting.underline:
        row = min(ink.shape[0] - 4, box[3] + random.randint(1, 6))
        ink[row : row + random.randint(1, 3), pad - 4 : -pad + 4] = 255
    if setting.dots:
        ink = cv2.bitwise_and(ink, _lamps(ink.shape[0], ink.shape[1], setting.dots))
    _add_layers(layers, ink, setting)
    if setting.board is not None:
        sides = [max(0, pad - distance) for distance in setting.board]
        layers[sides[1] : layers.shape[0] - sides[3], sides[0] : layers.shape[1] - sides[2], BOARD] = 255
    if setting.tiles:
        for start, end in spans:
            layers[box[1] - 4 : box[3] + 4, start - 3 : end + 3, BOARD] = 255
    return SetWord(layers, box, spans, middles)


def _position_glyphs(text: str, font: FontAtlas, setting: Setting, random: Random) -> list[tuple[int, int, Glyph]]:
    glyphs = []
    pen = 0.0
    for number, character in enumerate(text):
        glyph = font.glyphs[character]
        if number == 0 and setting.initial != 1.0:
            glyph = _scaled(glyph, setting.initial)
        lift = random.gauss(0, setting.jitter) if setting.jitter else 0.0
        glyphs.append((round(pen + glyph.left), round(glyph.top + lift), glyph))
        pen += max(2.0, glyph.advance + setting.spacing)
    return glyphs


def _scaled(glyph: Glyph, factor: float) -> Glyph:
    ink = np.asarray(cv2.resize(glyph.ink, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR), np.uint8)
    return Glyph(ink, round(glyph.left * factor), round(glyph.top * factor), glyph.advance * factor)


@lru_cache(maxsize=64)
def _lamp(pitch: int) -> np.ndarray:
    """Draw one lamp of a display: (pitch, pitch) uint8."""
    lamp = np.zeros((pitch, pitch), np.uint8)
    cv2.circle(lamp, (pitch // 2, pitch // 2), max(1, round(pitch * 0.4)), 255, -1, cv2.LINE_AA)
    lamp.setflags(write=False)
    return lamp


def _lamps(height: int, width: int, pitch: int) -> np.ndarray:
    """Cover (height, width) with lamps."""
    return np.tile(_lamp(pitch), (-(-height // pitch), -(-width // pitch)))[:height, :width]


def _add_neighbours(
    ink: np.ndarray, box: tuple[int, int, int, int], font: FontAtlas, filler: str, setting: Setting, random: Random
) -> None:
    """Paste parts of other words beside the word, as crops of real pictures have them."""
    gap = random.randint(5, 12)
    size = random.uniform(0.5, 1.0)
    if "above" in setting.neighbours:
        _paste_line(ink, font, filler, random.randint(-60, setting.pad), box[1] - gap, size)
    if "below" in setting.neighbours:
        baseline = box[3] + gap + int(CAP_HEIGHT * size)
        _paste_line(ink, font, filler, random.randint(-60, setting.pad), baseline, size)
    baseline = box[3] - 2
    if "left" in setting.neighbours:
        end = box[0] - random.randint(7, 14) - setting.apart
        _paste_line(ink, font, filler[:1], end - int(font.glyphs[filler[0]].advance), baseline, 1.0)
    if "right" in setting.neighbours:
        _paste_line(ink, font, filler[-1:], box[2] + random.randint(7, 14) + setting.apart, baseline, 1.0)


def _paste_line(ink: np.ndarray, font: FontAtlas, text: str, pen: float, baseline: int, size: float) -> None:
    """Paste text that may stick out of the canvas; `size` scales it."""
    rows, columns = ink.shape
    while pen < columns:
        for character in text:
            glyph = font.glyphs[character]
            part: np.ndarray = glyph.ink
            if size <= 0.9:
                part = cv2.resize(part, None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
            x, y = round(pen + glyph.left * size), round(baseline + glyph.top * size)
            x0, y0 = max(0, x), max(0, y)
            x1, y1 = min(columns, x + part.shape[1]), min(rows, y + part.shape[0])
            if x1 > x0 and y1 > y0:
                spot = ink[y0:y1, x0:x1]
                np.maximum(spot, part[y0 - y : y1 - y, x0 - x : x1 - x], out=spot)
            pen += max(2.0, glyph.advance * size)
        if len(text) < 2:
            return
        pen += 9 * size


@lru_cache(maxsize=16)
def _disc(radius: int) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    kernel.setflags(write=False)
    return kernel


def _add_layers(layers: np.ndarray, ink: np.ndarray, setting: Setting) -> None:
    """Derive outline and shadow from the ink, and write all three into the layers."""
    if setting.stroke > 0:
        ink = cv2.dilate(ink, _CROSS if setting.stroke == 1 else _disc(1))
    elif setting.stroke < 0:
        ink = cv2.addWeighted(cv2.erode(ink, _CROSS), 0.6, ink, 0.4, 0)
    if setting.rim:
        rim = cv2.dilate(ink, _disc(setting.rim))
        layers[..., RIM] = rim
        if setting.hollow:
            ink = rim - np.minimum(ink, rim)
    layers[..., INK] = ink
    if setting.shadow is not None:
        layers[..., SHADE] = _shadow(np.maximum(ink, layers[..., RIM]) if setting.rim else ink, setting)


_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def _shadow(ink: np.ndarray, setting: Setting) -> np.ndarray:
    dx, dy = setting.shadow or (0, 0)
    steps = range(1, max(abs(dx), abs(dy)) + 1) if setting.extrude else range(1, 2)
    count = len(steps)
    shade = np.zeros_like(ink)
    for step in steps:
        x, y = round(dx * step / count), round(dy * step / count)
        moved = np.roll(ink, (y, x), axis=(0, 1))  # the pad is wider than any offset
        np.maximum(shade, moved, out=shade)
    return cv2.GaussianBlur(shade, (0, 0), 1.5) if setting.shadow_blur and not setting.extrude else shade
