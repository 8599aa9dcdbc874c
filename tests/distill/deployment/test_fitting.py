"""Pictures that other programs resized and padded reach a reader as Pillow would have brought them to its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from distill.deployment.fitting import PaddedZero, Stretched
from students.pictures import normalize, to_tensor

SIZES = [(48, 20), (48, 128), (48, 301), (32, 128), (32, 77), (90, 260)]


def picture(height: int, width: int) -> Image.Image:
    """Smooth colours with sharp edges in them."""
    noise = np.random.default_rng(height * width).integers(0, 256, (height // 4, width // 4 + 1, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def pixels(drawn: Image.Image, order: int = 1) -> Tensor:
    return torch.from_numpy(normalize(np.asarray(drawn)[None, :, :, ::order]))


def assert_within_grey_levels(actual: Tensor, expected: Tensor) -> None:
    """Pillow rounds to grey levels after each side, the graph doesn't."""
    levels = (actual - expected).abs() / (2 / 255)
    assert levels.max() < 2
    assert levels.mean() < 0.5


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_padding_is_found_and_the_rest_resized_as_pillow_does(height: int, width: int) -> None:
    drawn = picture(height, width)
    padded = torch.zeros(1, 3, height, width + 50)
    padded[..., :width] = pixels(drawn, order=-1)
    assert_within_grey_levels(PaddedZero((32, 128))(padded), to_tensor([drawn]))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_stretched_pictures_are_resized_as_pillow_does(height: int, width: int) -> None:
    drawn = picture(height, width)
    assert_within_grey_levels(Stretched((32, 128), (height, width))(pixels(drawn)), to_tensor([drawn]))


def test_a_picture_of_the_readers_size_stays_as_it_is() -> None:
    images = pixels(picture(32, 128), order=-1)
    assert torch.equal(PaddedZero((32, 128))(images), images.flip(1))


def test_neighbours_and_the_amount_of_padding_change_nothing() -> None:
    narrow, wide = pixels(picture(48, 60)), pixels(picture(48, 200))
    batch = torch.zeros(2, 3, 48, 400)
    batch[0, ..., :60], batch[1, ..., :200] = narrow[0], wide[0]
    fit = PaddedZero((32, 128))
    torch.testing.assert_close(fit(batch), torch.cat([fit(narrow), fit(wide)]), atol=1e-5, rtol=0)
    assert torch.isfinite(fit(torch.zeros(1, 3, 48, 320))).all(), "a picture of nothing but padding"
