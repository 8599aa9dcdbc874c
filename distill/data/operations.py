"""The operations of RandAugment: exactly the pictures that Pillow and timm make, in less time.

A picture is an array (H, W, 3) uint8 or Pillow's RGB image. What maps levels is one look-up in an array, the rest runs
in Pillow; each operation takes either kind and writes to neither, so that few have to be turned into the other.
"""

from __future__ import annotations

import math
import random
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

Picture = np.ndarray | Image.Image
Resample = Image.Resampling
GREY = (128, 128, 128)
"""What shows where a picture was moved away, as in timm."""
_LEVELS = np.arange(256)


def as_array(picture: Picture) -> np.ndarray:
    """Give a picture as an array, which may be read-only."""
    return picture if isinstance(picture, np.ndarray) else np.asarray(picture)


def as_image(picture: Picture) -> Image.Image:
    """Give a picture as Pillow's image."""
    if isinstance(picture, Image.Image):
        return picture
    return Image.frombytes("RGB", picture.shape[1::-1], picture.tobytes())


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
    """Add Poisson(rate) with a random sign to each pixel, the same to its three channels (as the published program).

    Chances are those of the distribution to 1 in 65,536, the step of the numbers that are drawn.
    """
    pixels = as_array(picture)
    height, width = pixels.shape[:2]
    drawn = np.frombuffer(rng.randbytes(2 * height * width), np.uint16)
    noise = _signed_poisson(rate)[drawn].reshape(height, width)
    return cv2.add(pixels, cv2.merge([noise] * 3), dtype=cv2.CV_8U)


@lru_cache(maxsize=64)
def _signed_poisson(rate: int) -> np.ndarray:
    """Give Poisson(rate) with a random sign at 65,536 places of equal chance (65536,) int16."""
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
