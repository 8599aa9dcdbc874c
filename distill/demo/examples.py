"""Pictures to try a reader on, drawn by Pillow with the font that it brings: nobody's data, and always the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HEIGHT = 72
"""Size of the letters in pixels; pictures are shrunk or blurred from there."""


@dataclass(frozen=True)
class Example:
    """How an example looks."""

    word: str
    ink: str
    ground: str
    slant: float = 0.0
    """By how much of its height the picture leans."""
    degrees: float = 0.0
    """Turned counter-clockwise."""
    blur: float = 0.0
    """Radius in pixels."""
    noise: float = 0.0
    """Standard deviation of the noise, of 255 levels."""
    scale: float = 1.0


EXAMPLES = (
    Example("MUSEUM", "#fdf6e3", "#0b3d2e"),
    Example("bakery", "#5b2a12", "#f3d9b1", slant=0.25),
    Example("Platform", "#ffffff", "#1b4fa8", degrees=4, noise=8),
    Example("OPEN", "#ff5a36", "#1c1c22", blur=3),
    Example("Route66", "#14213d", "#fca311", slant=-0.2, noise=14),
    Example("1984", "#3a3a3a", "#cfd2d6", scale=0.3),
    Example("harbour", "#e9eef2", "#7d8f9b", blur=1.5, noise=10),
    Example("SPINE", "#f5f0dc", "#7a1f2b", degrees=90),
)  # fmt: skip
"""A plain sign, and what makes reading harder: leaning, turned, blurred, grainy, faint, small, along a spine."""


def draw_example(example: Example) -> Image.Image:
    """Draw one example as an RGB picture."""
    font = ImageFont.load_default(HEIGHT)
    left, top, right, bottom = font.getbbox(example.word)
    margin = HEIGHT // 3
    size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    picture = Image.new("RGB", size, example.ground)
    ImageDraw.Draw(picture).text((margin - left, margin - top), example.word, example.ink, font)
    if example.slant:
        shift = example.slant * size[1] / 2
        lean = (1, example.slant, -shift, 0, 1, 0)
        how = Image.Resampling.BICUBIC
        picture = picture.transform(size, Image.Transform.AFFINE, lean, how, fillcolor=example.ground)
    if example.degrees:
        picture = picture.rotate(example.degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=example.ground)
    if example.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(example.blur))
    if example.noise:
        noise = np.random.default_rng(0).normal(0, example.noise, (picture.height, picture.width, 1))
        picture = Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))
    if example.scale != 1:
        small = tuple(max(round(example.scale * length), 1) for length in picture.size)
        picture = picture.resize((small[0], small[1]), Image.Resampling.BICUBIC)
    return picture


def write_examples(folder: Path) -> list[Path]:
    """Draw all examples into a folder that exists, and list their files."""
    files = [folder / f"{example.word}.png" for example in EXAMPLES]
    for file, example in zip(files, EXAMPLES, strict=True):
        draw_example(example).save(file)
    return files
