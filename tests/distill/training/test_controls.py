"""The controls of an experiment: a teacher that is trained other labels, and one that has learned nothing."""

from __future__ import annotations

import torch

from distill.data.batch import Batch
from distill.schema import Config
from distill.training.building import build_task, build_teachers
from distill.training.distillation import DistillationTask
from distill.training.sections import AuxSection, GuidanceSection, TeacherSection
from students.student import Student
from teachers import load_teacher
from teachers.clip import ClipTeacher

LABELS = ["cat", "a1", "parking", "x", "street", "7eleven"]
SHUFFLED = TeacherSection(control="shuffled")


def batch() -> Batch:
    pictures = torch.rand(len(LABELS), 3, 32, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(pictures, LABELS, torch.full((len(LABELS), 32), -1), torch.arange(len(LABELS)))


def test_shuffled_labels_are_those_of_the_batch(student: Student, teacher: ClipTeacher) -> None:
    task = DistillationTask(student, teacher, GuidanceSection(), AuxSection(), sections=[SHUFFLED])
    trained = DistillationTask(student, teacher, GuidanceSection(), AuxSection()).prepare(batch(), 0, 0.0).guidance[0]
    guidance = task.prepare(batch(), 0, 0.0).guidance[0]
    assert trained.word is not None
    assert guidance.word is not None
    assert trained.image is not None
    assert guidance.image is not None
    assert not torch.equal(trained.word, guidance.word)
    origin = torch.cdist(guidance.word, trained.word).argmin(dim=1)
    assert sorted(origin.tolist()) == list(range(len(LABELS)))
    torch.testing.assert_close(guidance.word, trained.word[origin])
    assert torch.equal(guidance.mask, trained.mask[origin])
    torch.testing.assert_close(guidance.image[2], trained.image[2])  # the pictures stay what they are


def test_each_step_shuffles_in_its_own_way_and_always_in_the_same(student: Student, teacher: ClipTeacher) -> None:
    task = DistillationTask(student, teacher, GuidanceSection(), AuxSection(), sections=[SHUFFLED])
    orders = [task.prepare(batch(), step, 0.0).guidance[0].mask for step in (0, 1, 2, 0)]
    assert torch.equal(orders[0], orders[3])
    assert not all(torch.equal(orders[0], other) for other in orders[1:3])


def test_an_untrained_teacher_has_fresh_weights_of_the_same_shapes() -> None:
    config = Config(teacher=TeacherSection(name="words-small", control="untrained"), seed=4)
    fresh, again = (build_teachers(config, (32, 128))[0] for _ in range(2))
    trained = load_teacher("words-small")
    known = trained.state_dict()
    for name, weight in fresh.state_dict().items():
        assert weight.shape == known[name].shape
        assert torch.equal(weight, again.state_dict()[name]), name
        assert bool(weight.isfinite().all())
    matrices = [name for name, weight in fresh.named_parameters() if weight.dim() > 1]
    assert not any(torch.equal(fresh.state_dict()[name], known[name]) for name in matrices)
    assert not any(weight.requires_grad for weight in fresh.parameters())
    pictures = batch().images
    guidance = fresh(pictures, LABELS).image
    assert guidance is not None
    assert bool(guidance[2].isfinite().all())


def test_an_untrained_reader_reads_nothing() -> None:
    config = Config(teacher=TeacherSection(name="tiny", control="untrained"), seed=4)
    task = build_task(config)
    guidance = task.prepare(batch(), 0, 0.0).guidance[0]
    assert guidance.characters is not None
    assert float(guidance.characters.exp().amax(dim=-1)[guidance.mask].mean()) < 0.2  # sure of nothing
