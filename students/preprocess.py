"""From picture files to the student's input: RGB, bicubic resize without keeping the aspect, mean 0.5 and std 0.5."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from students.errors import UserError

BROKEN_IMAGE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is truncated, no picture, or absurdly large."""


def decode_image(data: bytes) -> Image.Image:
    """Decode an encoded picture to RGB; raises one of `BROKEN_IMAGE` when it can't be decoded."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except UnidentifiedImageError:  # Pillow's own words name a buffer's address
        raise UnidentifiedImageError("no format that Pillow knows") from None


def load_image(path: str | Path) -> Image.Image:
    """Read one picture file as RGB; raises `UserError` when it is missing, truncated or no picture."""
    try:
        return decode_image(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a picture of one word") from None
    except BROKEN_IMAGE as error:
        raise UserError(f"{path}: can't be read as a picture ({error}); save it again as PNG or JPEG") from None


def resize(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Resize an RGB picture to `size` = (height, width), bicubic with antialiasing: (H, W, 3) uint8 (METHOD 1.6)."""
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def normalize(images: np.ndarray) -> Tensor:
    """Turn uint8 (N, H, W, 3) into float (N, 3, H, W): to [0, 1], then (x - 0.5) / 0.5."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return pixels.float().div_(255).sub_(0.5).div_(0.5).contiguous()


def to_tensor(images: Sequence[Image.Image], size: tuple[int, int] = (32, 128)) -> Tensor:
    """Resize and normalise pictures to a student's input (N, 3, H, W)."""
    return normalize(np.stack([resize(image, size) for image in images]))
