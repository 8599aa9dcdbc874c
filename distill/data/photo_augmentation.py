"""Augment real words as if they were taken again: another place to stand, other light, another camera.

Unlike RandAugment for text, every strength is drawn anew from a range, and no letter leaves the picture: the crop grows
with the word that is turned, bent or seen from a side, and cuts into it by a twentieth of its height at most.
"""

from __future__ import annotations

import math
from random import Random

import cv2
import numpy as np

from distill.data.augmentation import Picture, as_array, noise_like
from distill.data.rendering import street_effects

MAX_HEIGHT, MAX_WIDTH = 56, 800
"""Larger pictures are made smaller first: students see 32 rows."""
LARGEST_GROWTH = 1.7
"""How much higher a crop may get by turning; long words are turned by less."""


class PhotoAugment:
    """Change position, light and camera of a picture of its original size, each with a strength drawn anew."""

    def __call__(self, picture: Picture, rng: Random) -> tuple[np.ndarray, bool]:
        """Augment a picture, which stays as it is; the second value says whether characters have left their columns.

        Args:
            picture: (H, W, 3) uint8 or Pillow's RGB image.
            rng: what all follows from.
        """
        pixels, moved = self._move(picture, rng)
        return self._look(pixels, rng), moved

    def pair(self, picture: Picture, rng: Random, other: Random) -> tuple[np.ndarray, np.ndarray, bool]:
        """Augment a picture twice, from the same place, so with the same columns: the first as a call with `rng`.

        Returns:
            Both views, and whether characters have left their columns.
        """
        pixels, moved = self._move(picture, rng)
        return self._look(pixels, rng), self._look(pixels, other), moved

    def _move(self, picture: Picture, rng: Random) -> tuple[np.ndarray, bool]:
        pixels = _at_most(as_array(picture), MAX_HEIGHT)
        moved = rng.random() < 0.8
        return (_seen_anew(pixels, rng) if moved else pixels), moved

    def _look(self, pixels: np.ndarray, rng: Random) -> np.ndarray:
        if rng.random() < 0.75:
            pixels = _in_other_light(pixels, rng)
        if rng.random() < 0.6:
            pixels = _by_another_camera(pixels, rng)
        return pixels


def _at_most(pixels: np.ndarray, height: int) -> np.ndarray:
    rows, columns = pixels.shape[:2]
    if rows <= height and columns <= MAX_WIDTH:
        return pixels
    scale = min(height / rows, MAX_WIDTH / columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _seen_anew(pixels: np.ndarray, rng: Random) -> np.ndarray:
    """Turn, shear, stretch and tilt, sometimes bend, into a crop that the whole picture fits, with margins anew."""
    height, width = pixels.shape[:2]
    turn = rng.gauss(0, 6) if rng.random() < 0.7 else rng.uniform(-25, 25)
    most = math.degrees(math.asin(min(1.0, (LARGEST_GROWTH - 1) * height / width)))
    angle = math.radians(max(-most, min(most, turn)))
    stretch, shear = math.exp(rng.gauss(0, 0.22)), rng.gauss(0, 0.15)
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    middle = corners - np.array((width / 2, height / 2), np.float32)
    middle[:, 0] = middle[:, 0] * stretch + shear * middle[:, 1]
    near = 1 + np.array((-1, 1, 1, -1), np.float32) * rng.gauss(0, 0.08)  # one end nearer than the other
    middle[:, 1] *= near
    cos, sin = math.cos(angle), math.sin(angle)
    there = middle @ np.array([[cos, sin], [-sin, cos]], np.float32)
    low, high = there.min(axis=0), there.max(axis=0)
    low -= [rng.uniform(-0.04, 0.15) * height, rng.uniform(-0.05, 0.15) * height]
    high += [rng.uniform(-0.04, 0.15) * height, rng.uniform(-0.05, 0.15) * height]
    scale = min(1.0, 1.3 * MAX_HEIGHT / float(high[1] - low[1]))
    size = max(4, round(float(high[0] - low[0]) * scale)), max(4, round(float(high[1] - low[1]) * scale))
    matrix = cv2.getPerspectiveTransform(corners, ((there - low) * scale).astype(np.float32))
    border, value = cv2.BORDER_REPLICATE, (0.0, 0.0, 0.0)
    if rng.random() < 0.3:
        border, value = cv2.BORDER_CONSTANT, tuple(map(float, _rim_colour(pixels)))  # type: ignore[assignment]
    if rng.random() < 0.15:
        pixels = _bent(pixels, rng)
        matrix = matrix @ np.array([[1, 0, 0], [0, height / pixels.shape[0], 0], [0, 0, 1]])
    kind = cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_CUBIC
    seen = cv2.warpPerspective(pixels, matrix, size, flags=kind, borderMode=border, borderValue=value)
    return np.asarray(seen, np.uint8)


def _rim_colour(pixels: np.ndarray) -> np.ndarray:
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return np.median(rim, axis=0)


def _bent(pixels: np.ndarray, rng: Random) -> np.ndarray:
    """Shift the columns along a parabola, in a picture that is higher by the shift."""
    height, width = pixels.shape[:2]
    rise = rng.uniform(0.1, 0.45) * min(height, 0.5 * width)
    arch = np.linspace(-1, 1, width, dtype=np.float32) ** 2
    down = arch if rng.random() < 0.6 else 1 - arch
    rows = np.arange(math.ceil(height + rise), dtype=np.float32)[:, None] - np.float32(rise) * down
    across = np.broadcast_to(np.arange(width, dtype=np.float32), rows.shape)
    return np.asarray(cv2.remap(pixels, across, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _in_other_light(pixels: np.ndarray, rng: Random) -> np.ndarray:
    """Change contrast, brightness, gamma and colours; now and then light one part more, or turn dark to bright."""
    levels = np.arange(256, dtype=np.float32)[:, None].repeat(3, axis=1) / 255
    if rng.random() < 0.08:
        levels = 1 - levels
    levels **= math.exp(rng.gauss(0, 0.35))
    # Around the picture's own brightness, so that dark ones don't turn black and bright ones white.
    mean = float(levels[int(pixels.mean()), 0])
    levels = (levels - mean) * math.exp(rng.gauss(-0.1, 0.35)) + min(0.85, max(0.12, mean + rng.gauss(0, 0.12)))
    if rng.random() < 0.3:
        levels *= np.array([math.exp(rng.gauss(0, 0.15)) for _ in range(3)], np.float32)
    table = (levels.clip(0, 1) * 255).astype(np.uint8)[None]
    pixels = cv2.LUT(pixels, table)
    dice = rng.random()
    if dice < 0.08:
        pixels = pixels[..., list(rng.choice(((1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2))))]
    elif dice < 0.3:
        grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        share = rng.uniform(0, 1.8)
        pixels = cv2.addWeighted(pixels, share, grey, 1 - share, 0)
    if rng.random() < 0.2:
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)
        street_effects.light(planes, rng)
        pixels = planes.transpose(1, 2, 0).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def _by_another_camera(pixels: np.ndarray, rng: Random) -> np.ndarray:
    """Blur, take fewer pixels, sharpen, add noise, compress: each now and then."""
    height, width = pixels.shape[:2]
    dice = rng.random()
    if dice < 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), max(0.3, height * rng.uniform(0.008, 0.045)))
    elif dice < 0.4:
        pixels = street_effects.smear(pixels, max(2, round(height * rng.uniform(0.05, 0.15))), rng)
    elif dice < 0.6 and height > 20:
        few = rng.uniform(12, 20) / height
        kind = rng.choice((cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR))
        pixels = cv2.resize(pixels, (max(6, round(width * few)), round(height * few)), interpolation=kind)
    elif dice < 0.75:
        strength = rng.uniform(0.3, 2.0)
        pixels = cv2.addWeighted(pixels, 1 + strength, cv2.GaussianBlur(pixels, (0, 0), 1.1), -strength, 0)
    if rng.random() < 0.35:
        pixels = cv2.add(pixels, noise_like(pixels, rng) * np.float32(rng.uniform(2, 14)), dtype=cv2.CV_8U)
    if rng.random() < 0.3:
        pixels = street_effects.compress(np.asarray(pixels, np.uint8), rng)
    return np.asarray(pixels, np.uint8)
