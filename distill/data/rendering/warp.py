"""The one warp of a word: wave, arc, shear, perspective and rotation, each with an exact inverse, in one remap.

Text lives in units of the cap height, centred on the word: u to the right, v downwards. The inverse mapping is computed
on a coarse grid (one point in 8 x 8 pixels) and enlarged, which costs as little as a bank of ready fields and never
repeats one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from distill.data.rendering.atlas import CAP_HEIGHT
from distill.data.rendering.layout import SetWord

CELL = 8
MAX_WIDTH, MAX_HEIGHT = 288, 96
_RIM = np.stack([np.tile(np.linspace(-1, 1, 13, dtype=np.float32), 2), np.repeat(np.array((-1, 1), np.float32), 13)])
_STEPS = np.arange(256, dtype=np.float32) - 0.5


@dataclass(frozen=True)
class Warp:
    """The geometry of one word.

    Attributes:
        stretch: widening (above 1) or narrowing of the letters.
        wave: amplitude in cap heights, wave number, phase; amplitude 0 for none.
        bend: total angle of the arc in radians, positive arches upwards; 0 for none.
        shear: slant of the letters.
        tilt: perspective in x and y: how much nearer one end is than the other (0 none, 0.5 strong).
        angle: rotation in radians.
    """

    stretch: float = 1.0
    wave: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bend: float = 0.0
    shear: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0


def draw_warp(random: Random, difficulty: float = 1.0) -> Warp:
    """Draw a geometry: half nearly straight, a fifth in perspective, an eighth on an arc, rotation up to 30 degrees.

    A `difficulty` below 1 reduces bend, wave, shear, tilt and rotation by that factor.
    """
    dice = random.random
    kind = dice()
    stretch = math.exp(random.gauss(0.0, 0.2))
    bend = 0.0
    wave = (0.0, 0.0, 0.0)
    tilt = (random.gauss(0, 0.06), random.gauss(0, 0.03))
    shear = random.gauss(0, 0.05) if dice() < 0.7 else random.uniform(-0.4, 0.4)
    degrees = random.gauss(0, 2.0)
    if kind < 0.12:
        bend = math.radians(random.uniform(15, 100)) * (1 if dice() < 0.7 else -1)
        degrees = random.gauss(0, 9)
    elif kind < 0.32:
        tilt = (random.uniform(-0.5, 0.5), random.uniform(-0.22, 0.22))
        stretch *= random.uniform(0.65, 1.1)
        shear = random.uniform(-0.35, 0.35)
        degrees = random.gauss(0, 6)
    elif kind < 0.37:
        wave = (random.uniform(0.05, 0.25), random.uniform(0.6, 1.8), random.uniform(0, 6.28))
    elif kind < 0.62:
        degrees = random.uniform(-15, 15)
    elif kind < 0.66:
        degrees = random.uniform(-30, 30)
    return Warp(
        stretch=min(1.6, max(0.55, stretch)),
        wave=(wave[0] * difficulty, *wave[1:]),
        bend=bend * difficulty,
        shear=shear * difficulty,
        tilt=(tilt[0] * difficulty, tilt[1] * difficulty),
        angle=math.radians(degrees) * difficulty,
    )


class Placement:
    """A warp applied to one set word: where its points go in the crop, and back.

    Args:
        word: the layers and boxes to place.
        warp: the geometry.
        cap: height of capitals in the crop, in pixels; less where the crop would grow too large.
        margins: left, top, right, bottom around the ink, in cap heights (negative cuts into it).
        limits: largest width and height of the crop, in pixels.

    Attributes:
        size: width and height of the crop.
        scale: pixels of the crop for one cap height.
    """

    def __init__(
        self, word: SetWord, warp: Warp, cap: float, margins: tuple[float, float, float, float],
        limits: tuple[float, float] = (MAX_WIDTH, MAX_HEIGHT),
    ) -> None:  # fmt: skip
        left, top, right, bottom = word.box
        self.word, self.warp = word, warp
        self._center = (left + right) / 2, (top + bottom) / 2
        half_width = (right - left) / 2 / CAP_HEIGHT * warp.stretch
        half_height = (bottom - top) / 2 / CAP_HEIGHT
        # An arc must leave room for the letters' feet, and a perspective is relative to the word's own extent.
        limit = 2 * half_width / (half_height + 0.7)
        self._bend = max(-limit, min(limit, warp.bend))
        self._radius = 2 * half_width / self._bend if abs(self._bend) > 0.05 else 0.0
        self._tilt = warp.tilt[0] / max(half_width, half_height), warp.tilt[1] / max(half_height, 0.5)
        self._turn = math.cos(warp.angle), math.sin(warp.angle)
        x, y = self.to_crop(_RIM[0] * np.float32(half_width), _RIM[1] * np.float32(half_height))
        x0, y0, x1, y1 = float(x.min()), float(y.min()), float(x.max()), float(y.max())
        x0, y0, x1, y1 = x0 - margins[0], y0 - margins[1], x1 + margins[2], y1 + margins[3]
        self.scale = min(cap, limits[0] / (x1 - x0), limits[1] / (y1 - y0))
        self._origin = x0, y0
        self.size = max(8, round((x1 - x0) * self.scale)), max(8, round((y1 - y0) * self.scale))

    def to_crop(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map stretched text units to crop units: wave, arc, shear, perspective, rotation."""
        amplitude, number, phase = self.warp.wave
        if amplitude:
            v = v + amplitude * np.sin(number * u + phase)
        if self._radius:
            reach = self._radius - v
            u, v = reach * np.sin(u / self._radius), self._radius - reach * np.cos(u / self._radius)
        u = u - self.warp.shear * v
        depth = 1 + self._tilt[0] * u + self._tilt[1] * v
        u, v = u / depth, v / depth
        cos, sin = self._turn
        return cos * u - sin * v, sin * u + cos * v

    def to_text(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map crop units back to stretched text units: `to_crop` undone, step by step."""
        cos, sin = self._turn
        u, v = cos * x + sin * y, cos * y - sin * x
        depth = np.maximum(0.2, 1 - self._tilt[0] * u - self._tilt[1] * v)
        u, v = u / depth, v / depth
        u = u + self.warp.shear * v
        if self._radius:
            sign = math.copysign(1.0, self._radius)
            down = self._radius - v
            reach = sign * np.hypot(u, down)
            u, v = self._radius * np.arctan2(sign * u, sign * down), self._radius - reach
        amplitude, number, phase = self.warp.wave
        if amplitude:
            v = v - amplitude * np.sin(number * u + phase)
        return u, v

    def layers(self) -> np.ndarray:
        """Warp the word's layers into the crop: (height, width, 4) uint8."""
        width, height = self.size
        source, shrink = self._shrunk_source()
        columns, rows = -(-width // CELL) + 2, -(-height // CELL) + 2
        # One cell more on each side, because enlarging repeats the outermost half cell.
        x = _STEPS[:columns] * np.float32(CELL / self.scale) + np.float32(self._origin[0])
        y = _STEPS[:rows] * np.float32(CELL / self.scale) + np.float32(self._origin[1])
        u, v = self.to_text(x[None, :], y[:, None])
        coarse = np.empty((rows, columns, 2), np.float32)
        coarse[..., 0] = (u * (CAP_HEIGHT / self.warp.stretch) + self._center[0]) * shrink[0] - 0.5
        coarse[..., 1] = (v * CAP_HEIGHT + self._center[1]) * shrink[1] - 0.5
        fine = cv2.resize(coarse, (columns * CELL, rows * CELL), interpolation=cv2.INTER_LINEAR)
        field = fine[CELL : CELL + height, CELL : CELL + width]
        # OpenCV's annotations forget that the second map may be None.
        return cv2.remap(source, field, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)  # type: ignore[call-overload,no-any-return]

    def _shrunk_source(self) -> tuple[np.ndarray, tuple[float, float]]:
        """Shrink the layers by area first where the crop is much smaller, so that thin strokes don't vanish."""
        source = self.word.layers
        across, down = self.scale * self.warp.stretch / CAP_HEIGHT, self.scale / CAP_HEIGHT
        if max(across, down) > 0.7:
            return source, (1.0, 1.0)
        height, width = source.shape[:2]
        small = max(4, round(width * min(1.0, across * 1.25))), max(4, round(height * min(1.0, down * 1.25)))
        return cv2.resize(source, small, interpolation=cv2.INTER_AREA), (small[0] / width, small[1] / height)

    def columns(self, text: str, count: int = 32) -> np.ndarray:
        """Find the character over each of `count` equal columns: code points (count,) uint32, 0 for none."""
        edges = np.array(self.word.spans, np.float32).T  # (2, characters)
        middles = np.array(self.word.middles, np.float32)
        u = (edges - np.float32(self._center[0])) * np.float32(self.warp.stretch / CAP_HEIGHT)
        x, _ = self.to_crop(u, (middles - np.float32(self._center[1])) * np.float32(1 / CAP_HEIGHT))
        x = (x - np.float32(self._origin[0])) * np.float32(self.scale * count / self.size[0])  # in columns
        middle, reach = (x[0] + x[1]) / 2, np.abs(x[1] - x[0]) / 2
        distance = np.abs(_STEPS[1 : count + 1] - middle[:, None])
        distance[distance > reach[:, None]] = np.inf
        nearest = distance.argmin(axis=0)
        codes = np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))
        covered = np.isfinite(distance[nearest, np.arange(count)])
        return codes[nearest] * covered.astype(np.uint32)
