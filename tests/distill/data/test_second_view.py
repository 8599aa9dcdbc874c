"""Two augmented views of a picture: the first is what there was without the second, and columns stay where they are."""

from __future__ import annotations

import dataclasses
import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.data import augmentation
from distill.data.augmentation import LightAugment, RandAugment
from distill.data.datasets import WordDataset
from distill.data.loading import Source, build_loader
from distill.data.module import DataModule
from distill.data.samples import WordOptions
from distill.data.sections import DataSection, SourceSection, SyntheticSection
from distill.data.trees import open_set
from distill.data.writing import LmdbWriter
from students.charset import Charset
from students.errors import UserError

MOVES = {"Rotate", "ShearX", "ShearY", "TranslateXRel"}


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 128, 3), np.uint8)


def test_the_first_view_is_the_only_one_of_before(picture: np.ndarray) -> None:
    strong, light, differ = RandAugment(), LightAugment(), 0
    for seed in range(20):
        alone, moved = strong(picture, random.Random(seed))
        first, second, both_moved = strong.pair(picture, random.Random(seed), random.Random(-seed - 1))
        assert np.array_equal(np.asarray(alone), np.asarray(first))
        assert moved == both_moved
        differ += not np.array_equal(np.asarray(first), np.asarray(second))
        lit = light.pair(picture, random.Random(seed), random.Random(-seed - 1))
        assert np.array_equal(lit[0], light(picture, random.Random(seed)))
        assert lit[0].shape == lit[1].shape
    assert differ > 10


def test_what_moves_columns_is_shared(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[tuple[str, tuple[object, ...]]] = []
    for name, (_, strength) in augmentation.TIMM_OPERATIONS.items():

        def record(picture: object, *drawn: object, name: str = name) -> object:
            applied.append((name, drawn))
            return picture

        monkeypatch.setitem(augmentation.TIMM_OPERATIONS, name, (record, strength))
    seen = 0
    for seed in range(200):
        applied.clear()
        RandAugment(probability=1.0).pair(picture, random.Random(seed), random.Random(-seed - 1))
        moves = [entry for entry in applied if entry[0] in MOVES]
        assert moves[::2] == moves[1::2], "each is applied to both views with the same strength"
        seen += len(moves)
    assert seen > 100


def test_a_light_move_is_shared() -> None:
    """A white bar on black stands in the same columns of both views, whatever else is changed."""
    bar = np.zeros((32, 128, 3), np.uint8)
    bar[:, 60:70] = 255
    for seed in range(30):
        views = LightAugment().pair(bar, random.Random(seed), random.Random(-seed - 1))
        centres = []
        for view in views:
            profile = view.astype(float).mean(axis=(0, 2))
            profile -= np.median(profile)
            profile[profile < profile.max() / 2] = 0
            centres.append((profile * np.arange(128)).sum() / profile.sum())
        assert abs(centres[0] - centres[1]) < 0.3


@pytest.fixture
def words(tmp_path: Path) -> Path:
    with LmdbWriter(tmp_path / "words") as writer:
        for number in range(12):
            file = io.BytesIO()
            Image.linear_gradient("L").rotate(30 * number).resize((90, 30)).convert("RGB").save(file, "PNG")
            writer.add(file.getvalue(), f"word{number}", b"w" * 32)
    return tmp_path / "words"


def dataset(folder: Path, kind: str, second: bool) -> WordDataset:
    source = SourceSection(str(folder), augmentation=kind)  # type: ignore[arg-type]
    return WordDataset(open_set(folder), Charset.load("36"), source, WordOptions(seed=3, second_view=second))


@pytest.mark.parametrize("kind", ["light", "strong"])
def test_batches_bring_it_when_it_is_asked_for(words: Path, kind: str) -> None:
    plain, twofold = (dataset(words, kind, second) for second in (False, True))
    batches = [next(iter(build_loader([Source(each)], 8, seed=1))) for each in (plain, twofold)]
    assert batches[0].second is None
    second = batches[1].second
    assert second is not None
    assert torch.equal(batches[0].images, batches[1].images)
    assert torch.equal(batches[0].columns, batches[1].columns)
    assert second.shape == batches[1].images.shape
    assert not torch.equal(second, batches[1].images)
    again = next(iter(build_loader([Source(twofold)], 8, workers=1, seed=1))).second
    assert again is not None
    assert torch.equal(again, second), "whichever process prepares it"
    assert torch.equal(batches[1].select([2, 5], ["a", "b"]).second, second[[2, 5]])  # type: ignore[arg-type]
    other = twofold.sample(0, 1).second
    assert not np.array_equal(other, twofold.sample(0, 0).second)  # type: ignore[arg-type]


def test_words_that_are_not_augmented_are_refused_or_named(words: Path) -> None:
    section = DataSection(train=[SourceSection(str(words))], synthetic=SyntheticSection(words=5))

    def module(section: DataSection) -> DataModule:
        return DataModule(section, Charset.load("36"), 25, (32, 128), 0, second_view=True)

    with pytest.raises(UserError, match=r"no source is augmented.*set data\.synthetic\.augmentation=light"):
        module(section).check()
    module(dataclasses.replace(section, synthetic=SyntheticSection(words=5, augmentation="light"))).check()
