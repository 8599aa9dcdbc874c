"""Turn layers into a photograph: paint, light, blur, low resolution, noise."""

from __future__ import annotations

from functools import lru_cache
from random import Random

import cv2
import numpy as np

from distill.data.rendering.colours import Colour, Palette
from distill.data.rendering.layout import Setting
from distill.data.rendering.texture import NoiseBank, TextureBank

_UNIT = np.float32(1 / 255)


def paint(layers: np.ndarray, palette: Palette, setting: Setting, textures: TextureBank, random: Random) -> np.ndarray:
    """Paint background, shadow, outline and text: layers (h, w, 4) uint8 to planes (3, h, w) float32 in 0..255.

    Planes instead of pixels: numpy is three times as fast on long rows.
    """
    height, width = layers.shape[:2]
    ink_cover, rim_cover, shade_cover, board_cover = cv2.split(layers)
    image = _paper(width, height, palette, textures, random)
    if setting.board is not None:
        outside = textured(palette.outside, textures.cut(width, height, random), random.uniform(5, 45))
        blend(image, outside, 255 - board_cover, 1.0)
    if setting.shadow is not None:
        blend(image, planes_of(palette.shade), shade_cover, random.uniform(0.4, 1.0))
    if setting.rim and not setting.hollow:
        blend(image, planes_of(palette.rim), rim_cover, 1.0)
    dice = random.random()
    if dice < 0.12:
        away, strength = random.choice((1.0, -0.4)), random.uniform(20, 90)
        sign = np.sign(planes_of(palette.ink) - planes_of(palette.paper))
        ink = planes_of(palette.ink) + sign * (ramp(height) * np.float32(away * strength))
    elif dice < 0.27:
        amount = random.uniform(5, 0.25 * palette.contrast + 6)
        ink = textured(palette.ink, textures.cut(width, height, random), amount)
    else:
        ink = planes_of(palette.ink)
    blend(image, ink, ink_cover, 1.0 if random.random() < 0.8 else random.uniform(0.8, 1.0))
    return image


def _paper(width: int, height: int, palette: Palette, textures: TextureBank, random: Random) -> np.ndarray:
    """Paint the paper: plain or textured, never more than the text's contrast bears."""
    dice = random.random()
    most = 0.33 * palette.contrast
    if dice < 0.5:
        amount = random.uniform(0, min(6, most))
    elif dice < 0.84:
        amount = random.uniform(4, max(6, min(20, most)))
    else:
        amount = random.uniform(0.5, 1.0) * min(55, most)
    texture = textures.cut(width, height, random)
    image = np.empty((3, height, width), np.float32)
    for plane, level in zip(image, palette.paper, strict=True):
        np.multiply(texture, np.float32(amount * (1 + random.gauss(0, 0.15))), out=plane)
        plane += np.float32(level)
    return image


def planes_of(colour: Colour) -> np.ndarray:
    """Return a colour as planes: (3, 1, 1) float32."""
    return np.array(colour, np.float32)[:, None, None]


def textured(colour: Colour, texture: np.ndarray, amount: float) -> np.ndarray:
    """Lay a texture (h, w) over a colour: planes (3, h, w) float32."""
    return planes_of(colour) + (texture * np.float32(amount))[None]


@lru_cache(maxsize=256)
def ramp(height: int) -> np.ndarray:
    """Return -0.5 (above) to 0.5 (below): (1, height, 1) float32."""
    levels = np.linspace(-0.5, 0.5, height, dtype=np.float32)[None, :, None]
    levels.setflags(write=False)
    return levels


def blend(image: np.ndarray, colour: np.ndarray, cover: np.ndarray, opacity: float) -> None:
    """Lay a colour (3, 1, 1) or picture (3, h, w) over planes, where `cover` (h, w) uint8 says so, in place."""
    weight = cover * (_UNIT * np.float32(opacity))
    change = colour - image
    change *= weight
    image += change


def light(image: np.ndarray, random: Random) -> None:
    """Shade the whole crop: uneven light, a highlight, a cast shadow; in place, planes (3, h, w) float32."""
    height, width = image.shape[1:]
    dice = random.random()
    if dice < 0.45:
        depth = random.uniform(0.05, 0.35)
        coarse = np.array([1 + random.uniform(-depth, depth) for _ in range(8)], np.float32).reshape(2, 4)
        image *= cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    elif dice < 0.5:
        cells = np.zeros((3, 7), np.float32)
        cells[random.randrange(3), random.randrange(7)] = random.uniform(20, 110)
        image += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    elif dice < 0.55:
        upper, lower = random.uniform(0, width), random.uniform(0, width)
        corners = [(upper, -1), (width * 2, -1), (width * 2, height), (lower, height)]
        mask = np.ones((height, width), np.float32)
        cv2.fillPoly(mask, [np.array(corners, np.int32)], random.uniform(0.5, 0.85), cv2.LINE_AA)
        image *= cv2.GaussianBlur(mask, (0, 0), random.uniform(0.5, 3))


def clutter(image: np.ndarray, palette: Palette, cap: float, random: Random) -> None:
    """Draw what crosses a word in the street: a wire, a twig, a frame's edge; rarely, and thin; in place."""
    height, width = image.shape[:2]
    for _ in range(random.choice((1, 1, 2, 3))):
        ends = [(random.randint(-5, width + 5), random.randint(-5, height + 5)) for _ in range(2)]
        colour = palette.outside if random.random() < 0.6 else palette.shade
        cv2.line(image, ends[0], ends[1], colour, max(1, round(cap * random.uniform(0.02, 0.08))), cv2.LINE_AA)


@lru_cache(maxsize=256)
def streak(length: int, direction: int) -> np.ndarray:
    """Make a motion blur kernel of a length in pixels, in one of 12 directions."""
    kernel = np.zeros((length, length), np.float32)
    angle = np.pi * direction / 12
    reach = (length - 1) / 2 * np.array((np.cos(angle), np.sin(angle)))
    middle = (length - 1) / 2
    start, end = np.rint(middle - reach).astype(int), np.rint(middle + reach).astype(int)
    cv2.line(kernel, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 1.0, 1)
    kernel /= kernel.sum()
    kernel.setflags(write=False)
    return kernel


def blur(image: np.ndarray, cap: float, contrast: float, random: Random) -> np.ndarray:
    """Blur by defocus and by motion, in proportion to the letters' height in pixels, less where they are faint."""
    cap *= min(1.0, 0.4 + contrast / 130)
    dice = random.random()
    if dice < 0.5:
        sigma = cap * random.uniform(0.01, 0.045)
    elif dice < 0.72:
        sigma = cap * random.uniform(0.045, 0.1)
    else:
        sigma = 0.0
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), min(sigma, 4.0))
    if random.random() < 0.12:
        length = round(cap * random.uniform(0.08, 0.22))
        if length >= 2:
            image = cv2.filter2D(image, -1, streak(length, random.randrange(12)))
    return image


def sense(image: np.ndarray, contrast: float, noises: NoiseBank, random: Random) -> np.ndarray:
    """Sharpen now and then, and add noise, at most a tenth of the text's contrast: (h, w, 3) float32 to uint8."""
    height, width = image.shape[:2]
    if random.random() < 0.2:
        soft = cv2.GaussianBlur(image, (0, 0), 1.2)
        strength = random.uniform(0.4, 1.5)
        image = cv2.addWeighted(image, 1 + strength, soft, -strength, 0)
    if random.random() < 0.7:
        amount = abs(random.gauss(0, 2.5)) if random.random() < 0.85 else random.uniform(3, 12)
        amount = min(amount, 0.1 * contrast)
        if amount > 0.5:
            image = image + noises.cut(width, height, random) * np.float32(amount)
    return np.clip(image, 0, 255).astype(np.uint8)
