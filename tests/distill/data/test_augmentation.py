"""Augmentation: limits as docs/method.md, section 1.5, says; pictures of timm and Pillow, number for number."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image
from timm.data import auto_augment

from distill.data import augmentation
from distill.data.augmentation import (
    GREY,
    OPERATIONS,
    RESAMPLED,
    TIMM_OPERATIONS,
    LightAugment,
    Picture,
    RandAugment,
    Resample,
    apply,
    colour_factor,
    limited_strength,
    noise_like,
    poisson_noise,
    sample_generator,
    signed_poisson,
)


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 100, 3), dtype=np.uint8))


def test_the_set_is_timms_increasing_one_for_text() -> None:
    expected = [name for name in auto_augment._RAND_INCREASING_TRANSFORMS if name != "SharpnessIncreasing"]
    assert list(OPERATIONS) == [*expected, "GaussianBlur", "PoissonNoise"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_mode_and_size_and_leaves_global_generators_alone(name: str, image: Image.Image) -> None:
    state, numpy_state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002  the global one is the point
    for small in (image, image.resize((3, 2)), image.resize((1, 1))):
        before = np.array(small)
        augmented = np.asarray(apply(name, small, 0.5, random.Random(1)))
        assert (augmented.dtype, augmented.shape) == (before.dtype, before.shape)
        assert np.array_equal(augmented, apply(name, before, 0.5, random.Random(1))), (
            "an array or an image, all the same"
        )
        assert np.array_equal(before, small), "the input is left as it was"
    assert random.getstate() == state
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize(
    ("name", "most"),
    [("Rotate", 30.0), ("ShearX", 0.9), ("ShearY", 0.2), ("TranslateXRel", 0.1), ("TranslateYRel", 0.3)],
)
def test_limits_of_geometry(name: str, most: float) -> None:
    strengths = {TIMM_OPERATIONS[name][1](0.5, random.Random(seed))[0] for seed in range(20)}
    assert strengths == {most / 2, -most / 2}


@pytest.mark.parametrize(
    "name", ["PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd", "AutoContrast", "Equalize", "Invert"]
)
def test_strengths_without_a_sign_are_timms(name: str) -> None:
    for magnitude in range(11):
        strength = auto_augment.LEVEL_TO_ARG[name]
        expected = strength(magnitude, {}) if strength else ()
        expected = expected if isinstance(expected, tuple) else (expected,)
        assert TIMM_OPERATIONS[name][1](magnitude / 10, random.Random(0)) == expected


def test_colour_factors_are_timms_pair() -> None:
    assert {colour_factor(0.5, random.Random(seed))[0] for seed in range(20)} == {1.45, 0.55}
    assert {colour_factor(1.0, random.Random(seed))[0] for seed in range(20)} == {1.9, 0.1}


@pytest.mark.parametrize(
    ("strength", "most", "expected"), [(2.0, 10.0, 2), (2.0, 1.6, 2), (2.0, 0.4, 1), (20.0, 25.6, 20), (20.0, 6.4, 6)]
)
def test_blur_and_noise_are_limited_by_the_longer_side(strength: float, most: float, expected: int) -> None:
    assert limited_strength(strength, most) == expected


def test_operations_are_drawn_without_replacement_and_applied_half_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[str] = []

    def note(name: str, picture: Picture, level: float, rng: random.Random) -> Picture:
        assert level == 0.5
        applied.append(name)
        return picture

    monkeypatch.setattr(augmentation, "apply", note)
    counts = []
    for seed in range(400):
        applied.clear()
        _, moved = RandAugment()(Image.new("RGB", (9, 9)), random.Random(seed))
        assert len(set(applied)) == len(applied) <= 3
        assert moved == bool({"Rotate", "ShearX", "ShearY", "TranslateXRel"} & set(applied))
        counts.append(len(applied))
    assert np.mean(counts) == pytest.approx(1.5, abs=0.15)


def test_streams_differ_in_every_part() -> None:
    parts = [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1), (-1, "a", 0, 0)]
    assert len({sample_generator(*part).random() for part in parts}) == len(parts)
    assert sample_generator(3, "a", 2, 1).random() == sample_generator(3, "a", 2, 1).random()


def test_light_augmentation_keeps_characters_under_their_columns() -> None:
    pixels = np.zeros((32, 128, 3), np.uint8)
    pixels[:, 64:] = 200
    light, seen = LightAugment(), set()
    for seed in range(200):
        augmented = light(pixels, random.Random(seed))
        assert (augmented.shape, augmented.dtype) == (pixels.shape, np.uint8)
        seen.add(augmented.tobytes())
        rows = augmented[8:24].astype(float).mean(axis=(0, 2))
        edge = int(np.argmax(np.diff(np.convolve(rows, np.ones(5) / 5, "valid")))) + 2
        assert abs(edge - 63) <= 4
    assert len(seen) > 150
    assert pixels.max() == 200, "the input is left as it was"


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


@pytest.mark.parametrize("name", TIMM_OPERATIONS)
def test_operations_are_timms(name: str) -> None:
    rng = random.Random(0)
    operation, _ = TIMM_OPERATIONS[name]
    for pixels in pictures():
        for resample in (Resample.BILINEAR, Resample.BICUBIC):
            low, high = RANGES.get(name, (0, 0))
            strength = rng.randint(low, high) if isinstance(low, int) else rng.uniform(low, high)
            given = (strength,) if name in RANGES else ()
            expected = auto_augment.NAME_TO_OP[name](Image.fromarray(pixels), *given, fillcolor=GREY, resample=resample)
            augmented = operation(pixels, *given, *((resample,) if name in RESAMPLED else ()))
            assert np.array_equal(augmented, expected), (pixels.shape, given, resample)


def test_poisson_noise_is_grey_with_both_signs() -> None:
    flat = np.full((100, 200, 3), 120, np.uint8)
    noise = np.asarray(poisson_noise(flat, 9, random.Random(0))).astype(int) - 120
    assert (noise[..., 0] == noise[..., 1]).all()
    assert (noise[..., 0] == noise[..., 2]).all()
    assert abs(noise.mean()) < 0.5
    assert np.abs(noise[..., 0]).mean() == pytest.approx(9, abs=0.2)


@pytest.mark.parametrize("rate", [1, 7, 21, 41])
def test_poisson_noise_has_the_distributions_moments(rate: int) -> None:
    drawn = np.abs(signed_poisson(rate).astype(np.float64))
    centred = drawn - drawn.mean()
    assert drawn.mean() == pytest.approx(rate, abs=1e-3)
    assert (centred**2).mean() == pytest.approx(rate, rel=2e-3)
    assert (centred**3).mean() == pytest.approx(rate, rel=2e-2)
    assert signed_poisson(rate).astype(int).sum() == 0


def test_pictures_of_any_size_get_noise() -> None:
    for height, width in ((32, 128), (48, 2048), (56, 3000)):
        noise = noise_like(np.zeros((height, width, 3), np.uint8), random.Random(0))
        assert noise.shape == (height, width, 3)
        assert 0.9 < noise.std() < 1.1
