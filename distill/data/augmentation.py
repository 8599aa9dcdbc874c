"""Augmentation: RandAugment for text (METHOD 1.5), and a light policy that leaves the shape of the word alone.

All randomness comes from the generator handed in, so a sample looks the same whichever worker prepares it. timm's own
drawing of strengths uses global generators and is not used.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from distill.data import operations
from distill.data.operations import Picture, Resample

Policy = Literal["none", "light", "strong"]
Strength = Callable[[float, random.Random], tuple[float, ...]]


def stream(seed: int, name: str, epoch: int, index: int) -> random.Random:
    """Give the generator of one sample of the set `name` in one epoch."""
    key = (seed % 2**32, zlib.crc32(f"augmentation:{name}".encode()), epoch, index)
    return random.Random(sum(part << (64 * place) for place, part in enumerate(key)))


def _either_sign(most: float) -> Strength:
    return lambda level, rng: (rng.choice((-1, 1)) * most * level,)


def _factor(level: float, rng: random.Random) -> tuple[float, ...]:
    return (max(0.1, 1 + rng.choice((-1, 1)) * 0.9 * level),)


def _nothing(level: float, rng: random.Random) -> tuple[float, ...]:
    return ()


# timm's increasing set without Sharpness, with text's own limits on geometry; strengths are for a level from 0 to 1.
_TIMM: dict[str, tuple[Callable[..., Picture], Strength]] = {
    "AutoContrast": (operations.auto_contrast, _nothing),
    "Equalize": (operations.equalize, _nothing),
    "Invert": (operations.invert, _nothing),
    "Rotate": (operations.rotate, _either_sign(30.0)),
    "PosterizeIncreasing": (operations.posterize, lambda level, rng: (4 - int(4 * level),)),
    "SolarizeIncreasing": (operations.solarize, lambda level, rng: (256 - int(256 * level),)),
    "SolarizeAdd": (operations.solarize_add, lambda level, rng: (min(128, int(110 * level)),)),
    "ColorIncreasing": (operations.color, _factor),
    "ContrastIncreasing": (operations.contrast, _factor),
    "BrightnessIncreasing": (operations.brightness, _factor),
    "ShearX": (operations.shear_x, _either_sign(0.9)),
    "ShearY": (operations.shear_y, _either_sign(0.2)),
    "TranslateXRel": (operations.translate_x, _either_sign(0.10)),
    "TranslateYRel": (operations.translate_y, _either_sign(0.30)),
}
_MOVES_COLUMNS = {"Rotate", "ShearX", "ShearY", "TranslateXRel"}
_RESAMPLED = {*_MOVES_COLUMNS, "TranslateYRel"}
OPERATIONS = (*_TIMM, "GaussianBlur", "PoissonNoise")
"""What is drawn from."""


class RandAugment:
    """Apply some operations, drawn without replacement, to a picture of its original size (METHOD 1.5).

    Args:
        operations: how many are drawn.
        magnitude: strength from 0 to 10.
        probability: chance that a drawn operation is applied.
    """

    def __init__(self, operations: int = 3, magnitude: float = 5.0, probability: float = 0.5) -> None:
        self.operations, self.level, self.probability = operations, magnitude / 10, probability

    def __call__(self, picture: Picture, rng: random.Random) -> tuple[Picture, bool]:
        """Augment a picture; the second value says whether characters have left their columns."""
        moved = False
        for name in rng.sample(OPERATIONS, self.operations):
            if rng.random() < self.probability:
                picture = apply(name, picture, self.level, rng)
                moved = moved or name in _MOVES_COLUMNS
        return picture, moved


def apply(name: str, picture: Picture, level: float, rng: random.Random) -> Picture:
    """Apply one operation at a level from 0 to 1 to a picture, which stays as it is."""
    longer = max(picture.shape[:2] if isinstance(picture, np.ndarray) else picture.size)
    if name == "GaussianBlur":
        return operations.gaussian_blur(picture, _limited(4 * level, 0.02 * longer))
    if name == "PoissonNoise":
        return operations.poisson_noise(picture, _limited(40 * level, 0.2 * longer) | 1, rng)
    operation, strength = _TIMM[name]
    resample = rng.choice((Resample.BILINEAR, Resample.BICUBIC))
    more = (resample,) if name in _RESAMPLED else ()
    return operation(picture, *strength(level, rng), *more)


def _limited(strength: float, most: float) -> int:
    return round(min(strength, max(1.0, most)))


_NOISE_VALUES = 1 << 18


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """Draw normal numbers once: 12,288 for each word would cost more than all else, a random piece is as good."""
    return np.random.default_rng(0).standard_normal(_NOISE_VALUES, dtype=np.float32)


class LightAugment:
    """Change brightness, contrast, sharpness, noise and position a little, on the resized picture.

    The word moves by less than half of one of the 32 columns, so the characters stay under their columns.
    """

    def __call__(self, pixels: np.ndarray, rng: random.Random) -> np.ndarray:
        """Augment (H, W, 3) uint8 pixels; the input stays as it is."""
        if rng.random() < 0.5:
            move = np.array([[1, 0, rng.uniform(-1.9, 1.9)], [0, 1, rng.uniform(-1.9, 1.9)]])
            pixels = cv2.warpAffine(pixels, move, pixels.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        if rng.random() < 0.2:
            pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.2))
        if rng.random() < 0.7:
            contrast, brightness = rng.uniform(0.65, 1.35), rng.uniform(-35, 35)
            levels = (np.arange(256) - 128) * contrast + 128 + brightness
            pixels = cv2.LUT(pixels, levels.clip(0, 255).astype(np.uint8))
        if rng.random() < 0.4:
            start = rng.randrange(_NOISE_VALUES - pixels.size)
            noise = _noise()[start : start + pixels.size].reshape(pixels.shape) * rng.uniform(2, 12)
            pixels = cv2.add(pixels, noise, dtype=cv2.CV_8U)
        return pixels
