"""Cached features of labels and pictures are those that a CLIP would compute anew."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch import Tensor

from students.errors import UserError
from students.student import Student, StudentConfig
from teachers.clip import ClipTeacher
from teachers.guidance import FeatureRequest, Guidance
from teachers.reading import StudentTeacher
from teachers.small import SmallTeacher, SmallTeacherConfig

WORDS = ["cat", "a", "Cat", "parking", "12", "no", "street", "x", "exit", "seven", "bank", "fire", "zone"]


@pytest.fixture
def teacher() -> ClipTeacher:
    torch.manual_seed(3)
    sizes = {"text_width": 32, "text_layers": 5, "text_heads": 2, "joint_width": 16}
    config = SmallTeacherConfig(stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2, **sizes)  # type: ignore[arg-type]
    return ClipTeacher.from_model("small", SmallTeacher(config))


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(len(WORDS), 3, 32, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1


def tensors(guidance: Guidance) -> list[Tensor]:
    assert guidance.image is not None
    assert guidance.text is not None
    assert guidance.word is not None
    return [*guidance.image, *guidance.text, guidance.word, guidance.mask]


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    largest = expected.double().abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * max(1.0, largest))


def blocks_run(teacher: ClipTeacher) -> tuple[list[int], list[int]]:
    """Note how many rows every block of the image tower and of the text tower gets."""
    noted: tuple[list[int], list[int]] = ([], [])
    for rows, tower in zip(noted, (teacher.clip.visual.transformer, teacher.clip.transformer), strict=True):
        for block in tower.resblocks:
            block.register_forward_pre_hook(lambda _, given, rows=rows: rows.append(given[0].shape[0]))
    return noted


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_cached_features_are_those_computed_anew(
    teacher: ClipTeacher, pictures: Tensor, precision: torch.dtype | None
) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision is not None):
        plain = tensors(teacher(pictures, WORDS))
        teacher.cache_features(text_bytes=2**20, image_bytes=2**24)
        request = FeatureRequest(pictures=range(len(WORDS)))
        cold, warm = (tensors(teacher.extract(pictures, WORDS, request)) for _ in range(2))
        rows = blocks_run(teacher)
        teacher.extract(pictures, WORDS, request)
    assert rows == ([], []), "all is cached"
    assert teacher.caches["text"].take_hit_rate() == pytest.approx(100 * (len(WORDS) * 3 - 12) / (len(WORDS) * 3))
    tolerance = 1e-6 if precision is None else 2e-2
    for one, again, cached in zip(plain, cold, warm, strict=True):
        assert again.dtype == one.dtype
        close(again, one, tolerance)
        assert torch.equal(again, cached)


def test_bits_do_not_depend_on_what_came_before(teacher: ClipTeacher, pictures: Tensor) -> None:
    # What a resumed run computes anew, in other batches and another order, has the same bits.
    teacher.cache_features(text_bytes=2**20, image_bytes=2**24)
    whole = tensors(teacher.extract(pictures, WORDS, FeatureRequest(pictures=range(len(WORDS)))))
    teacher.cache_features(text_bytes=2**20, image_bytes=2**24)
    order = [8, 6, 11, 3, 0]
    for few in ([3], order, order[::-1]):
        actual = tensors(teacher.extract(pictures[few], [WORDS[i] for i in few], FeatureRequest(pictures=few)))
    for one, part in zip(whole, actual, strict=True):
        assert torch.equal(one[order[::-1]], part)


def test_padding_depends_on_the_label_alone(teacher: ClipTeacher, pictures: Tensor) -> None:
    long = "abcdefghijklmnopqrst"
    uncached = teacher(pictures[:2], ["cat", long]).text
    short = teacher(pictures[:1], ["cat"]).text
    teacher.cache_features(text_bytes=2**20, image_bytes=0)
    for labels in (["cat"], ["cat", long], ["cat", "parking"]):
        actual = teacher(pictures[: len(labels)], labels)
        length = max(map(len, labels)) + 1
        assert actual.mask.shape[1] == length
        for tap, one, alone in zip(actual.text, uncached, short, strict=True):  # type: ignore[arg-type]
            close(tap[0], one[0, :length])
            close(tap[0, :4], alone[0])


def test_cases_of_one_token_share_an_entry(teacher: ClipTeacher, pictures: Tensor) -> None:
    teacher.cache_features(text_bytes=2**20, image_bytes=0)
    teacher(pictures[:3], ["cat", "CAT", "Cat"])
    assert len(teacher.caches["text"]) == 1


def test_pictures_that_do_not_come_back_are_computed_anew(teacher: ClipTeacher, pictures: Tensor) -> None:
    plain = teacher(pictures, WORDS).image
    teacher.cache_features(text_bytes=0, image_bytes=2**24)
    which = [None if i % 3 == 0 else i for i in range(len(WORDS))]
    for _ in range(2):
        actual = teacher.extract(pictures, WORDS, FeatureRequest(pictures=which)).image
        for one, cached in zip(plain, actual, strict=True):  # type: ignore[arg-type]
            close(cached, one)
    rows = blocks_run(teacher)
    teacher.extract(pictures, WORDS, FeatureRequest(frozenset({"image"}), which))
    assert rows == ([5, 5, 5], []), "blocks behind the third tap don't run"
    assert len(teacher.caches["image"]) == 8


@pytest.mark.parametrize("text_bytes", [0, 2**20])
def test_only_what_is_requested_runs(teacher: ClipTeacher, pictures: Tensor, text_bytes: int) -> None:
    teacher.cache_features(text_bytes=text_bytes, image_bytes=0)
    rows = blocks_run(teacher)
    seen = {}
    for name in ("image", "text", "word"):
        guidance = teacher.extract(pictures, WORDS, FeatureRequest(frozenset({name})))
        parts = {"image": guidance.image, "text": guidance.text, "word": guidance.word}
        assert [part for part, value in parts.items() if value is not None] == [name]
        seen[name] = tuple(map(len, rows))
        for noted in rows:
            noted.clear()
        full = {**parts, "word": (guidance.word,)}[name]
        expected = teacher(pictures, WORDS)
        same = {"image": expected.image, "text": expected.text, "word": (expected.word,)}[name]
        for one, other in zip(full, same, strict=True):  # type: ignore[arg-type]
            close(one, other)
        for noted in rows:
            noted.clear()
    batches = 2 if text_bytes else 1  # 12 different labels, 8 at once
    assert seen == {"image": (3, 0), "text": (0, 3 * batches), "word": (0, 5 * batches)}


def test_half_precision_is_close(teacher: ClipTeacher, pictures: Tensor) -> None:
    plain = teacher(pictures, WORDS).image
    teacher.cache_features(text_bytes=0, image_bytes=2**24, half=True)
    actual = teacher.extract(pictures, WORDS, FeatureRequest(pictures=range(len(WORDS)))).image
    for one, cached in zip(plain, actual, strict=True):  # type: ignore[arg-type]
        assert cached.dtype == torch.float32
        close(cached, one, 1e-3)


def test_another_type_clears_the_caches(teacher: ClipTeacher, pictures: Tensor) -> None:
    teacher.cache_features(text_bytes=2**20, image_bytes=2**24)
    teacher.extract(pictures, WORDS, FeatureRequest(pictures=range(len(WORDS))))
    assert all(len(cache) for cache in teacher.caches.values())
    teacher.double()
    assert not any(len(cache) for cache in teacher.caches.values())
    actual = teacher.extract(pictures, WORDS, FeatureRequest(frozenset({"text", "word"})))
    assert actual.word is not None
    assert actual.word.dtype == torch.float64


def test_a_reader_caches_no_pictures(pictures: Tensor) -> None:
    sizes = {"width": 32, "depth": 3, "heads": 2, "stem": (8, 8, 16), "decoder_depth": 3, "decoder_heads": 2}
    reader = StudentTeacher("reader", Student(StudentConfig(encoder="conv", taps="even", **sizes)))  # type: ignore[arg-type]
    reader.cache_features(text_bytes=2**20, image_bytes=0)
    assert reader.caches == {}
    with pytest.raises(UserError, match="image_cache_mb=0"):
        reader.cache_features(text_bytes=0, image_bytes=1)
    guidance = reader.extract(pictures[:2], ["cat", "a"], FeatureRequest(frozenset({"text", "characters"})))
    assert guidance.image is None
    assert guidance.word is None
    assert all(isinstance(part, Tensor) for part in chain(guidance.text or [None], [guidance.characters]))
