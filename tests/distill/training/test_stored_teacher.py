"""Stored distributions teach as the teacher does that they are of, and no teacher is run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.data.batch import Batch, collate
from distill.data.datasets import WordDataset
from distill.data.distributions import BatchDistributions, StoredDistributions, WordDistributions, likeliest_classes
from distill.data.lmdb_reader import LmdbRecords
from distill.data.module import DataModule
from distill.data.sections import DataSection, SourceSection
from distill.data.writing import LmdbWriter
from distill.schema import Config
from distill.training.baseline import baseline_config
from distill.training.distillation import DistillationTask
from distill.training.sections import AuxSection, GuidanceSection
from students.charset import Charset
from students.ctc import learner
from students.errors import UserError
from students.student import Student
from teachers.reading import StudentTeacher
from tests.distill.training.conftest import draw

WORDS = ["street", "open", "7", "exit", "books"]
ALONE = {"bridge": 0.0, "linguistic": 0.0, "visual": 0.0}


@pytest.fixture
def reader(student: Student) -> StudentTeacher:
    torch.manual_seed(9)
    return StudentTeacher("reader", Student(student.config))


def batch_of(reader: StudentTeacher, likeliest: int) -> Batch:
    """Five words with what the reader thinks of each of their characters, packed and unpacked; the last has none."""
    images = torch.randn(len(WORDS), 3, 32, 128)
    given = reader(images, WORDS).characters
    assert given is not None
    packed = [
        likeliest_classes(row[: len(word) + 1].exp().double().numpy(), likeliest).pack()
        for row, word in zip(given, WORDS, strict=True)
    ]
    words = [WordDistributions.unpack(each, likeliest) for each in packed[:-1]]
    return Batch(
        images, WORDS, torch.full((len(WORDS), 32), -1), torch.arange(len(WORDS)),
        distributions=BatchDistributions.collate([*words, None]),
    )  # fmt: skip


def terms_of(student: Any, batch: Batch, teacher: Any = None, **guidance: Any) -> dict[str, torch.Tensor]:
    section = GuidanceSection(**ALONE, **guidance)
    task = DistillationTask(student, teacher, section, AuxSection(columns=0), stored=teacher is None).eval()
    terms: dict[str, torch.Tensor] = task(task.prepare(batch, 1, 0.0))
    return terms


@pytest.mark.parametrize("decoding", ["ar", "ctc"])
@pytest.mark.parametrize("loss", ["kd", "dkd"])
def test_all_classes_teach_as_the_teacher_that_is_run(
    student: Student, reader: StudentTeacher, decoding: Any, loss: str
) -> None:
    pupil = learner(student, decoding)
    batch = batch_of(reader, 37)
    run = terms_of(pupil, batch.select([0, 1, 2, 3], WORDS[:4]), reader, **{loss: 1.0})
    stored = terms_of(pupil, batch, **{loss: 1.0})
    name = loss if decoding == "ar" else f"{loss}_columns"
    assert run[name].item() > 0
    torch.testing.assert_close(stored[name], run[name], rtol=2e-3, atol=0)
    assert set(stored) == set(run)


def test_an_interval_keeps_teachers_waiting_but_not_what_is_stored(student: Student, reader: StudentTeacher) -> None:
    batch = batch_of(reader, 4)
    assert "kd" in terms_of(student, batch, kd=1.0, interval=3)
    assert "kd" not in terms_of(student, batch, reader, kd=1.0, interval=3)


def test_a_batch_without_any_gives_a_term_of_0(student: Student, reader: StudentTeacher) -> None:
    batch = dataclasses.replace(batch_of(reader, 4), distributions=None)
    assert terms_of(student, batch, kd=1.0)["kd"].item() == 0


def test_beside_a_teacher_the_terms_have_names(student: Student, reader: StudentTeacher) -> None:
    section = GuidanceSection(**ALONE, kd=1.0)
    task = DistillationTask(student, reader, section, AuxSection(columns=0), stored=True)
    assert {"reader/kd", "stored/kd"} <= set(task(task.prepare(batch_of(reader, 4), 0, 0.0)))
    assert [teacher.name for teacher in task.teachers] == ["reader"]


def test_distributions_without_a_loss_are_refused(student: Student) -> None:
    with pytest.raises(UserError, match=r"set guidance.kd or guidance.dkd above 0"):
        DistillationTask(student, None, GuidanceSection(), AuxSection(), stored=True)


def test_augmentation_leaves_them_as_they_are(tmp_path: Path) -> None:
    charset = Charset.load("36")
    rows = np.random.default_rng(0).dirichlet(np.ones(37), 5)
    with LmdbWriter(tmp_path / "set") as writer:
        writer.add(draw("open"), "Open", None, likeliest_classes(rows, 5).pack())
        writer.add(draw("exit"), "exit")
        writer.describe_distributions(StoredDistributions(charset.characters, 5, 25, ("somebody",), 1).to_json())
    source = SourceSection(path="set", labels="distributions", augmentation="strong")
    words = WordDataset(LmdbRecords(tmp_path / "set"), charset, source)
    first, second = (collate([words.sample(index, epoch) for index in (1, 0)]) for epoch in (0, 1))
    assert not torch.equal(first.images, second.images)
    assert first.distributions is not None
    assert second.distributions is not None
    assert torch.equal(first.distributions.probabilities, second.distributions.probabilities)
    assert first.distributions.known.sum(dim=1).tolist() == [0, 5]
    plain = WordDataset(LmdbRecords(tmp_path / "set"), charset)
    assert collate([plain[0]]).distributions is None, "only where they are asked for"


def test_a_baseline_and_other_trainings_have_the_labels_alone(tmp_path: Path) -> None:
    source = SourceSection(path=str(tmp_path), labels="distributions")
    config = Config(data=DataSection(train=[source]), guidance=GuidanceSection(kd=1.0))
    assert baseline_config(config, 1, 1e-3).data.train == [SourceSection(path=str(tmp_path))]
    with pytest.raises(UserError, match="labels: distributions, which only students learn from"):
        DataModule(config.data, Charset.load("36"), 25, (32, 128), 0).check()
