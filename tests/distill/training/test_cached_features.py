"""Caches of a teacher in a run: which pictures come back, what is logged, and what is left out at weight 0."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from distill.data.batch import Batch
from distill.data.datasets import load_words
from distill.data.loading import Source, build_loader
from distill.data.sections import Augmentation, SourceSection
from distill.schema import Config
from distill.training.building import build_teachers
from distill.training.distillation import DistillationTask
from distill.training.sections import AuxSection, GuidanceSection, TeacherSection
from distill.training.trainer import check_gradients
from students.charset import Charset
from students.student import Student
from teachers.clip import ClipTeacher

CHARSET = Charset.load("36")
KINDS = {"bridge": "word_embed", "linguistic": "norm_head", "visual": "norm_head_vis"}


@pytest.fixture
def batch(material: Path) -> Batch:
    loader = build_loader([Source(load_words(material / "train", CHARSET))], 6)
    first: Batch = next(iter(loader))
    return first


def test_pictures_without_augmentation_come_back(material: Path) -> None:
    plain, light = (
        load_words(material / "train", CHARSET, SourceSection(augmentation=how)) for how in ("none", "light")
    )
    mixed = next(iter(build_loader([Source(plain), Source(light)], 6)))
    assert mixed.versions == (0,) * 3 + (None,) * 3
    assert mixed.pictures == [*((index, 0) for index in mixed.indices[:3].tolist()), None, None, None]
    few = mixed.select([0, 5], mixed.labels[:2])
    assert few.pictures == [(int(mixed.indices[0]), 0), None]
    for words in (plain, light):
        same = bool((words.sample(2, 0).pixels == words.sample(2, 1).pixels).all())
        assert (words.sample(2, 0).version is not None) == same


@pytest.mark.parametrize("augmentation", ["light", "strong"])
def test_versions_of_a_picture_come_back_in_turn(material: Path, augmentation: Augmentation) -> None:
    words = load_words(material / "train", CHARSET, SourceSection(augmentation=augmentation, fixed_augmentations=3))
    seen = [[words.sample(index, epoch) for index in range(6)] for epoch in range(5)]
    assert [samples[0].version for samples in seen] == [0, 1, 2, 0, 1]
    for first, later, same in ((0, 3, True), (1, 4, True), (0, 1, False), (1, 2, False), (0, 2, False)):
        equal = all((a.pixels == b.pixels).all() for a, b in zip(seen[first], seen[later], strict=True))
        assert equal == same


def test_a_warm_step_gives_the_same_terms(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    student.eval()
    task = DistillationTask(student, teacher, GuidanceSection(), AuxSection())
    plain = task(task.prepare(batch, 0, 0.0))
    assert task.log_metrics() == {}
    teacher.cache_features(text_bytes=2**20, image_bytes=2**22)
    cold, warm = (task(task.prepare(batch, 0, 0.0)) for _ in range(2))
    assert task.log_metrics() == {"text_cache": 50.0, "image_cache": 50.0}
    assert task.log_metrics() == {}
    assert sorted(plain) == sorted(warm)
    for name, term in plain.items():
        assert torch.equal(cold[name], warm[name])
        torch.testing.assert_close(warm[name], term, rtol=1e-5, atol=1e-6)


def test_augmented_pictures_are_not_cached(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    task = DistillationTask(student, teacher, GuidanceSection(), AuxSection())
    teacher.cache_features(text_bytes=0, image_bytes=2**22)
    task.prepare(dataclasses.replace(batch, versions=(None,) * 6), 0, 0.0)
    assert len(teacher.caches["image"]) == 0
    task.prepare(batch, 0, 0.0)
    assert len(teacher.caches["image"]) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_what_weighs_nothing_is_not_extracted(student: Student, teacher: ClipTeacher, batch: Batch, kind: str) -> None:
    task = DistillationTask(student, teacher, GuidanceSection(**{kind: 0.0}), AuxSection())  # type: ignore[arg-type]
    inputs = task.prepare(batch, 0, 0.0)
    (guidance,) = inputs.guidance
    parts = {"bridge": guidance.word, "linguistic": guidance.text, "visual": guidance.image}
    assert [name for name, part in parts.items() if part is None] == [kind]
    terms = task(inputs)
    assert not any(name.startswith(kind) for name in terms)
    task.total(terms).backward()
    check_gradients(task)
    assert task.find_unused_parameters()
    idle = {name for name, weight in task.named_parameters() if weight.grad is None}
    assert any(KINDS[kind] in name for name in idle)
    assert {name for name in idle if name.startswith("heads.")} == {
        name
        for name, _ in task.named_parameters()
        if name.startswith("heads.") and name.startswith(task.unused_parameters())
    }


def test_teachers_cache_as_configured(material: Path) -> None:
    def build(**section: object) -> ClipTeacher:
        config = Config(teacher=TeacherSection(name=str(material / "teacher"), **section))  # type: ignore[arg-type]
        (teacher,) = build_teachers(config, (32, 128))
        assert isinstance(teacher, ClipTeacher)
        return teacher

    assert {name: cache.capacity for name, cache in build().caches.items()} == {"text": 256 * 2**20}
    both = build(text_cache_mb=1, image_cache_mb=2, image_cache_half=True).caches
    assert (both["text"].capacity, both["image"].capacity, both["image"].half) == (2**20, 2**21, True)
    assert build(text_cache_mb=0).caches == {}
