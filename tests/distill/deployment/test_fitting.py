"""Pictures that other programs resized and padded reach a reader as Pillow would have brought them to its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from distill.deployment.fitting import Form, Halved, PaddedBlack, PaddedZero, Stretched
from students.pictures import normalize, resize, to_tensor

ONE_SIZE, ANY_WIDTH = Form(32, 128), Form(32, 192, keep_aspect=True)
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
    assert levels.max() < 3
    assert levels.mean() < 0.5


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_padding_is_found_and_the_rest_resized_as_pillow_does(height: int, width: int) -> None:
    drawn = picture(height, width)
    padded = torch.zeros(1, 3, height, width + 50)
    padded[..., :width] = pixels(drawn, order=-1)
    assert_within_grey_levels(PaddedZero(ONE_SIZE)(padded), to_tensor([drawn]))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_stretched_pictures_are_resized_as_pillow_does(height: int, width: int) -> None:
    drawn = picture(height, width)
    assert_within_grey_levels(Stretched(ONE_SIZE, (height, width))(pixels(drawn)), to_tensor([drawn]))


def test_a_picture_of_the_readers_size_stays_as_it_is() -> None:
    images = pixels(picture(32, 128), order=-1)
    assert torch.equal(PaddedZero(ONE_SIZE)(images), images.flip(1))


def test_neighbours_and_the_amount_of_padding_change_nothing() -> None:
    narrow, wide = pixels(picture(48, 60)), pixels(picture(48, 200))
    batch = torch.zeros(2, 3, 48, 400)
    batch[0, ..., :60], batch[1, ..., :200] = narrow[0], wide[0]
    fit = PaddedZero(ONE_SIZE)
    torch.testing.assert_close(fit(batch), torch.cat([fit(narrow), fit(wide)]), atol=1e-5, rtol=0)
    assert torch.isfinite(fit(torch.zeros(1, 3, 48, 320))).all(), "a picture of nothing but padding"


def test_a_reader_that_keeps_the_aspect_gets_the_pictures_that_it_makes() -> None:
    drawn = [picture(height, width) for height, width in ((48, 20), (48, 131), (48, 310))]
    batch = torch.zeros(3, 3, 48, 400)
    for room, each in zip(batch, drawn, strict=True):
        room[..., : each.width] = pixels(each, order=-1)[0]
    for count in (1, 2, 3):
        expected = to_tensor(drawn[:count], (32, 192), keep_aspect=True)
        actual = PaddedZero(ANY_WIDTH)(batch[:count])
        assert actual.shape == expected.shape, "no wider than the widest needs"
        assert_within_grey_levels(actual, expected)
        assert torch.equal(actual == 0, expected == 0), "what is padding stays padding"


@pytest.mark.parametrize("form", [ONE_SIZE, ANY_WIDTH])
@pytest.mark.parametrize(("height", "width"), [(64, 100), (20, 256)])
def test_black_padding_is_found_on_the_right_and_below(form: Form, height: int, width: int) -> None:
    drawn = picture(height, width)
    mean, std = (0.6, 0.5, 0.4), (0.3, 0.2, 0.3)
    ground = Image.new("RGB", (256, 64))
    ground.paste(drawn)
    given = (np.asarray(ground, np.float32) / 255 - np.float32(mean)) / np.float32(std)
    fit = PaddedBlack(form, mean, std)
    actual = fit(torch.from_numpy(given.transpose(2, 0, 1)[None]))
    assert_within_grey_levels(actual, to_tensor([drawn], (32, form.width), form.keep_aspect))


@pytest.mark.parametrize("width", [64, 90, 256])
def test_halving_is_what_pillow_does(width: int) -> None:
    drawn = picture(64, width)
    expected = torch.from_numpy(normalize(resize(drawn, (32, width // 2))[None]))
    assert_within_grey_levels(Halved()(pixels(drawn)), expected)
