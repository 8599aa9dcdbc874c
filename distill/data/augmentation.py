"""Augmentation: RandAugment for text (METHOD 1.5), and a light policy that leaves the shape of the word alone.

All randomness comes from the generator handed in, so a sample looks the same whichever worker prepares it. timm's
operations are plain functions of picture and strength; its own drawing of strengths uses global generators and is
not used.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image, ImageFilter
from timm.data import auto_augment

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
_TIMM: dict[str, Strength] = {
    "AutoContrast": _nothing,
    "Equalize": _nothing,
    "Invert": _nothing,
    "Rotate": _either_sign(30.0),
    "PosterizeIncreasing": lambda level, rng: (4 - int(4 * level),),
    "SolarizeIncreasing": lambda level, rng: (256 - int(256 * level),),
    "SolarizeAdd": lambda level, rng: (min(128, int(110 * level)),),
    "ColorIncreasing": _factor,
    "ContrastIncreasing": _factor,
    "BrightnessIncreasing": _factor,
    "ShearX": _either_sign(0.9),
    "ShearY": _either_sign(0.2),
    "TranslateXRel": _either_sign(0.10),
    "TranslateYRel": _either_sign(0.30),
}
_GREY = (128, 128, 128)
_MOVES_COLUMNS = {"Rotate", "ShearX", "ShearY", "TranslateXRel"}
_OPERATIONS = (*_TIMM, "GaussianBlur", "PoissonNoise")


class RandAugment:
    """Apply some operations, drawn without replacement, to a picture of its original size (METHOD 1.5).

    Args:
        operations: how many are drawn.
        magnitude: strength from 0 to 10.
        probability: chance that a drawn operation is applied.
    """

    def __init__(self, operations: int = 3, magnitude: float = 5.0, probability: float = 0.5) -> None:
        self.operations, self.level, self.probability = operations, magnitude / 10, probability

    def __call__(self, image: Image.Image, rng: random.Random) -> tuple[Image.Image, bool]:
        """Augment an RGB picture; the second value says whether characters have left their columns."""
        moved = False
        for name in rng.sample(_OPERATIONS, self.operations):
            if rng.random() < self.probability:
                image = apply(name, image, self.level, rng)
                moved = moved or name in _MOVES_COLUMNS
        return image, moved


def apply(name: str, image: Image.Image, level: float, rng: random.Random) -> Image.Image:
    """Apply one operation at a level from 0 to 1 to an RGB picture."""
    if name == "GaussianBlur":
        return image.filter(ImageFilter.GaussianBlur(_limited(4 * level, 0.02 * max(image.size))))
    if name == "PoissonNoise":
        return poisson_noise(image, _limited(40 * level, 0.2 * max(image.size)) | 1, rng)
    resample = rng.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC))
    strength = _TIMM[name](level, rng)
    operation: Any = auto_augment.NAME_TO_OP[name]
    augmented: Image.Image = operation(image, *strength, fillcolor=_GREY, resample=resample)
    return augmented


def poisson_noise(image: Image.Image, rate: int, rng: random.Random) -> Image.Image:
    """Add Poisson(rate) with a random sign to each pixel, the same to its three channels (as the published program)."""
    numbers = np.random.default_rng(rng.getrandbits(64))
    size = (image.height, image.width, 1)
    noise = numbers.poisson(rate, size) * numbers.choice((-1, 1), size)
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def _limited(strength: float, most: float) -> int:
    return round(min(strength, max(1.0, most)))


class LightAugment:
    """Change brightness, contrast, sharpness, noise and position a little, on the resized picture.

    The word moves by less than half of one of the 32 columns, so the characters stay under their columns.
    """

    _NOISE_VALUES = 1 << 18

    def __init__(self) -> None:
        # Drawing 12,288 normal numbers a word would cost more than all else here; a random piece of a bank is as good.
        self._bank = np.random.default_rng(0).standard_normal(self._NOISE_VALUES, dtype=np.float32)

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
            start = rng.randrange(self._NOISE_VALUES - pixels.size)
            noise = self._bank[start : start + pixels.size].reshape(pixels.shape) * rng.uniform(2, 12)
            pixels = cv2.add(pixels, noise, dtype=cv2.CV_8U)
        return pixels
