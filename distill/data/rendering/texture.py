"""Make banks of grey background textures (walls, stains, boards, bricks, wood, foliage, panels) and of noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import cv2
import numpy as np

HEIGHT, WIDTH = 128, 352
COUNT = 256
NOISE_COUNT = 40
NOISE_HEIGHT, NOISE_WIDTH = 112, 320


class TextureBank:
    """Textures (128, 352) uint8 around mean 128, made once from a seed.

    Args:
        seed: two banks of one seed are equal.
        count: how many textures.
    """

    def __init__(self, seed: int = 0, count: int = COUNT) -> None:
        rng = np.random.default_rng((seed, 11))
        makers = _MAKERS
        sums = np.cumsum([share for share, _ in makers])
        self.textures = [
            _normalised(makers[int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))][1](rng))
            for _ in range(count)
        ]

    def cut(self, width: int, height: int, random: Random) -> np.ndarray:
        """Cut a piece at a random place, zoom and orientation: (height, width) float32, about -1 to 1."""
        return (cut_piece(self.textures, width, height, random).astype(np.float32) - 128.0) * np.float32(1 / 127)


def cut_piece(pictures: Sequence[np.ndarray], width: int, height: int, random: Random) -> np.ndarray:
    """Cut a piece of any of some pictures (128, 352, ...), at a random place and zoom, mirrored half of the time."""
    picture = pictures[int(random.random() * len(pictures))]
    zoom = random.uniform(0.4, 1.6)
    w, h = min(WIDTH, max(6, int(width * zoom))), min(HEIGHT, max(6, int(height * zoom)))
    x, y = int(random.random() * (WIDTH - w + 1)), int(random.random() * (HEIGHT - h + 1))
    piece = cv2.resize(picture[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_LINEAR)
    return piece[:, ::-1] if random.random() < 0.5 else piece


class NoiseBank:
    """Sensor noise, standard deviation 1, grain from single pixels to blotches, partly the same in all channels.

    Args:
        seed: two banks of one seed are equal.
        count: how many pictures of noise.
        size: largest width and height that can be cut.
    """

    def __init__(
        self, seed: int = 0, count: int = NOISE_COUNT, size: tuple[int, int] = (NOISE_WIDTH, NOISE_HEIGHT)
    ) -> None:
        rng = np.random.default_rng((seed, 12))
        self.size = size
        self.images = [_grain(rng, size) for _ in range(count)]

    def cut(self, width: int, height: int, random: Random) -> np.ndarray:
        """Cut a piece: (height, width, 3) float32; wider than the largest it repeats, mirrored."""
        noise = self.images[int(random.random() * len(self.images))]
        if width > self.size[0]:
            noise = np.concatenate([noise, noise[:, ::-1]] * -(-width // (2 * self.size[0])), axis=1)
        x = int(random.random() * (noise.shape[1] - width + 1))
        y = int(random.random() * (self.size[1] - height + 1))
        return noise[y : y + height, x : x + width]


def _grain(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    colour = rng.standard_normal((size[1], size[0], 3), dtype=np.float32)
    grey = rng.standard_normal((size[1], size[0], 1), dtype=np.float32)
    share = rng.uniform(0.2, 1.0)
    noise = colour * (1 - share) + grey * share
    blotch = rng.choice((0.0, 0.0, 0.6, 0.9, 1.3))
    if blotch:
        noise = cv2.GaussianBlur(noise, (0, 0), float(blotch))
    return np.asarray(noise / noise.std(), np.float32)


def _normalised(grey: np.ndarray) -> np.ndarray:
    grey = grey.astype(np.float32) - float(grey.mean())
    return np.clip(128 + grey * (50 / (float(grey.std()) + 1e-3)), 0, 255).astype(np.uint8)


def octaves(rng: np.random.Generator, roughness: float, first: int = 2, stretch: float = 1.0) -> np.ndarray:
    """Sum noise of doubling frequency, each octave `roughness` times the one before: (128, 352) float32."""
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    weight, cells = 1.0, first
    while cells <= HEIGHT:
        shape = (min(HEIGHT, max(2, round(cells / stretch))), min(WIDTH, max(2, round(2.75 * cells * stretch))))
        coarse = rng.standard_normal(shape, dtype=np.float32)
        total += weight * cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        weight, cells = weight * roughness, cells * 2
    return total


def _clouds(rng: np.random.Generator) -> np.ndarray:
    return octaves(rng, rng.uniform(0.3, 0.8))


def _fine(rng: np.random.Generator) -> np.ndarray:
    return octaves(rng, rng.uniform(0.7, 1.0), first=int(rng.choice((8, 16, 32))))


def _grainy_wood(rng: np.random.Generator) -> np.ndarray:
    grain = octaves(rng, 0.75, first=4, stretch=float(rng.choice((0.15, 0.25, 4.0))))
    return np.sin(grain * rng.uniform(0.5, 2.0)) + 0.3 * grain


def _foliage(rng: np.random.Generator) -> np.ndarray:
    noise = octaves(rng, 0.8, first=8)
    return np.tanh(3 * noise) + 0.5 * octaves(rng, 0.7)


def _panels(rng: np.random.Generator) -> np.ndarray:
    """Paint overlapping slanted areas, like walls, windows, frames and sky behind a sign."""
    image = np.full((HEIGHT, WIDTH), 128, np.float32)
    for _ in range(int(rng.integers(3, 12))):
        center = (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT))
        box = cv2.boxPoints((center, (rng.uniform(10, 250), rng.uniform(5, 90)), float(rng.normal(0, 12))))
        cv2.fillPoly(image, [box.astype(np.int32)], float(rng.uniform(0, 255)), cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 4))) + 8 * octaves(rng, 0.6)


def _bricks(rng: np.random.Generator) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH), float(rng.uniform(60, 200)), np.float32)
    height, joint = int(rng.integers(8, 30)), int(rng.integers(1, 4))
    width = int(height * rng.uniform(1, 3))
    for row, y in enumerate(range(0, HEIGHT, height)):
        for x in range(-(row % 2) * width // 2, WIDTH, width):
            low, high = max(0, x), max(0, x + width - joint)
            image[y : y + height - joint, low:high] = 128 + rng.normal(0, 14)
    return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.2))) + 8 * octaves(rng, 0.8, first=8)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    angle = rng.choice((0.0, np.pi / 2, rng.uniform(0, np.pi)))
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / rng.uniform(5, 40))
    return (np.tanh(wave * rng.uniform(1, 6)) + 0.4 * octaves(rng, 0.7)).astype(np.float32)


def _spots(rng: np.random.Generator) -> np.ndarray:
    """Blur discs of light and dark, like scenes out of focus."""
    image = 20 * octaves(rng, 0.5)
    for _ in range(int(rng.integers(5, 30))):
        center = (int(rng.integers(0, WIDTH)), int(rng.integers(0, HEIGHT)))
        cv2.circle(image, center, int(rng.integers(3, 30)), float(rng.normal(0, 60)), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(1, 6)))


def _scratches(rng: np.random.Generator) -> np.ndarray:
    image = 12 * octaves(rng, 0.7)
    for _ in range(int(rng.integers(4, 30))):
        ends = rng.integers((0, 0), (WIDTH, HEIGHT), (2, 2))
        level, thickness = float(rng.normal(0, 40)), int(rng.integers(1, 3))
        cv2.line(image, tuple(map(int, ends[0])), tuple(map(int, ends[1])), level, thickness, cv2.LINE_AA)
    return image


_MAKERS: tuple[tuple[float, Callable[[np.random.Generator], np.ndarray]], ...] = (
    (0.22, _clouds),
    (0.14, _fine),
    (0.09, _grainy_wood),
    (0.09, _foliage),
    (0.18, _panels),
    (0.07, _bricks),
    (0.05, _stripes),
    (0.1, _spots),
    (0.06, _scratches),
)
