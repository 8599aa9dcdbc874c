"""Make a bank of coloured scenes that text is laid over or cut from: walls, windows, edges, lights, other writing."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from distill.data.rendering.texture import HEIGHT, WIDTH, cut_piece, octaves

COUNT = 96


class SceneBank:
    """Coloured scenes (128, 352, 3) uint8, made once from a seed.

    Args:
        seed: two banks of one seed are equal.
        count: how many scenes.
    """

    def __init__(self, seed: int = 0, count: int = COUNT) -> None:
        rng = np.random.default_rng((seed, 13))
        self.scenes = [_scene(rng) for _ in range(count)]

    def cut(self, width: int, height: int, random: Random) -> np.ndarray:
        """Cut a piece at a random place, zoom and orientation, channels in random order: planes (3, h, w) float32."""
        piece = cut_piece(self.scenes, width, height, random)
        return piece.transpose(2, 0, 1)[list(random.choice(_ORDERS))].astype(np.float32)


_ORDERS = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2))


def _colour(rng: np.random.Generator) -> np.ndarray:
    grey, hue = rng.uniform(0, 255), rng.normal(0, 1, 3)
    return np.asarray(np.clip(grey + hue * rng.choice((8.0, 25.0, 60.0)), 0, 255), np.float32)


def _scene(rng: np.random.Generator) -> np.ndarray:
    """Lay slanted areas, lights and writing over a gradient, let it all go a little out of focus, add its texture."""
    across, down = np.linspace(0, 1, WIDTH, dtype=np.float32), np.linspace(0, 1, HEIGHT, dtype=np.float32)
    share = np.clip(across[None, :] * rng.normal(0, 1) + down[:, None] * rng.normal(0, 1) + 0.5, 0, 1)[..., None]
    image = _colour(rng) * share + _colour(rng) * (1 - share)
    image = np.ascontiguousarray(image, np.float32)
    for _ in range(int(rng.integers(2, 14))):
        center = (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT))
        angle = float(rng.normal(0, 10)) if rng.random() < 0.7 else float(rng.uniform(0, 90))
        box = cv2.boxPoints((center, (rng.uniform(6, 220), rng.uniform(4, 90)), angle))
        cv2.fillPoly(image, [box.astype(np.int32)], _colour(rng).tolist(), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 9))):
        center = int(rng.integers(0, WIDTH)), int(rng.integers(0, HEIGHT))
        cv2.circle(image, center, int(rng.integers(2, 26)), _colour(rng).tolist(), -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 3))):
        _write(image, rng)
    soft = cv2.GaussianBlur(image, (0, 0), float(rng.choice((0.6, 1.0, 2.0, 4.0, 7.0))))
    grain = octaves(rng, float(rng.uniform(0.4, 1.0)), int(rng.choice((2, 8, 16))))
    return np.clip(soft + grain[..., None] * rng.uniform(1, 14), 0, 255).astype(np.uint8)


def _write(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draw rows of short strokes, which look like small print."""
    y, size = int(rng.integers(0, HEIGHT)), int(rng.integers(3, 9))
    colour = _colour(rng).tolist()
    for row in range(int(rng.integers(1, 5))):
        x, top = int(rng.integers(-20, WIDTH // 2)), y + row * 2 * size
        for _ in range(int(rng.integers(10, 40))):
            ends = (x, top + int(rng.integers(0, size))), (x + int(rng.integers(-size, size)), top + size)
            cv2.line(image, *ends, colour, 1 + size // 6, cv2.LINE_AA)
            x += max(2, size * 2 // 3) * (3 if rng.random() < 0.15 else 1)
