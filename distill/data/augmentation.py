"""Augmentation: RandAugment for text (docs/method.md, section 1.5), and a light policy that leaves the word's shape.

All randomness comes from the generator handed in, so a sample looks the same whichever worker prepares it. timm's own
drawing of strengths uses global generators and is not used. The operations make exactly the pictures of Pillow and
timm, in less time: a picture is an array (H, W, 3) uint8 or Pillow's RGB image; what maps levels is one look-up in an
array, the rest runs in Pillow; each operation takes either kind and writes to neither, so that few are converted.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

Picture = np.ndarray | Image.Image
Strength = Callable[[float, random.Random], tuple[float, ...]]
Resample = Image.Resampling
GREY = (128, 128, 128)
"""What shows where a picture was moved away, as in timm."""
_LEVELS = np.arange(256)


def as_array(picture: Picture) -> np.ndarray:
    """Return a picture as an array, which may be read-only."""
    return picture if isinstance(picture, np.ndarray) else np.asarray(picture)


def as_image(picture: Picture) -> Image.Image:
    """Return a picture as Pillow's image."""
    if isinstance(picture, Image.Image):
        return picture
    return Image.frombytes("RGB", picture.shape[1::-1], picture.tobytes())


def sample_generator(seed: int, name: str, epoch: int, index: int) -> random.Random:
    """Seed the generator of one sample of the set `name` in one epoch."""
    key = (seed % 2**32, zlib.crc32(f"augmentation:{name}".encode()), epoch, index)
    return random.Random(sum(part << (64 * number) for number, part in enumerate(key)))


def auto_contrast(picture: Picture) -> Picture:
    """Spread each channel from its darkest to its brightest level over all levels."""
    pixels, tables = as_array(picture), np.empty((1, 256, 3), np.uint8)
    for channel, plane in enumerate(cv2.split(pixels)):
        low, high = cv2.minMaxLoc(plane)[:2]
        scale = 255.0 / (high - low) if high > low else 1.0
        spread = _LEVELS * scale + (-low * scale if high > low else 0.0)
        tables[0, :, channel] = spread.astype(np.int64).clip(0, 255)
    return cv2.LUT(pixels, tables)


def equalize(picture: Picture) -> Picture:
    """Spread each channel so that its levels are about equally frequent."""
    pixels, tables = as_array(picture), np.empty((1, 256, 3), np.uint8)
    for channel, plane in enumerate(cv2.split(pixels)):
        counts = np.bincount(plane.ravel(), minlength=256)
        used = np.flatnonzero(counts)
        step = (plane.size - int(counts[used[-1]])) // 255
        below = np.cumsum(counts) - counts
        tables[0, :, channel] = np.minimum((step // 2 + below) // step, 255) if step else _LEVELS
    return cv2.LUT(pixels, tables)


def invert(picture: Picture) -> Picture:
    """Turn dark to bright."""
    return 255 - as_array(picture)


def posterize(picture: Picture, bits: int) -> Picture:
    """Keep the highest bits of each level."""
    return as_array(picture) & np.uint8(~(2 ** (8 - bits) - 1) & 255)


def solarize(picture: Picture, threshold: int) -> Picture:
    """Invert the levels from a threshold on."""
    return _mapped(picture, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS))


def solarize_add(picture: Picture, added: int) -> Picture:
    """Make the darker half of the levels brighter."""
    return _mapped(picture, np.where(_LEVELS < 128, np.minimum(_LEVELS + added, 255), _LEVELS))


def color(picture: Picture, factor: float) -> Picture:
    """Scale the distance of each pixel from its grey."""
    return ImageEnhance.Color(as_image(picture)).enhance(factor)


def contrast(picture: Picture, factor: float) -> Picture:
    """Scale the distance of each level from the mean grey."""
    image = as_image(picture)
    mean = int(np.asarray(image.convert("L")).mean() + 0.5)
    return Image.blend(Image.new("RGB", image.size, (mean, mean, mean)), image, factor)


def brightness(picture: Picture, factor: float) -> Picture:
    """Scale each level."""
    image = as_image(picture)
    return Image.blend(Image.new("RGB", image.size), image, factor)


def rotate(picture: Picture, degrees: float, resample: Resample) -> Picture:
    """Turn the picture around its centre."""
    return as_image(picture).rotate(degrees, resample=resample, fillcolor=GREY)


def shear_x(picture: Picture, factor: float, resample: Resample) -> Picture:
    """Shift each row by `factor` times its number."""
    return _transformed(picture, (1, factor, 0, 0, 1, 0), resample)


def shear_y(picture: Picture, factor: float, resample: Resample) -> Picture:
    """Shift each column by `factor` times its number."""
    return _transformed(picture, (1, 0, 0, factor, 1, 0), resample)


def translate_x(picture: Picture, share: float, resample: Resample) -> Picture:
    """Move the picture by a share of its width."""
    image = as_image(picture)
    return _transformed(image, (1, 0, share * image.width, 0, 1, 0), resample)


def translate_y(picture: Picture, share: float, resample: Resample) -> Picture:
    """Move the picture by a share of its height."""
    image = as_image(picture)
    return _transformed(image, (1, 0, 0, 0, 1, share * image.height), resample)


def gaussian_blur(picture: Picture, radius: int) -> Picture:
    """Blur with a standard deviation of `radius` pixels."""
    return as_image(picture).filter(ImageFilter.GaussianBlur(radius))


def poisson_noise(picture: Picture, rate: int, rng: random.Random) -> Picture:
    """Add Poisson(rate) with a random sign, the same to a pixel's channels, as in the reference implementation.

    Chances are those of the distribution to 1 in 65,536, the step of the numbers that are drawn.
    """
    pixels = as_array(picture)
    height, width = pixels.shape[:2]
    drawn = np.frombuffer(rng.randbytes(2 * height * width), np.uint16)
    noise = signed_poisson(rate)[drawn].reshape(height, width)
    return cv2.add(pixels, cv2.merge([noise] * 3), dtype=cv2.CV_8U)


@lru_cache(maxsize=64)
def signed_poisson(rate: int) -> np.ndarray:
    """Tabulate Poisson(rate) with a random sign over 65,536 numbers of equal chance: (65536,) int16."""
    counts = np.arange(rate + 12 * math.isqrt(rate) + 12)
    logs = counts * math.log(rate) - rate - np.cumsum(np.log(np.maximum(counts, 1)))
    below = np.cumsum(np.exp(logs))
    halves = np.searchsorted(below, (np.arange(32768) + 0.5) / 32768)
    return np.concatenate([-halves, halves]).astype(np.int16)


def _mapped(picture: Picture, table: np.ndarray) -> Picture:
    return cv2.LUT(as_array(picture), table.astype(np.uint8))


def _transformed(picture: Picture, matrix: tuple[float, ...], resample: Resample) -> Picture:
    image = as_image(picture)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=GREY)


def either_sign(most: float) -> Strength:
    """Draw plus or minus `most` times the level."""
    return lambda level, rng: (rng.choice((-1, 1)) * most * level,)


def colour_factor(level: float, rng: random.Random) -> tuple[float, ...]:
    """Draw a factor of colour, contrast or brightness: 1 plus or minus 0.9 times the level, at least 0.1."""
    return (max(0.1, 1 + rng.choice((-1, 1)) * 0.9 * level),)


def no_strength(level: float, rng: random.Random) -> tuple[float, ...]:
    """Draw nothing, for operations without a strength."""
    return ()


# timm's increasing set without Sharpness, with text's own limits on geometry; strengths are for a level from 0 to 1.
TIMM_OPERATIONS: dict[str, tuple[Callable[..., Picture], Strength]] = {
    "AutoContrast": (auto_contrast, no_strength),
    "Equalize": (equalize, no_strength),
    "Invert": (invert, no_strength),
    "Rotate": (rotate, either_sign(30.0)),
    "PosterizeIncreasing": (posterize, lambda level, rng: (4 - int(4 * level),)),
    "SolarizeIncreasing": (solarize, lambda level, rng: (256 - int(256 * level),)),
    "SolarizeAdd": (solarize_add, lambda level, rng: (min(128, int(110 * level)),)),
    "ColorIncreasing": (color, colour_factor),
    "ContrastIncreasing": (contrast, colour_factor),
    "BrightnessIncreasing": (brightness, colour_factor),
    "ShearX": (shear_x, either_sign(0.9)),
    "ShearY": (shear_y, either_sign(0.2)),
    "TranslateXRel": (translate_x, either_sign(0.10)),
    "TranslateYRel": (translate_y, either_sign(0.30)),
}
_MOVES_COLUMNS = {"Rotate", "ShearX", "ShearY", "TranslateXRel"}
RESAMPLED = {*_MOVES_COLUMNS, "TranslateYRel"}
OPERATIONS = (*TIMM_OPERATIONS, "GaussianBlur", "PoissonNoise")
"""What is drawn from."""


class RandAugment:
    """Apply operations, drawn without replacement, to a picture of its original size (docs/method.md, section 1.5).

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

    def pair(self, picture: Picture, rng: random.Random, other: random.Random) -> tuple[Picture, Picture, bool]:
        """Augment a picture twice, with the same columns: the first view is that of a call with `rng`.

        What moves characters to other columns is applied to both views with the same strength and in the same place
        of the order; in the other places the second view has operations of its own.

        Returns:
            Both views, and whether characters have left their columns.
        """
        first = second = picture
        moved = False
        own = other.sample([name for name in OPERATIONS if name not in _MOVES_COLUMNS], self.operations)
        for name, other_name in zip(rng.sample(OPERATIONS, self.operations), own, strict=True):
            applied = rng.random() < self.probability
            if name in _MOVES_COLUMNS:
                if applied:
                    same = random.Random()
                    same.setstate(rng.getstate())
                    first, second = apply(name, first, self.level, rng), apply(name, second, self.level, same)
                    moved = True
                continue
            if applied:
                first = apply(name, first, self.level, rng)
            if other.random() < self.probability:
                second = apply(other_name, second, self.level, other)
        return first, second, moved


def apply(name: str, picture: Picture, level: float, rng: random.Random) -> Picture:
    """Apply one operation at a level from 0 to 1 to a picture, which stays as it is."""
    longer = max(picture.shape[:2] if isinstance(picture, np.ndarray) else picture.size)
    if name == "GaussianBlur":
        return gaussian_blur(picture, limited_strength(4 * level, 0.02 * longer))
    if name == "PoissonNoise":
        return poisson_noise(picture, limited_strength(40 * level, 0.2 * longer) | 1, rng)
    operation, strength = TIMM_OPERATIONS[name]
    resample = rng.choice((Resample.BILINEAR, Resample.BICUBIC))
    more = (resample,) if name in RESAMPLED else ()
    return operation(picture, *strength(level, rng), *more)


def limited_strength(strength: float, most: float) -> int:
    """Limit blur and noise by the size of the picture, to at least 1."""
    return round(min(strength, max(1.0, most)))


_NOISE_VALUES = 1 << 18


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """Draw normal numbers once: 12,288 for each word would cost more than all else, a random piece is as good."""
    return np.random.default_rng(0).standard_normal(_NOISE_VALUES, dtype=np.float32)


def noise_like(pixels: np.ndarray, rng: random.Random) -> np.ndarray:
    """Draw normal noise of the shape of a picture: float32. That of a large picture repeats."""
    start = rng.randrange(max(1, _NOISE_VALUES - pixels.size))
    return np.resize(_noise()[start : start + pixels.size], pixels.shape)


class LightAugment:
    """Change brightness, contrast, sharpness, noise and position a little, on the resized picture.

    The word moves by less than half of one of the 32 columns, so the characters stay under their columns.
    """

    def __call__(self, pixels: np.ndarray, rng: random.Random) -> np.ndarray:
        """Augment (H, W, 3) uint8 pixels; the input stays as it is."""
        return self._look(self._move(pixels, rng), rng)

    def pair(self, pixels: np.ndarray, rng: random.Random, other: random.Random) -> tuple[np.ndarray, np.ndarray]:
        """Augment pixels twice, moved alike, so with the same columns: the first view is that of a call with `rng`."""
        moved = self._move(pixels, rng)
        return self._look(moved, rng), self._look(moved, other)

    def _move(self, pixels: np.ndarray, rng: random.Random) -> np.ndarray:
        if rng.random() < 0.5:
            move = np.array([[1, 0, rng.uniform(-1.9, 1.9)], [0, 1, rng.uniform(-1.9, 1.9)]])
            pixels = cv2.warpAffine(pixels, move, pixels.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        return pixels

    def _look(self, pixels: np.ndarray, rng: random.Random) -> np.ndarray:
        if rng.random() < 0.2:
            pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.2))
        if rng.random() < 0.7:
            contrast, brightness = rng.uniform(0.65, 1.35), rng.uniform(-35, 35)
            levels = (np.arange(256) - 128) * contrast + 128 + brightness
            pixels = cv2.LUT(pixels, levels.clip(0, 255).astype(np.uint8))
        if rng.random() < 0.4:
            pixels = cv2.add(pixels, noise_like(pixels, rng) * rng.uniform(2, 12), dtype=cv2.CV_8U)
        return pixels
