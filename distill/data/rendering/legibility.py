"""Judge whether fonts are readable: their glyphs against the typical shape of each character over all fonts."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from distill.data.rendering.atlas import Glyph

PROBES = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SIDE = 16
_SAME_SHAPE = {"o": "0O", "O": "0o", "0": "Oo", "l": "I1|i", "I": "l1i", "1": "lIi", "i": "lI1"}
_TWO_SHAPES = "abdefghijlmnqrty"  # their capitals look different, so a font that repeats them has capitals only


@dataclass(frozen=True)
class Legibility:
    """How a font compares with the others.

    Attributes:
        read: share of its letters and digits whose nearest typical shape is the right character.
        likeness: mean correlation with the typical shape of the same character.
    """

    read: float
    likeness: float


def shape(glyph: Glyph) -> np.ndarray:
    """Normalise a glyph for comparison: stretched to 16 x 16, smoothed, zero mean, unit length; (256,) float32."""
    sharp = cv2.resize(glyph.ink, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(sharp, (0, 0), 1.0)
    # The proportions carry what stretching loses: `-` from `|`, `o` from `0`.
    height, width = glyph.ink.shape
    flat = np.append(small.ravel() - small.mean(), 0.0)
    flat[-1] = 0.25 * float(np.linalg.norm(flat)) * np.clip(np.log(height / width), -2, 2)
    return (flat / (float(np.linalg.norm(flat)) + 1e-6)).astype(np.float32)


def shapes(glyphs: Mapping[str, Glyph]) -> np.ndarray:
    """Stack the shapes of all probe characters: (62, 257)."""
    return np.stack([shape(glyphs[c]) for c in PROBES])


def repeats_capitals(shaped: np.ndarray) -> bool:
    """Whether small letters are drawn as (possibly smaller) capitals, from `shapes` (62, 257)."""
    pairs = [float(shaped[PROBES.index(c)] @ shaped[PROBES.index(c.upper())]) for c in _TWO_SHAPES]
    return float(np.median(pairs)) > 0.75


def distinct_shapes(shaped: np.ndarray) -> float:
    """Count the share of probe characters that don't look exactly like the one before (boxes do)."""
    neighbours = (shaped[1:] * shaped[:-1]).sum(axis=1)
    return float((neighbours < 0.995).mean())


def repeated_boxes(glyphs: Mapping[str, Glyph]) -> list[str]:
    """Find characters that are drawn as one and the same picture: boxes for what a font hasn't got.

    Up to three characters may share one, as the capital A of Latin, Greek and Cyrillic does.
    """
    same: dict[tuple[tuple[int, ...], bytes], list[str]] = {}
    for char, glyph in glyphs.items():
        same.setdefault((glyph.ink.shape, glyph.ink.tobytes()), []).append(char)
    return [char for chars in same.values() if len(chars) > 3 for char in chars]


def compare(
    fonts: Sequence[np.ndarray], caseless: Sequence[bool], slanted: Sequence[bool] | None = None
) -> list[Legibility]:
    """Compare each font (62, 257) with the median shape of every character over all fonts, or over the slanted ones.

    A small letter of a capitals-only font counts as its capital. With fewer than four slanted fonts there's one median.
    """
    slanted = slanted or [False] * len(fonts)
    groups = [[f for f, c, s in zip(fonts, caseless, slanted, strict=True) if not c and s == lean] for lean in (0, 1)]
    typical = [_typical(group) for group in groups if len(group) >= 4] or [_typical(fonts)]
    capitals = [i for i, c in enumerate(PROBES) if not c.islower()]
    results = []
    for font, plain in zip(fonts, caseless, strict=True):
        rows = capitals if plain else list(range(len(PROBES)))
        scores = [_score(font, rows, shapes_of_group) for shapes_of_group in typical]
        results.append(max(scores, key=lambda score: score.likeness))
    return results


def _typical(fonts: Sequence[np.ndarray]) -> np.ndarray:
    middle = np.median(np.stack(list(fonts)), axis=0)
    return middle / (np.linalg.norm(middle, axis=1, keepdims=True) + 1e-6)


def _score(font: np.ndarray, rows: list[int], typical: np.ndarray) -> Legibility:
    similarity = font[rows] @ typical.T  # (rows, 62)
    nearest = similarity.argmax(axis=1)
    right = [_same(PROBES[row], PROBES[near]) for row, near in zip(rows, nearest, strict=True)]
    return Legibility(float(np.mean(right)), float(similarity[np.arange(len(rows)), rows].mean()))


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower() or other in _SAME_SHAPE.get(one, "")
