"""Draw every character of a font once, at one size (cap height 26 px), ready to be pasted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

CAP_HEIGHT = 26
_PROBE_SIZE = 64
_MAX_SIDE = 160  # a glyph wider or taller than six capitals is an ornament


@dataclass(frozen=True)
class Glyph:
    """One drawn character.

    Attributes:
        ink: coverage (h, w) uint8, cut to what is drawn.
        left: x of the cut's left edge, from the pen position.
        top: y of the cut's upper edge, from the baseline (negative is above).
        advance: how far the pen moves on.
    """

    ink: np.ndarray
    left: int
    top: int
    advance: float


@dataclass(frozen=True)
class FontAtlas:
    """The glyphs of one font.

    Attributes:
        path: the font file.
        family: the name that hold-out goes by (`fonts.family_key`).
        name: family and style as the file has them.
        glyphs: character to glyph.
        caseless: small letters look like capitals, so that only upper-case labels are true.
        weight: how often to use it, relative to others (typical letter shapes more often).
    """

    path: str
    family: str
    name: str
    glyphs: dict[str, Glyph]
    caseless: bool = False
    weight: float = 1.0

    def draws(self, text: str) -> bool:
        """Whether every character of a label is there."""
        return all(c in self.glyphs for c in text)


class UnusableFontError(Exception):
    """The font can't serve; the message says why, in a few words."""


def load_face(path: str | Path, size: int) -> ImageFont.FreeTypeFont:
    """Open a font at a size in pixels.

    Raises:
        UnusableFontError: if FreeType can't.
    """
    try:
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except (OSError, ValueError) as error:
        raise UnusableFontError(f"does not open ({error})") from error


def draw_glyph(face: ImageFont.FreeTypeFont, character: str) -> Glyph | None:
    """Draw one character; None where it is empty or far too large. The space is as wide as it moves the pen."""
    if character == " ":
        advance = face.getlength(character)
        return Glyph(np.zeros((CAP_HEIGHT, max(4, round(advance))), np.uint8), 0, -CAP_HEIGHT, advance)
    left, top, right, bottom = face.getbbox(character, anchor="ls")
    if not (0 < right - left <= _MAX_SIDE and 0 < bottom - top <= _MAX_SIDE):
        return None
    mask = face.getmask(character, mode="L", anchor="ls")
    if mask.size[0] == 0 or mask.size[1] == 0 or mask.size[0] > 2 * _MAX_SIDE or mask.size[1] > 2 * _MAX_SIDE:
        return None
    ink = np.asarray(Image.Image()._new(mask))  # ImagingCore to array without a copy through bytes
    rows, columns = np.flatnonzero(ink.max(axis=1) > 8), np.flatnonzero(ink.max(axis=0) > 8)
    if len(rows) == 0:
        return None
    cut = np.ascontiguousarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return Glyph(cut, round(left) + int(columns[0]), round(top) + int(rows[0]), face.getlength(character))


def draw_glyphs(path: str | Path, characters: Iterable[str]) -> dict[str, Glyph]:
    """Draw characters at the size that makes capitals 26 px high; those that draw nothing are left out.

    Raises:
        UnusableFontError: if the font doesn't open, has no `H`, or FreeType fails on a glyph.
    """
    probe = load_face(path, _PROBE_SIZE)
    try:
        _, top, _, bottom = probe.getbbox("H", anchor="ls")
        height = bottom - top
        if not 8 <= height <= 4 * _PROBE_SIZE:
            raise UnusableFontError("capitals have no sensible height")
        face = load_face(path, max(8, round(_PROBE_SIZE * CAP_HEIGHT / height)))
        drawn = {c: draw_glyph(face, c) for c in characters}
    except (OSError, ValueError, MemoryError) as error:
        raise UnusableFontError(f"does not draw ({error})") from error
    return {c: glyph for c, glyph in drawn.items() if glyph is not None}
