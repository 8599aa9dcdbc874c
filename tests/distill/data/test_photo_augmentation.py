"""PhotoAugment: repeatable, varied, and no part of the word leaves the picture."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from distill.data import photo_augmentation
from distill.data.photo_augmentation import MAX_HEIGHT, MAX_WIDTH, PhotoAugment
from distill.data.samples import SampleBuilder, WordOptions
from distill.data.sections import SourceSection
from students.charset import Charset


def crop(height: int = 32, width: int = 128) -> np.ndarray:
    """Draw a word in dark on bright paper, with a margin of a fifth of the height."""
    pixels = np.full((height, width, 3), 220, np.uint8)
    cv2.putText(pixels, "HARBOUR", (8, height - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.75, (60, 40, 30), 2, cv2.LINE_AA)
    return pixels


def test_a_picture_follows_from_its_generator_and_stays_as_it_is() -> None:
    policy, pixels = PhotoAugment(), crop()
    before = pixels.copy()
    pictures = [policy(pixels, Random(seed))[0] for seed in (1, 1, 2)]
    assert np.array_equal(pictures[0], pictures[1])
    assert pictures[0].shape != pictures[2].shape or not np.array_equal(pictures[0], pictures[2])
    assert np.array_equal(pixels, before)


def test_pictures_are_varied_and_of_a_sensible_size() -> None:
    policy, pixels = PhotoAugment(), crop()
    results = [policy(pixels, Random(seed)) for seed in range(300)]
    aspects = [picture.shape[1] / picture.shape[0] for picture, _ in results]
    assert {picture.dtype for picture, _ in results} == {np.dtype(np.uint8)}
    assert all(picture.ndim == 3 and picture.shape[2] == 3 for picture, _ in results)
    assert np.percentile(aspects, 5) < 2.5 < 4 < np.percentile(aspects, 95)
    assert np.std([picture.mean() for picture, _ in results]) > 25
    assert min(picture.std() for picture, _ in results) > 4, "the word has vanished"
    assert 0.7 < np.mean([moved for _, moved in results]) < 0.9


def test_the_whole_word_stays_in_the_picture() -> None:
    pixels = np.full((32, 160, 3), 255, np.uint8)
    pixels[8:24, 8:14] = pixels[8:24, 146:152] = 0  # a bar near either end
    for seed in range(200):
        seen = photo_augmentation._seen_anew(pixels, Random(seed))
        dark = (seen[..., 1] < 128).astype(np.uint8)
        count, _, areas, _ = cv2.connectedComponentsWithStats(dark)
        bars = [area[cv2.CC_STAT_AREA] for area in areas[1:] if area[cv2.CC_STAT_AREA] > 20]
        assert len(bars) == 2, f"seed {seed}: {count - 1} parts"
        assert min(bars) > 0.35 * max(bars), "a bar was cut"  # the nearer end is larger


def test_two_views_are_seen_from_the_same_place() -> None:
    policy, pixels = PhotoAugment(), crop()
    aspects = []
    for seed in range(60):
        first, second, moved = policy.pair(pixels, Random(seed), Random(seed + 1000))
        alone, alone_moved = policy(pixels, Random(seed))
        assert np.array_equal(first, alone)
        assert moved == alone_moved
        aspects.append(first.shape[1] / first.shape[0] / (second.shape[1] / second.shape[0]))
    assert 0.85 < min(aspects) <= max(aspects) < 1.15


def test_large_pictures_and_those_of_few_pixels_are_taken() -> None:
    policy = PhotoAugment()
    for height, width in ((4, 4), (3, 40), (60, 5), (400, 3000), (30, 2500)):
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        for seed in range(20):
            picture, _ = policy(pixels, Random(seed))
            assert picture.shape[0] <= 2 * MAX_HEIGHT
            assert picture.shape[1] <= 3 * MAX_WIDTH


def test_the_loader_takes_it() -> None:
    builder = SampleBuilder(Charset.load("36"), SourceSection(augmentation="photo"), WordOptions(), "own")
    columns = np.full(32, ord("a"), np.uint32)
    samples = [builder.build(crop(), "harbour", columns, index, epoch=0) for index in range(30)]
    assert {sample.image.shape for sample in samples} == {samples[0].image.shape}
    assert 15 < sum(sample.columns is None for sample in samples) < 30, "moved characters have no columns"
