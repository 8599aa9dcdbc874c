"""Turn layers into a photograph in the style `street`: lettering in depth, scenes behind it, glare, poor cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Literal

import cv2
import numpy as np

from distill.data.rendering.colours import Palette
from distill.data.rendering.effects import blend, planes_of, ramp, streak, textured
from distill.data.rendering.layout import BOARD, INK, RIM, SHADE, Setting
from distill.data.rendering.scenes import SceneBank
from distill.data.rendering.texture import NoiseBank, TextureBank

Lettering = Literal["plain", "gradient", "textured", "relief", "glow", "worn", "striped"]
_LETTERING: tuple[tuple[Lettering, float], ...] = (
    ("plain", 60), ("gradient", 9), ("textured", 9), ("relief", 10), ("glow", 4), ("worn", 5), ("striped", 3),
)  # fmt: skip
_KINDS = tuple(kind for kind, _ in _LETTERING)
_KIND_SUMS = tuple(accumulate(share for _, share in _LETTERING))
LEAST_CONTRAST = 1.7
"""Measured by `contrast_of_text`."""
_NEAR = np.ones((5, 5), np.uint8)


@dataclass(frozen=True)
class Banks:
    """Textures, scenes and noise that crops are composed of."""

    textures: TextureBank
    scenes: SceneBank
    noises: NoiseBank


def photograph(
    layers: np.ndarray, palette: Palette, setting: Setting, banks: Banks, cap: float, blurring: float, random: Random
) -> np.ndarray:
    """Paint background and text and take a picture of them: layers (h, w, 4) uint8 to (h, w, 3) uint8 RGB.

    Text that can't be told from what is around it is painted once more: on plain paper, in clear light, not blurred.

    Args:
        layers: ink, outline, shadow and board.
        palette: the colours.
        setting: how the word is set.
        banks: what textures, scenes and noise are cut from.
        cap: height of capitals in pixels.
        blurring: how much of the blur there is, 0 to 1.
        random: what all this follows from.
    """
    covers = cv2.split(layers)
    planes = _paper(covers[INK].shape, palette, banks, random)
    kind = random.choices(_KINDS, cum_weights=_KIND_SUMS)[0]
    _write(planes, covers, palette, setting, kind, banks, cap, random)
    light(planes, random)
    image = blur(cv2.merge(list(planes)), cap * blurring, palette.contrast, random)
    crop = sense(image, palette.contrast, banks.noises, random)
    if contrast_of_text(crop, covers) >= LEAST_CONTRAST:
        return crop
    planes[:] = planes_of(palette.paper)
    _write(planes, covers, palette, setting, "plain", banks, cap, random)
    return np.clip(cv2.merge(list(planes)), 0, 255).astype(np.uint8)


def contrast_of_text(crop: np.ndarray, covers: Sequence[np.ndarray]) -> float:
    """Compare the brightness of text and of what is around it with how much both vary: (h, w, 3) uint8, covers (h, w).

    The difference of the means over the standard deviations' root mean square, at most a tenth of the difference.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    ink = cv2.threshold(covers[INK], 150, 255, cv2.THRESH_BINARY)[1]
    free = cv2.subtract(cv2.dilate(ink, _NEAR), cv2.threshold(covers[INK], 60, 255, cv2.THRESH_BINARY)[1])
    written, around = (cv2.meanStdDev(grey, mask=mask) for mask in (ink, free))
    difference = abs(float(written[0][0, 0]) - float(around[0][0, 0]))
    spread = math.sqrt((float(written[1][0, 0]) ** 2 + float(around[1][0, 0]) ** 2) / 2)
    return min(difference / (spread + 1.0), difference / 10)


def _paper(shape: tuple[int, ...], palette: Palette, banks: Banks, random: Random) -> np.ndarray:
    """Paint what the text stands on: plain, shaded, textured, or a scene, as faint as the text's contrast asks."""
    height, width = shape
    dice = random.random()
    most = 0.4 * palette.contrast
    if dice < 0.16:
        scene = banks.scenes.cut(width, height, random)
        scene -= scene.mean(axis=(1, 2), keepdims=True)
        scene *= np.float32(min(1.0, random.uniform(0.5, 1.0) * most / (float(scene.std()) + 1.0)))
        scene += planes_of(palette.paper)
        return scene
    image = np.empty((3, height, width), np.float32)
    image[:] = planes_of(palette.paper)
    if dice < 0.4:
        amount = random.uniform(3, max(5, most)) if dice < 0.25 else random.uniform(1, max(2, min(14, most)))
        image += banks.textures.cut(width, height, random) * np.float32(amount)
    if random.random() < 0.3:
        image += ramp(height) * np.float32(random.gauss(0, 0.4) * most)
    return image


def _write(
    image: np.ndarray, covers: Sequence[np.ndarray], palette: Palette, setting: Setting, kind: Lettering,
    banks: Banks, cap: float, random: Random,
) -> None:  # fmt: skip
    """Lay what is outside of the board, shadow, outline and text over planes, in place."""
    height, width = image.shape[1:]
    if setting.board is not None or setting.tiles:
        outside: np.ndarray = banks.scenes.cut(width, height, random)
        if random.random() < 0.6:
            outside = outside * np.float32(0.25) + planes_of(palette.outside) * np.float32(0.75)
        blend(image, outside, 255 - covers[BOARD], 1.0)
    if setting.shadow is not None:
        blend(image, planes_of(palette.shade), covers[SHADE], random.uniform(0.5, 1.0))
    if kind == "glow":
        halo = cv2.GaussianBlur(covers[INK], (0, 0), max(0.8, cap * random.uniform(0.1, 0.25)))
        image += (planes_of(palette.ink) - planes_of(palette.paper)) * (
            halo * np.float32(random.uniform(0.2, 0.5) / 255)
        )
    if setting.rim and not setting.hollow:
        blend(image, planes_of(palette.rim), covers[RIM], 1.0)
    ink, cover = planes_of(palette.ink), covers[INK]
    if kind == "gradient":
        strength = random.uniform(20, 110) * random.choice((1.0, -1.0))
        ink = ink + ramp(height) * np.float32(strength)
    elif kind == "textured":
        ink = textured(
            palette.ink, banks.textures.cut(width, height, random), random.uniform(5, 0.3 * palette.contrast + 8)
        )
    elif kind == "striped":
        across = random.random() < 0.5
        steps = np.arange(height if across else width, dtype=np.float32) / max(2.0, cap * random.uniform(0.1, 0.4))
        wave = np.sin(steps + random.uniform(0, 6))
        ink = ink + (wave[:, None] if across else wave[None, :])[None] * np.float32(random.uniform(5, 30))
    elif kind == "worn":
        holes = banks.textures.cut(width, height, random) * np.float32(1.6) + np.float32(random.uniform(0.7, 1.3))
        cover = (cover * np.clip(holes, 0.15, 1)).astype(np.uint8)
    blend(image, ink, cover, 1.0 if random.random() < 0.85 else random.uniform(0.75, 1.0))
    if kind == "relief":
        _emboss(image, covers[INK], cap, random)


def _emboss(image: np.ndarray, ink: np.ndarray, cap: float, random: Random) -> None:
    """Lighten one side of the letters' edges and darken the other, as on carved, cast and moulded letters; in place."""
    soft = cv2.GaussianBlur(ink, (0, 0), max(0.6, cap * random.uniform(0.02, 0.07))).astype(np.float32)
    angle, strength = random.uniform(-math.pi, math.pi), random.uniform(0.3, 1.0)
    slope = cv2.Sobel(soft, cv2.CV_32F, 1, 0) * math.cos(angle) + cv2.Sobel(soft, cv2.CV_32F, 0, 1) * math.sin(angle)
    largest = float(np.abs(slope).max()) + 1.0
    image += slope * np.float32(strength * 110 / largest)


def light(image: np.ndarray, random: Random) -> None:
    """Shade the whole crop: uneven light, glare, the shadow of a thing, a bright strip; planes (3, h, w), in place."""
    height, width = image.shape[1:]
    dice = random.random()
    if dice < 0.35:
        depth = random.uniform(0.05, 0.45)
        coarse = np.array([1 + random.uniform(-depth, depth) for _ in range(8)], np.float32).reshape(2, 4)
        image *= cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    elif dice < 0.42:
        cells = np.zeros((4, 9), np.float32)
        for _ in range(random.randint(1, 3)):
            cells[random.randrange(4), random.randrange(9)] = random.uniform(30, 170)
        image += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    elif dice < 0.5:
        upper, lower = random.uniform(0, width), random.uniform(0, width)
        end = width * 2 if random.random() < 0.6 else upper + random.uniform(0.1, 0.5) * width
        corners = [(upper, -1), (end, -1), (end + lower - upper, height), (lower, height)]
        mask = np.ones((height, width), np.float32)
        level = random.uniform(0.4, 0.85) if random.random() < 0.7 else random.uniform(1.15, 1.6)
        cv2.fillPoly(mask, [np.array(corners, np.int32)], level, cv2.LINE_AA)
        image *= cv2.GaussianBlur(mask, (0, 0), random.uniform(0.5, 3))


def blur(image: np.ndarray, cap: float, contrast: float, random: Random) -> np.ndarray:
    """Blur (h, w, 3) by defocus and motion, in proportion to the letters' height, less where they are faint."""
    cap *= min(1.0, 0.45 + contrast / 150)
    dice = random.random()
    sigma = 0.0
    if dice < 0.35:
        sigma = cap * random.uniform(0.01, 0.04)
    elif dice < 0.5:
        sigma = cap * random.uniform(0.04, 0.08)
    elif dice < 0.55:
        sigma = cap * random.uniform(0.08, 0.12)
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), min(sigma, 5.0))
    if random.random() < 0.08:
        image = smear(image, round(cap * random.uniform(0.1, 0.26)), random)
    return image


def smear(image: np.ndarray, length: int, random: Random) -> np.ndarray:
    """Blur by a motion of a length in pixels, in any direction."""
    return image if length < 2 else cv2.filter2D(image, -1, streak(length, random.randrange(12)))


def sense(image: np.ndarray, contrast: float, noises: NoiseBank, random: Random) -> np.ndarray:
    """Sharpen as cameras do, and add noise, at most an eighth of the text's contrast: (h, w, 3) float32 to uint8."""
    height, width = image.shape[:2]
    if random.random() < 0.4:
        strength = random.uniform(0.3, 2.0)
        image = cv2.addWeighted(image, 1 + strength, cv2.GaussianBlur(image, (0, 0), 1.1), -strength, 0)
    if random.random() < 0.6:
        amount = abs(random.gauss(0, 3)) if random.random() < 0.8 else random.uniform(4, 18)
        amount = min(amount, 0.125 * contrast)
        if amount > 0.5:
            image = image + noises.cut(width, height, random) * np.float32(amount)
    return np.clip(image, 0, 255).astype(np.uint8)


def compress(crop: np.ndarray, random: Random) -> np.ndarray:
    """Encode and decode (h, w, 3) uint8 as JPEG in a low quality, as pictures that were stored small."""
    done, data = cv2.imencode(".jpg", crop, (cv2.IMWRITE_JPEG_QUALITY, random.randint(25, 75)))
    coarse = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
    return crop if coarse is None else np.asarray(coarse, np.uint8)


def enlarge(crop: np.ndarray, height: int, random: Random) -> np.ndarray:
    """Enlarge a crop of low resolution to a height, as phones and web sites do."""
    width = max(8, round(crop.shape[1] * height / crop.shape[0]))
    kind = random.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4))
    return np.asarray(cv2.resize(crop, (width, height), interpolation=kind), np.uint8)
