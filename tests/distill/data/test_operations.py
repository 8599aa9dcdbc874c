"""Operations of RandAugment: timm's and Pillow's pictures, number for number."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image
from timm.data import auto_augment

from distill.data import operations
from distill.data.augmentation import _RESAMPLED, _TIMM
from distill.data.operations import Resample, poisson_noise

RANGES = {
    "Rotate": (-30.0, 30.0), "PosterizeIncreasing": (1, 4), "SolarizeIncreasing": (0, 256), "SolarizeAdd": (0, 110),
    "ColorIncreasing": (0.1, 1.9), "ContrastIncreasing": (0.1, 1.9), "BrightnessIncreasing": (0.1, 1.9),
    "ShearX": (-0.9, 0.9), "ShearY": (-0.2, 0.2), "TranslateXRel": (-0.1, 0.1), "TranslateYRel": (-0.3, 0.3),
}  # fmt: skip
"""Strengths at any magnitude; the other operations have none."""


def pictures() -> list[np.ndarray]:
    """Noise, few levels, one level, large areas, and very small ones."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (31, 97, 3), dtype=np.uint8)
    areas = np.repeat(np.repeat(rng.integers(0, 256, (4, 9, 3), dtype=np.uint8), 8, 0), 11, 1)
    return [noise, noise // 8 + 100, np.full_like(noise, 77), areas, noise[:1, :1], noise[:2, :300], noise[:16, :16]]


@pytest.mark.parametrize("name", _TIMM)
def test_operations_are_timms(name: str) -> None:
    rng = random.Random(0)
    operation, _ = _TIMM[name]
    for pixels in pictures():
        for resample in (Resample.BILINEAR, Resample.BICUBIC):
            low, high = RANGES.get(name, (0, 0))
            strength = rng.randint(low, high) if isinstance(low, int) else rng.uniform(low, high)
            given = (strength,) if name in RANGES else ()
            expected = auto_augment.NAME_TO_OP[name](
                Image.fromarray(pixels), *given, fillcolor=operations.GREY, resample=resample
            )
            found = operation(pixels, *given, *((resample,) if name in _RESAMPLED else ()))
            assert np.array_equal(found, expected), (pixels.shape, given, resample)


def test_poisson_noise_is_grey_with_both_signs() -> None:
    flat = np.full((100, 200, 3), 120, np.uint8)
    noise = np.asarray(poisson_noise(flat, 9, random.Random(0))).astype(int) - 120
    assert (noise[..., 0] == noise[..., 1]).all()
    assert (noise[..., 0] == noise[..., 2]).all()
    assert abs(noise.mean()) < 0.5
    assert np.abs(noise[..., 0]).mean() == pytest.approx(9, abs=0.2)


@pytest.mark.parametrize("rate", [1, 7, 21, 41])
def test_poisson_noise_has_the_distributions_moments(rate: int) -> None:
    drawn = np.abs(operations._signed_poisson(rate).astype(np.float64))
    centred = drawn - drawn.mean()
    assert drawn.mean() == pytest.approx(rate, abs=1e-3)
    assert (centred**2).mean() == pytest.approx(rate, rel=2e-3)
    assert (centred**3).mean() == pytest.approx(rate, rel=2e-2)
    assert operations._signed_poisson(rate).astype(int).sum() == 0
